import subprocess
import sys

import pytest
import torch

from raycnn import models
from raycnn.errors import SpecError
from raycnn.models.classifier import Classifier

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def classifier(name: str, classes: int = 10, rotation: bool = False, image_px: int = 32) -> Classifier:
    return Classifier(models.build(name, image_px), classes, MEAN, STD, rotation)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# He et al. 2016 give 0.27 M for ResNet-20; 269,722 is that network with batch norm and a head of 10, as counted by the
# reimplementations that report exact figures. 11,173,962 is the usual CIFAR ResNet-18 (11.17 M).
@pytest.mark.parametrize(("name", "published"), [("resnet20", 269_722), ("resnet18", 11_173_962)])
def test_parameter_counts_are_the_published_ones(name: str, published: int):
    assert parameters(classifier(name)) == published


def test_fastnet_has_about_300_000_parameters():
    assert 250_000 < parameters(classifier("fastnet")) < 350_000


def test_resnet18_computes_what_torchvisions_does_with_the_same_weights():
    from torchvision.models.resnet import ResNet, resnet18

    theirs: ResNet = resnet18(num_classes=10)
    theirs.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = torch.nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    ours = models.build("resnet18", 32)
    assert isinstance(ours, torch.nn.Module)
    body = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    # Both list stem, blocks and shortcuts in the order of the paper, so position names them.
    ours.load_state_dict(dict(zip(ours.state_dict(), body.values(), strict=True)))
    theirs.fc = torch.nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(ours.eval().features(images), theirs.eval()(images), atol=1e-4)


def test_the_shortcut_of_resnet20_is_every_other_pixel_between_channels_of_zeros():
    from raycnn.models.resnet import BasicBlock

    block = BasicBlock(2, 4, stride=2, projection=False).eval()
    torch.nn.init.zeros_(block.norm2.weight)
    image = torch.arange(1.0, 33.0).view(1, 2, 4, 4)
    out = block(image)[0]
    assert out.shape == (4, 2, 2)
    assert out[0].eq(0).all()
    assert out[3].eq(0).all()
    assert out[1].tolist() == [[1, 3], [9, 11]]
    assert out[2].tolist() == [[17, 19], [25, 27]]


@pytest.mark.parametrize("name", models.NAMES)
@pytest.mark.parametrize("image_px", [32, 64])
def test_features_have_the_width_that_is_promised(name: str, image_px: int):
    network = models.build(name, image_px)
    assert network.features(torch.zeros(2, 3, image_px, image_px)).shape == (2, network.width)


@pytest.mark.parametrize("name", models.NAMES)
def test_uint8_images_and_the_same_in_unit_range_give_the_same_logits(name: str):
    model = classifier(name, classes=7).eval()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(images)
        assert torch.allclose(model(images.float() / 255), logits, atol=1e-4)
    assert logits.shape == (3, 7)
    assert logits.dtype == torch.float32


def test_normalisation_subtracts_the_mean_and_divides_by_the_spread():
    images = torch.randint(0, 256, (5, 3, 8, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = (images / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert torch.allclose(classifier("fastnet").normalise(images), expected, atol=1e-5)


def test_gradients_reach_the_images():
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    classifier("fastnet").eval()(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_a_network_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(SpecError, match=r"'resnet19' is not known. Choose one of fastnet, resnet20, resnet18"):
        models.build("resnet19", 32)


def test_images_too_small_for_fastnet_are_refused():
    with pytest.raises(SpecError, match=r"at least 8 px, got 4. Set data.image_px"):
        models.build("fastnet", 4)


def test_the_names_are_known_without_torch():
    code = "import sys; from raycnn.models import NAMES; assert 'torch' not in sys.modules; assert 'fastnet' in NAMES"
    subprocess.run([sys.executable, "-c", code], check=True)

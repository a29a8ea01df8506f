import subprocess
import sys
from pathlib import Path

import pytest
import torch

from raycnn import models
from raycnn.errors import SpecError
from raycnn.models import trust
from raycnn.models.classifier import Classifier

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def classifier(name: str, classes: int = 10, rotation: bool = False, image_px: int = 32) -> Classifier:
    return Classifier(models.build(name, image_px), classes, MEAN, STD, rotation)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# In millions, as the papers print them: He et al. 2016 (arXiv:1512.03385), table 6; Zagoruyko & Komodakis 2016
# (arXiv:1605.07146), tables 4 and 5; Jordan 2024 (arXiv:2404.00498). The ResNet-18s: as in the usual CIFAR versions.
PUBLISHED_M = {
    "airbench94": "1.97",
    "resnet20": "0.27",
    "resnet32": "0.46",
    "resnet56": "0.85",
    "resnet18": "11.17",
    "preact18": "11.17",
    "wrn-16-8": "11.0",
    "wrn-40-2": "2.2",
    "wrn-28-10": "36.5",
}


@pytest.mark.parametrize("name", PUBLISHED_M)
def test_parameter_counts_are_the_published_ones(name: str):
    decimals = len(PUBLISHED_M[name].partition(".")[2])
    assert f"{parameters(classifier(name)) / 1e6:.{decimals}f}" == PUBLISHED_M[name]


def test_every_network_stands_in_the_table_of_the_docs_with_its_size_and_cost():
    from torch.utils.flop_counter import FlopCounterMode

    table = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    for name in models.NAMES:
        px = 224 if name == "resnet50" else 32
        model = classifier(name, image_px=px).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, px, px))
        multiply_adds = counter.get_total_flops() / 2
        assert f"| `{name}` | {parameters(model) / 1e6:.2f} | {multiply_adds / 1e6:,.1f} |" in table


def test_a_preactivation_block_computes_the_papers_formula():
    from raycnn.models.preact import PreActBlock

    block = PreActBlock(2, 3, stride=2).eval()
    x = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    unit = (1 + block.norm1.eps) ** -0.5  # of a batch norm that has seen nothing
    active = (x * unit).clamp(min=0)
    inner = (torch.nn.functional.conv2d(active, block.conv1.weight, stride=2, padding=1) * unit).clamp(min=0)
    assert block.shortcut is not None
    expected = torch.nn.functional.conv2d(inner, block.conv2.weight, padding=1)
    expected += torch.nn.functional.conv2d(active, block.shortcut.weight, stride=2)
    assert torch.allclose(block(x), expected, atol=1e-6)


def test_fastnet_has_about_300_000_parameters():
    assert 250_000 < parameters(classifier("fastnet")) < 350_000


def test_resnet50_computes_what_torchvisions_does_with_the_same_weights():
    from torchvision.models.resnet import resnet50

    theirs = resnet50(num_classes=1000)
    ours = models.build("resnet50", 64)
    assert isinstance(ours, torch.nn.Module)
    assert f"{parameters(Classifier(ours, 1000, MEAN, STD, rotation=False)) / 1e6:.2f}" == "25.56"  # as published
    body = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    ours.load_state_dict(dict(zip(ours.state_dict(), body.values(), strict=True)))
    theirs.fc = torch.nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert _same_but_for_rounding(ours.eval().features(images), theirs.eval()(images))


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
        assert _same_but_for_rounding(ours.eval().features(images), theirs.eval()(images))


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
    if name == "resnet50" and image_px < 64:
        with pytest.raises(SpecError, match=r"resnet50 needs images of at least 64 px, got 32"):
            models.build(name, image_px)
        return
    network = models.build(name, image_px)
    assert network.features(torch.zeros(2, 3, image_px, image_px)).shape == (2, network.width)


@pytest.mark.parametrize("name", models.NAMES)
def test_uint8_images_and_the_same_in_unit_range_give_the_same_logits(name: str):
    px = 64 if name == "resnet50" else 32
    model = classifier(name, classes=7, image_px=px).eval()
    images = torch.randint(0, 256, (3, 3, px, px), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(images)
        assert _same_but_for_rounding(model(images.float() / 255), logits)
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
    with pytest.raises(SpecError, match=r"'resnet19' is not known. Choose one of fastnet, airbench94, resnet20"):
        models.build("resnet19", 32)


def test_images_too_small_for_fastnet_are_refused():
    with pytest.raises(SpecError, match=r"at least 8 px, got 4. Set data.image_px"):
        models.build("fastnet", 4)


def test_the_names_are_known_without_torch():
    code = "import sys; from raycnn.models import NAMES; assert 'torch' not in sys.modules; assert 'fastnet' in NAMES"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_airbench_begins_with_filters_that_whiten_patches_of_the_training_images():
    from raycnn.models.airbench import Airbench

    random = torch.Generator().manual_seed(0)
    network = Airbench(32)
    images = torch.nn.functional.avg_pool2d(torch.randn(200, 3, 40, 40, generator=random), 9, stride=1, padding=4)
    images = images[:, :, 4:36, 4:36] * 9 + torch.tensor([0.5, 0.0, -0.5])[:, None, None]
    network.begin_with(images)
    answers = network.whiten(images)
    assert torch.equal(answers[:, :12], -answers[:, 12:])
    flat = answers[:, :12].transpose(0, 1).flatten(1)
    moments = flat @ flat.T / flat.shape[1]
    assert (moments - torch.diag(moments.diagonal())).abs().max() < 1e-2  # uncorrelated
    assert moments.diagonal().max() <= 1 + 1e-3
    assert moments[0, 0] > 0.9  # the strongest component: of unit size, the weak ones are damped


def test_airbench_passes_its_input_on_in_the_first_filters_of_a_convolution():
    from raycnn.models.airbench import Block

    block = Block(3, 5)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(block.conv1(x)[:, :3], x, atol=1e-6)
    assert all(
        parameter.requires_grad == ("weight" not in name or "conv" in name)
        for name, parameter in block.named_parameters()
    )


def test_dropped_branches_leave_the_shortcut_and_keep_the_mean():
    from raycnn.models.resnet import drop_branch, drop_rates

    assert drop_rates(0.5, 4) == [0.125, 0.25, 0.375, 0.5]
    torch.manual_seed(0)
    branch = torch.ones(20_000, 1, 1, 1)
    dropped = drop_branch(branch, 0.25, training=True)
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0.0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)
    assert drop_branch(branch, 0.25, training=False) is branch
    block = models.build("resnet20", 32, stochastic_depth=0.999999)
    assert isinstance(block, torch.nn.Module)
    last = block.get_submodule("blocks")[-1]  # pyright: ignore[reportIndexIssue]
    x = torch.rand(4, 64, 8, 8)
    assert torch.equal(last(x), x)


OWN = """
import torch

class Tiny(torch.nn.Module):
    width = 12
    def features(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

class Narrow(Tiny):
    width = 7

def tiny(image_px): return Tiny()
def narrow(image_px): return Narrow()
def text(image_px): return "a network"
"""


def test_a_users_own_network_is_built_by_its_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(trust, "_trusted", trust.Trusted(frozenset({trust.ANY})))
    assert classifier("own_networks:tiny")(torch.zeros(3, 3, 32, 32)).shape == (3, 10)
    for name, reason in {
        "own_networks:narrow": r"features \(2, 12\), and its width says \(2, 7\)",
        "own_networks:text": "gave a str. It must give a Module with width and features",
        "own_networks:none": "cannot be imported",
        "not_there:tiny": "cannot be imported",
    }.items():
        with pytest.raises(SpecError, match=f"model: {name} .*{reason}"):
            models.build(name, 32)


def _same_but_for_rounding(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Untrained, a ResNet-56 gives logits in the ten thousands: rounding is measured against the largest of them."""
    return bool((a - b).abs().max() <= 1e-5 * max(1.0, b.abs().max().item()))

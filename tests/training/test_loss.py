import pytest
import torch
import torch.nn.functional as F

from raycnn import models
from raycnn.models.classifier import Classifier
from raycnn.spec.trial import Mixup, Regularizers, Rotation
from raycnn.training.batches import Batch
from raycnn.training.loss import StepLogits, training_loss


def classifier(rotation: bool) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Classifier(models.build("fastnet", 8), 5, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), rotation).eval()


def random_images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


LABELS, PARTNERS = torch.tensor([0, 1, 2, 3]), torch.tensor([3, 0, 1, 2])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_mixed_labels_is_cross_entropy_with_the_soft_target(smoothing: float):
    model, lam = classifier(rotation=False), torch.tensor(0.3)
    images = random_images(4)
    regularizers = Regularizers(mixup=Mixup(alpha=1.0), label_smoothing=smoothing)
    loss = training_loss(StepLogits(model), Batch(images, LABELS, PARTNERS, lam), regularizers)
    target = 0.3 * F.one_hot(LABELS, 5) + 0.7 * F.one_hot(PARTNERS, 5)
    target = (1 - smoothing) * target + smoothing / 5
    logits = model.head(model.features(images))
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    assert torch.isclose(loss, expected, atol=1e-5)


def test_the_rotation_loss_is_the_weighted_mean_over_all_views():
    model = classifier(rotation=True)
    assert model.rotation_head is not None
    images, rotated = random_images(4), random_images(12, seed=1)
    turns = torch.arange(4).repeat_interleave(4)
    regularizers = Regularizers(rotation=Rotation(weight=0.7))
    loss = training_loss(StepLogits(model), Batch(images, LABELS, rotated=rotated, turns=turns), regularizers)
    main = F.cross_entropy(model.head(model.features(images)), LABELS)
    views = torch.cat((images, rotated))
    rotation = F.cross_entropy(model.rotation_head(model.features(views)), turns)
    assert torch.isclose(loss, main + 0.7 * rotation, atol=1e-5)


def test_rotated_views_apart_from_the_main_batch_are_the_only_ones_that_the_rotation_head_sees():
    model = classifier(rotation=True)
    assert model.rotation_head is not None
    images, rotated, turns = random_images(4), random_images(4, seed=1), torch.tensor([3, 1, 0, 2])
    logits, rotation_logits = StepLogits(model)(images, rotated, len(turns))
    assert torch.allclose(logits, model.head(model.features(images)), atol=1e-5)
    assert torch.allclose(rotation_logits, model.rotation_head(model.features(rotated)), atol=1e-5)


def test_without_regularizers_the_loss_is_cross_entropy():
    model, images = classifier(rotation=False), random_images(4)
    loss = training_loss(StepLogits(model), Batch(images, LABELS), Regularizers())
    assert torch.isclose(loss, F.cross_entropy(model.head(model.features(images)), LABELS))

"""What a step minimises: cross-entropy of the main head, plus the rotation head's, weighted."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycnn.models.classifier import Classifier
from raycnn.regularizers.augmix import divergence
from raycnn.spec.trial import Regularizers
from raycnn.training.batches import Batch


class StepLogits(nn.Module):
    """One forward pass for all that a step needs: the module that is compiled and made parallel."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor, rotated: Tensor | None, turned: int) -> tuple[Tensor, Tensor | None]:
        """Logits (m, classes) of `images` (m, 3, side, side), normalised; rotation logits (turned, 4), or None, of the
        last `turned` of `images` followed by `rotated`. Both float32. Batch norm sees all of them as one batch."""
        count = len(images)
        if rotated is not None:
            images = torch.cat((images, rotated))
        features = self.classifier.features(images)
        logits = self.classifier.head(features[:count]).float()
        if self.classifier.rotation_head is None:
            return logits, None
        return logits, self.classifier.rotation_head(features[-turned:]).float()


def training_loss(model: nn.Module, batch: Batch, regularizers: Regularizers) -> Tensor:
    """Mean loss over this rank's share of a batch, ().

    CE(main head, mixed labels, smoothed) + weight * CE(rotation head) + weight * JSD(views of AugMix), where the second
    is the mean over all rotated views of all images. `model` is a StepLogits, possibly compiled or parallel.
    """
    turned = 0 if batch.turns is None else len(batch.turns)
    logits, rotation_logits = model(batch.images, batch.rotated, turned)
    views = logits.unflatten(0, (batch.views, -1))
    loss = _classification_loss(views[0], batch, regularizers.label_smoothing)
    if regularizers.augmix is not None and batch.views > 1:
        loss = loss + regularizers.augmix.jsd_weight * divergence(views)
    if rotation_logits is not None and batch.turns is not None and regularizers.rotation is not None:
        loss = loss + regularizers.rotation.weight * F.cross_entropy(rotation_logits, batch.turns)
    return loss


def _classification_loss(logits: Tensor, batch: Batch, smoothing: float) -> Tensor:
    """Cross-entropy is linear in the target, so mixed labels are mixed losses (mixup's paper, section 2).

    Label smoothing: Szegedy et al. 2016, arXiv:1512.00567, section 7.
    """
    loss = F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)
    if batch.partners is None or batch.lam is None:
        return loss
    return torch.lerp(F.cross_entropy(logits, batch.partners, label_smoothing=smoothing), loss, batch.lam)

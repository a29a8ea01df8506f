"""How large a training's checkpoint will be, before there is one."""

from raycnn import models
from raycnn.models.classifier import Classifier
from raycnn.spec.trial import Optimizer, TrialSpec


def checkpoint_bytes(spec: TrialSpec, classes: int, image_px: int) -> int:
    """Tensors of the network, its average and the optimizer's state; all else in a checkpoint is some kB.

    Builds the network. Raises SpecError where it cannot be had.
    """
    r = spec.regularizers
    network = models.build(spec.model, image_px, r.dropout, r.stochastic_depth)
    grey = (0.5, 0.5, 0.5)
    classifier = Classifier(network, classes, grey, grey, r.rotation is not None)
    own = sum(values.nbytes for values in classifier.state_dict().values())
    trained = [p for p in classifier.parameters() if p.requires_grad]
    filters = sum(p.nbytes for p in trained if p.ndim == 4)
    everything = sum(p.nbytes for p in trained)
    return own * (2 if r.ema_decay else 1) + _state_bytes(spec.optimizer, filters, everything)


def _state_bytes(optimizer: Optimizer, filters: int, everything: int) -> int:
    """Of SGD a momentum for each parameter, of AdamW two; Muon has one for filters, AdamW's for all else."""
    if optimizer.sgd is not None:
        return everything if optimizer.sgd.momentum else 0
    return 2 * everything - (filters if optimizer.muon is not None else 0)

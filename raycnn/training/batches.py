"""Batches of augmented images: the one place that says in which order the regularizers are applied, and to what.

    gather -> crop -> flip -> TrivialAugment -> AugMix -> normalise -> cutout -> rotated views
                                                                            `---> mixup or CutMix

So the squares of cutout have the mean colour (black ones are cut out just before normalising), and mixup mixes images
that were cut out already. AugMix with its divergence keeps the image and adds two views, which are cut out and mixed in
the same places and with the same partner; without, one view takes the image's place. The rotation head sees
unmixed images, turned after everything else. Image i is mixed with image i - 1 of the global batch (the first with the
last): the order of an epoch is random, so this is a random pairing. CutMix takes the share `probability` of the
batches, and mixup, where it is on, all others; no batch is mixed by both.

All of an epoch's random choices are drawn at its start, on the CPU, for all ranks: the batches are the same on any
device and for any number of ranks. A rank then prepares its own share of each batch, and no device waits for the host.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from raycnn.regularizers import augmix, crop_flip, cutmix, cutout, mixup, rotation, trivialaugment
from raycnn.regularizers.operations import operate
from raycnn.spec.trial import Augmix, Regularizers


@dataclass(frozen=True, slots=True)
class Images:
    """Images (n, 3, height, width) uint8, channels_last, and labels (n,) int64, both on the training's device.

    rows: (n,) int64 on the host. If given, image i is row rows[i] of `images`, which stays on the host: memory-mapped
    data that are too large for the device, streamed to it batch by batch.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """The training's."""
        return self.labels.device

    def take(self, chosen: Tensor) -> Tensor:
        """Copies of the images `chosen` (m,), int64 where `images` are, on the training's device."""
        if self.rows is None:
            return _gather(self.images, chosen)
        stored, rows = self.images.permute(0, 2, 3, 1), self.rows[chosen]
        pinned = self.device.type == "cuda"  # then the copy runs beside the device's computing
        found = torch.empty((len(rows), *stored.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
        torch.index_select(stored, 0, rows, out=found)
        return found.to(self.device, non_blocking=True).permute(0, 3, 1, 2)

    def part(self, first: int, last: int) -> Tensor:
        """Images first to last - 1, on the training's device; perhaps not a copy."""
        return self.images[first:last] if self.rows is None else self.take(torch.arange(first, last))

    def split(self, count: int) -> tuple["Images", "Images"]:
        """The first `count` and the rest, in the same memory."""
        of_first, of_rest = self.labels[:count], self.labels[count:]
        if self.rows is not None:
            return Images(self.images, of_first, self.rows[:count]), Images(self.images, of_rest, self.rows[count:])
        return Images(self.images[:count], of_first), Images(self.images[count:], of_rest)

    def followed_by(self, other: "Images") -> "Images":
        """Those of both. They are copied only where `other` does not lie behind these in the same memory."""
        labels = torch.cat([self.labels, other.labels])
        ours, theirs = self.images, other.images
        if self.rows is not None and other.rows is not None:  # of the same images
            return Images(ours, labels, torch.cat([self.rows, other.rows]))
        one_memory = theirs.untyped_storage().data_ptr() == ours.untyped_storage().data_ptr()
        if one_memory and theirs.data_ptr() == ours.data_ptr() + ours.nbytes and theirs.stride() == ours.stride():
            whole = ours.as_strided((len(labels), *ours.shape[1:]), ours.stride())
        else:
            whole = torch.cat([ours, theirs]).contiguous(memory_format=torch.channels_last)
        return Images(whole, labels)


@dataclass(frozen=True, slots=True)
class Group:
    """This process's place among those that train together; where size > 1, in torch.distributed's default group."""

    rank: int = 0
    size: int = 1


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's share of a step.

    images: (views * m, 3, height, width) normalised, augmented, view by view; labels: (m,).
    partners, lam: labels (m,) of the images that were mixed in, and the () weight of `labels`; None where neither mixup
    nor CutMix is on.
    rotated: turned images, except those of zero turns where `images` has them unmixed; None without rotation.
    turns: (m * views,) quarter turns of the last m * views of `images` followed by `rotated`; None without rotation.
    """

    images: Tensor
    labels: Tensor
    partners: Tensor | None = None
    lam: Tensor | None = None
    rotated: Tensor | None = None
    turns: Tensor | None = None
    views: int = 1


@dataclass(frozen=True, slots=True)
class Choices:
    """Random choices of an epoch, (steps, batch, …) each, None where the regularizer is off."""

    order: Tensor
    corners: Tensor | None
    flips: Tensor | None
    centres: Tensor | None
    turns: Tensor | None
    lambdas: Tensor | None
    boxes: Tensor | None
    operations: Tensor | None  # of TrivialAugment
    amounts: Tensor | None
    chains: Tensor | None  # operations of AugMix
    chain_amounts: Tensor | None
    shares: Tensor | None

    def at(self, step: Tensor | int) -> "Choices":
        """Those of one step, without the first dimension. A step (1,) on the device need not be known to the host."""
        if isinstance(step, int):
            return self.each(lambda _, values: values[step])
        return self.each(lambda _, values: values.index_select(0, step)[0])

    def each(self, change: Callable[[str, Tensor], Tensor]) -> "Choices":
        """With change(name, values) in the place of the values that there are."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(name, values) for name, values in given.items() if values is not None})


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The source of all random choices of `epoch`, from 1; of what all epochs share, 0. Derived, so that no generator's
    state must be saved."""
    return torch.Generator().manual_seed(_derived(seed, epoch))


def noise_seed(seed: int, epoch: int, rank: int) -> int:
    """Of torch's random state, from which networks draw while an epoch is trained: each rank its own."""
    return _derived(seed, epoch, 1 + rank)  # NumPy takes (seed, epoch, 0) for (seed, epoch)


def _derived(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


def draw(count: int, image_px: int, batch_size: int, regularizers: Regularizers, seed: int, epoch: int) -> Choices:
    """An epoch over `count` images: a new order, of which the last, incomplete batch is dropped."""
    generator = epoch_generator(seed, epoch)
    steps = count // batch_size
    n, r = steps * batch_size, regularizers
    shape = (steps, batch_size)
    order = torch.randperm(count, generator=generator)[:n].view(shape)
    corners = crop_flip.draw_crops(n, r.crop_px, generator).view(*shape, 2) if r.crop_px else None
    flips = crop_flip.draw_flips(n, generator).view(shape) if r.flip else None
    if r.flip and r.alternating_flip:
        mirrored_at_first = crop_flip.draw_flips(count, epoch_generator(seed, 0))
        flips = mirrored_at_first[order] ^ (epoch % 2 == 0)
    centres = turns = lambdas = boxes = operations = amounts = chains = chain_amounts = shares = None
    if r.trivialaugment:
        pair = trivialaugment.draw(n, r.trivialaugment.strength, image_px, generator)
        operations, amounts = (part.view(shape) for part in pair)
    if r.augmix:
        parts = augmix.draw(n, augmix_views(r.augmix), r.augmix.severity, image_px, generator)
        chains, chain_amounts, shares = (part.unflatten(0, shape) for part in parts)
    if r.cutout:
        holes = r.cutout.holes
        centres = cutout.draw_centres(n, holes, image_px, image_px, generator).view(*shape, holes, 2)
    if r.rotation:
        turns = rotation.draw_turns(n, r.rotation.views, generator).view(*shape, r.rotation.views)
    if r.mixup:
        lambdas = mixup.draw_lambdas(steps, r.mixup.alpha, generator)
    if r.cutmix:
        chosen = torch.rand(steps, generator=generator) < r.cutmix.probability
        boxes = cutmix.draw_boxes(steps, r.cutmix.alpha, image_px, image_px, generator) * chosen[:, None]
        lambdas = None if lambdas is None else lambdas.masked_fill(chosen, 1.0)
    return Choices(
        order, corners, flips, centres, turns, lambdas, boxes, operations, amounts, chains, chain_amounts, shares
    )


def augmix_views(spec: Augmix) -> int:
    """Views beside the image, or in its place."""
    return 2 if spec.jsd_weight else 1


def epoch_choices(
    data: Images, batch_size: int, regularizers: Regularizers, seed: int, epoch: int, group: Group
) -> Choices:
    """The random choices of epoch `epoch`, from 1, this rank's share of each batch, on the training's device; the order
    where the images are."""
    choices = draw(len(data.labels), data.images.shape[-1], batch_size, regularizers, seed, epoch)
    return _share(choices, group, batch_size, data)


def batch_at(
    data: Images,
    choices: Choices,
    step: Tensor | int,
    regularizers: Regularizers,
    normalise: Callable[[Tensor], Tensor],
) -> Batch:
    """This rank's share of the batch of `step`, see Choices.at."""
    return _prepare(data, choices.at(step), regularizers, normalise)


def share_of(batch_size: int, group: Group) -> range:
    """The places in a global batch that are this rank's: one range per rank, lengths differ by one at most."""
    return range(group.rank * batch_size // group.size, (group.rank + 1) * batch_size // group.size)


def _share(choices: Choices, group: Group, batch_size: int, data: Images) -> Choices:
    """This rank's choices, on its device; for mixing those of one image more come first, the first image's partner."""
    places = share_of(batch_size, group)
    extra = [] if choices.lambdas is None and choices.boxes is None else [(places.start - 1) % batch_size]
    chosen = torch.tensor([*extra, *places])

    def mine(name: str, values: Tensor) -> Tensor:
        of_all_images = name in ("lambdas", "boxes")
        device = data.images.device if name == "order" else data.device
        return (values if of_all_images else values[:, chosen]).to(device, non_blocking=True)

    return choices.each(mine)


def _prepare(data: Images, chosen: Choices, regularizers: Regularizers, normalise: Callable[[Tensor], Tensor]) -> Batch:
    """chosen: one step's."""
    images, labels = data.take(chosen.order), data.labels[chosen.order.to(data.device, non_blocking=True)]
    if chosen.corners is not None:
        images = crop_flip.crop(images, chosen.corners, regularizers.crop_px, regularizers.crop_padding)
    if chosen.flips is not None:
        images = crop_flip.flip(images, chosen.flips)
    if chosen.operations is not None and chosen.amounts is not None:
        images = operate(images, chosen.operations, chosen.amounts)
    count, views = len(images), 1
    if regularizers.augmix:
        images, views = _augmixed(images, chosen, regularizers.augmix)
    squares = regularizers.cutout
    centres = None if chosen.centres is None else chosen.centres.repeat(views, 1, 1)
    if squares and centres is not None and squares.fill == "black":
        images = cutout.cutout(images, centres, squares.size_px)
    images = normalise(images)
    if squares and centres is not None and squares.fill == "mean":
        images = cutout.cutout(images, centres, squares.size_px)
    partners = lam = rotated = turns = None
    mixed = images
    if chosen.lambdas is not None or chosen.boxes is not None:
        partners, labels = labels[:-1], labels[1:]
        own, others = (images.view(views, count, *images.shape[1:])[:, part] for part in (slice(1, None), slice(-1)))
        mixed, lam = _mixed(own.flatten(0, 1), others.flatten(0, 1), chosen)
        images = images[1:]
    if chosen.turns is not None:
        turned = chosen.turns[-len(labels) :].T
        upright_is_there = len(turned) == 4 and mixed is images and views == 1
        upright = images[: len(labels)]
        turns, rotated = turned.flatten(), rotation.rotate(upright, turned[1:] if upright_is_there else turned)
    return Batch(mixed, labels, partners, lam, rotated, turns, views)


def _augmixed(images: Tensor, chosen: Choices, spec: Augmix) -> tuple[Tensor, int]:
    """The images, as fractions of 1, with their views, and how many that makes of each."""
    assert chosen.chains is not None
    assert chosen.chain_amounts is not None
    assert chosen.shares is not None
    views = augmix.augmix(images, chosen.chains, chosen.chain_amounts, chosen.shares) / 255
    if not spec.jsd_weight:
        return views, 1
    return torch.cat((images / 255, views)), 3


def _mixed(images: Tensor, partners: Tensor, chosen: Choices) -> tuple[Tensor, Tensor]:
    """The step's mixed images, and the () weight of their own labels. An empty box and a lambda of 1 change nothing."""
    lam = torch.ones((), device=images.device)
    if chosen.lambdas is not None:
        lam = chosen.lambdas
        images = mixup.mixup(images, partners, lam)
    if chosen.boxes is not None:
        images = cutmix.cutmix(images, partners, chosen.boxes)
        lam = lam * cutmix.remaining(chosen.boxes, *images.shape[2:])
    return images, lam


def _gather(images: Tensor, chosen: Tensor) -> Tensor:
    """images[chosen], as a copy of whole rows of memory: twice as fast as indexing."""
    stored = images.permute(0, 2, 3, 1)
    return stored.flatten(1).index_select(0, chosen).view(-1, *stored.shape[1:]).permute(0, 3, 1, 2)

"""Batches are held to a plain loop over images, and to each other over numbers of ranks."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raycnn.regularizers import augmix
from raycnn.regularizers.operations import operate
from raycnn.spec.trial import Augmix, Cutmix, Cutout, Mixup, Regularizers, Rotation, Trivialaugment
from raycnn.training.batches import (
    Batch,
    Group,
    Images,
    batch_at,
    draw,
    epoch_choices,
    epoch_generator,
    noise_seed,
    share_of,
)

PLAIN = Regularizers(crop_px=0, flip=False)
EVERYTHING = Regularizers(
    cutout=Cutout(size_px=3, holes=2),
    mixup=Mixup(alpha=1.0),
    cutmix=Cutmix(),
    rotation=Rotation(weight=0.5, views=2),
    crop_px=2,
)


OFF = {"mixup": None, "cutmix": None}


def numbered(count: int) -> Images:
    """Image i is full of the value i + 1, its label is i."""
    values = torch.arange(1, count + 1, dtype=torch.uint8).view(count, 1, 1, 1)
    return Images(values.expand(count, 6, 6, 3).contiguous().permute(0, 3, 1, 2), torch.arange(count))


def noise(count: int) -> Images:
    images = torch.randint(0, 256, (count, 6, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Images(images.permute(0, 3, 1, 2), torch.arange(count))


def unchanged(images: Tensor) -> Tensor:
    return images.float()


def epoch(
    data: Images,
    regularizers: Regularizers,
    *,
    batch_size: int = 8,
    group: Group = Group(),  # noqa: B008
    normalise: Callable[[Tensor], Tensor] = unchanged,
    seed: int = 0,
    number: int = 1,
) -> list[Batch]:
    choices = epoch_choices(data, batch_size, regularizers, seed, number, group)
    steps = torch.arange(len(choices.order)).split(1)
    return [batch_at(data, choices, step, regularizers, normalise) for step in steps]


def test_an_epoch_holds_every_image_once_with_its_own_label():
    seen = epoch(numbered(40), PLAIN)
    assert len(seen) == 5
    assert sorted(torch.cat([batch.labels for batch in seen]).tolist()) == list(range(40))
    assert all(torch.equal(batch.images[:, 0, 0, 0].long() - 1, batch.labels) for batch in seen)


def test_the_last_incomplete_batch_is_dropped():
    assert len(epoch(numbered(39), PLAIN)) == 4


def test_epochs_and_seeds_differ_and_repeat():
    def order(seed: int, number: int) -> list[int]:
        return draw(40, 6, 8, PLAIN, seed, number).order.flatten().tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, number)) for seed in (0, 1, 2**62) for number in (0, 1, 2)}) == 9


def test_a_border_of_the_crop_is_black_and_a_square_of_cutout_is_the_mean_colour():
    regularizers = Regularizers(cutout=Cutout(size_px=2), crop_px=3, flip=False)
    seen = epoch(numbered(40), regularizers, normalise=lambda images: images.float() - 100)
    values = torch.cat([batch.images[:, 0] - batch.labels[:, None, None] for batch in seen])
    assert set((values + 99).flatten().tolist()) >= {0.0}  # an image's own pixels
    labels = torch.cat([batch.labels for batch in seen])
    pixels = torch.cat([batch.images[:, 0] for batch in seen])
    own = pixels == labels[:, None, None] - 99.0
    assert (own | (pixels == -100) | (pixels == 0)).all()
    assert (pixels == -100).any()
    assert (pixels == 0).flatten(1).sum(1).max() <= 4


def test_mixup_mixes_each_image_with_the_one_before_it_in_the_global_batch():
    seen = epoch(numbered(40), Regularizers(mixup=Mixup(alpha=1.0), crop_px=0, flip=False))
    for batch in seen:
        assert batch.partners is not None
        assert batch.lam is not None
        assert torch.equal(batch.partners, batch.labels.roll(1))
        value = batch.lam * (batch.labels + 1) + (1 - batch.lam) * (batch.partners + 1)
        assert torch.allclose(batch.images, value[:, None, None, None].expand_as(batch.images), atol=1e-4)
    assert len({batch.lam.item() for batch in seen if batch.lam is not None}) == 5


def test_mixup_agrees_with_torchvisions_given_the_same_lambda(monkeypatch: pytest.MonkeyPatch):
    from torchvision.transforms import v2

    regularizers = PLAIN.model_copy(update={"mixup": Mixup(alpha=1.0)})
    ours = epoch(noise(16), regularizers)[0]
    unmixed = epoch(noise(16), PLAIN)[0]
    assert ours.lam is not None
    assert ours.partners is not None
    theirs = v2.MixUp(alpha=1.0, num_classes=16)
    params = {"lam": ours.lam.item(), "labels": unmixed.labels, "batch_size": 8}
    monkeypatch.setattr(theirs, "make_params", lambda _: params)
    images, labels = theirs(unmixed.images.contiguous(), unmixed.labels)
    assert torch.allclose(ours.images, images, atol=1e-4)
    one_hot = torch.nn.functional.one_hot
    ours_labels = ours.lam * one_hot(ours.labels, 16) + (1 - ours.lam) * one_hot(ours.partners, 16)
    assert torch.allclose(ours_labels, labels, atol=1e-6)


def test_cutmix_agrees_with_torchvisions_given_the_same_box(monkeypatch: pytest.MonkeyPatch):
    from torchvision.transforms import v2

    regularizers = PLAIN.model_copy(update={"cutmix": Cutmix(probability=1.0)})
    for ours, unmixed in zip(epoch(noise(32), regularizers), epoch(noise(32), PLAIN), strict=True):
        assert ours.lam is not None
        assert ours.partners is not None
        taken = (ours.images != unmixed.images).any(1).any(0)  # noise: equal pixels are rare, and one image suffices
        rows, columns = (line.nonzero().flatten() for line in (taken.any(1), taken.any(0)))
        box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if taken.any() else (0, 0, 0, 0)
        theirs = v2.CutMix(alpha=1.0, num_classes=32)
        params = {"box": box, "lam_adjusted": ours.lam.item(), "labels": unmixed.labels, "batch_size": 8}
        monkeypatch.setattr(theirs, "make_params", lambda _, params=params: params)
        images, labels = theirs(unmixed.images.contiguous(), unmixed.labels)
        assert torch.equal(ours.images, images)
        assert ours.lam.item() == pytest.approx(1 - taken.sum().item() / 36)
        one_hot = torch.nn.functional.one_hot
        ours_labels = ours.lam * one_hot(ours.labels, 32) + (1 - ours.lam) * one_hot(ours.partners, 32)
        assert torch.allclose(ours_labels, labels, atol=1e-6)


def test_a_batch_is_mixed_by_cutmix_or_by_mixup_and_never_by_both():
    both = Regularizers(mixup=Mixup(alpha=1.0), cutmix=Cutmix(), crop_px=0, flip=False)
    kinds = []
    for batch in epoch(numbered(160), both):
        assert batch.partners is not None
        assert batch.lam is not None
        own, others = (x[:, None, None, None] + 1.0 for x in (batch.labels, batch.partners))
        if torch.equal(torch.where(batch.images == own, own, others), batch.images):
            assert batch.lam.item() == pytest.approx((batch.images[0, 0] == own[0]).float().mean().item())
            kinds.append("cutmix")
        else:
            assert torch.allclose(batch.images, (batch.lam * own + (1 - batch.lam) * others).expand_as(batch.images))
            kinds.append("mixup")
    assert set(kinds) == {"cutmix", "mixup"}


def test_the_rotation_head_sees_unmixed_cut_out_images_in_all_views():
    mixed = epoch(noise(16), EVERYTHING.model_copy(update={"rotation": Rotation(weight=1.0)}))[0]
    unmixed = epoch(noise(16), EVERYTHING.model_copy(update={"rotation": Rotation(weight=1.0), **OFF}))[0]
    assert mixed.rotated is not None
    assert unmixed.rotated is not None
    assert mixed.turns is not None
    assert unmixed.turns is not None
    assert mixed.turns.tolist() == unmixed.turns.tolist() == [0] * 8 + [1] * 8 + [2] * 8 + [3] * 8
    # With mixup all four views are made; without it the upright one is the main batch itself.
    assert torch.equal(mixed.rotated, torch.cat((unmixed.images, unmixed.rotated)))
    for quarter in range(4):
        view = mixed.rotated[8 * quarter : 8 * quarter + 8]
        assert torch.equal(view, torch.rot90(unmixed.images, quarter, (2, 3)))


def test_one_view_turns_each_image_by_its_own_number():
    seen = epoch(noise(16), PLAIN.model_copy(update={"rotation": Rotation(weight=1.0, views=1)}))
    for batch in seen:
        assert batch.turns is not None
        assert batch.rotated is not None
        for image, turned, quarter in zip(batch.images, batch.rotated, batch.turns.tolist(), strict=True):
            assert torch.equal(turned, torch.rot90(image, quarter, (1, 2)))


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(0, 100), st.sampled_from([EVERYTHING, Regularizers()]))
def test_any_number_of_ranks_sees_the_same_global_batches(ranks: int, seed: int, regularizers: Regularizers):
    data = noise(19)
    whole = epoch(data, regularizers, seed=seed)
    parts = [epoch(data, regularizers, seed=seed, group=Group(rank, ranks)) for rank in range(ranks)]
    for step, batch in enumerate(whole):
        shares = [part[step] for part in parts]
        assert torch.equal(torch.cat([share.images for share in shares]), batch.images)
        assert torch.equal(torch.cat([share.labels for share in shares]), batch.labels)
        if batch.partners is not None:
            assert torch.equal(torch.cat([s.partners for s in shares if s.partners is not None]), batch.partners)
            assert all(share.lam == batch.lam for share in shares)
        if batch.rotated is not None and batch.turns is not None:
            views = [s.rotated.unflatten(0, (2, -1)) for s in shares if s.rotated is not None]
            turns = [s.turns.unflatten(0, (2, -1)) for s in shares if s.turns is not None]
            assert torch.equal(torch.cat(views, dim=1).flatten(0, 1), batch.rotated)
            assert torch.equal(torch.cat(turns, dim=1).flatten(), batch.turns)


@given(st.integers(1, 50), st.integers(1, 50))
def test_shares_are_a_partition_into_nearly_equal_parts(batch_size: int, ranks: int):
    shares = [share_of(batch_size, Group(rank, ranks)) for rank in range(ranks)]
    assert [place for share in shares for place in share] == list(range(batch_size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alternating_flips_mirror_each_image_every_other_epoch():
    data, regularizers = noise(40), Regularizers(crop_px=0, alternating_flip=True)

    def mirrored(number: int) -> list[bool]:
        seen = {}
        for batch in epoch(data, regularizers, number=number):
            for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
                seen[label] = torch.equal(image, data.images[label].float().flip(2))
        return [seen[label] for label in range(40)]

    first, second, third = map(mirrored, (1, 2, 3))
    assert first == third
    assert [not flipped for flipped in first] == second
    assert 10 < sum(first) < 30


def test_black_squares_are_cut_out_before_normalising():
    regularizers = Regularizers(cutout=Cutout(size_px=6, fill="black"), crop_px=0, flip=False)
    for batch in epoch(numbered(40), regularizers, normalise=lambda images: images.float() - 100):
        own = batch.labels[:, None, None, None] - 99.0
        assert ((batch.images == own) | (batch.images == -100)).all()
        assert (batch.images == -100).any()


def test_trivialaugment_changes_each_image_by_its_own_operation():
    data, regularizers = noise(40), Regularizers(crop_px=0, flip=False, trivialaugment=Trivialaugment())
    choices = draw(40, 6, 8, regularizers, 0, 1)
    assert choices.operations is not None
    assert choices.amounts is not None
    for step, batch in enumerate(epoch(data, regularizers)):
        expected = operate(data.images[choices.order[step]], choices.operations[step], choices.amounts[step])
        assert torch.equal(batch.images, expected.float())


@pytest.mark.parametrize("mixed", [False, True])
def test_the_divergence_of_augmix_has_the_image_and_two_views_of_it(mixed: bool):
    changes = {"augmix": Augmix(), "crop_px": 0} | OFF | ({"mixup": Mixup(alpha=1.0)} if mixed else {})
    regularizers = EVERYTHING.model_copy(update=changes)
    for batch in epoch(noise(40), regularizers):
        views = batch.images.unflatten(0, (3, -1))
        assert batch.views == 3
        assert views.shape[1] == len(batch.labels) == 8
        assert not torch.allclose(views[0], views[1])
        assert not torch.allclose(views[1], views[2])
        assert batch.rotated is not None
        assert len(batch.rotated) == 16
        # All views have their holes in the same places.
        holes = (views[0] == 0).all(1)
        if not mixed:
            assert holes.any()
            assert all((view.abs().amax(1)[holes] == 0).all() for view in views)


def test_augmix_without_the_divergence_is_one_view_in_the_images_place():
    data, regularizers = noise(16), PLAIN.model_copy(update={"augmix": Augmix(jsd_weight=0.0)})
    choices = draw(16, 6, 8, regularizers, 0, 1)
    batch = epoch(data, regularizers)[0]
    assert choices.chains is not None
    assert choices.chain_amounts is not None
    assert choices.shares is not None
    parts = (choices.chains[0], choices.chain_amounts[0], choices.shares[0])
    assert torch.allclose(batch.images * 255, augmix.augmix(data.images[choices.order[0]], *parts), atol=1e-3)
    assert batch.views == 1


def test_ranks_share_out_the_views_of_augmix():
    regularizers = EVERYTHING.model_copy(update={"augmix": Augmix(), "trivialaugment": Trivialaugment()})
    whole = epoch(noise(19), regularizers)
    parts = [epoch(noise(19), regularizers, group=Group(rank, 3)) for rank in range(3)]
    for step, batch in enumerate(whole):
        shares = [part[step].images.unflatten(0, (3, -1)) for part in parts]
        assert torch.equal(torch.cat(shares, dim=1), batch.images.unflatten(0, (3, -1)))


def test_no_two_sources_of_randomness_have_the_same_seed():
    seeds = [epoch_generator(seed, epoch).initial_seed() for seed in range(3) for epoch in range(4)]
    seeds += [noise_seed(seed, epoch, rank) for seed in range(3) for epoch in range(1, 4) for rank in range(3)]
    assert len(set(seeds)) == len(seeds)

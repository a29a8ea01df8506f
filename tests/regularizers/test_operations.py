"""The operations are held to Pillow's, TrivialAugment and AugMix to their papers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torch import Tensor

from raycnn.regularizers import augmix, trivialaugment
from raycnn.regularizers.operations import GEOMETRIC, NUMBER, OPERATIONS, operate

PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "identity": lambda image, _: image,
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
    "solarize": lambda image, lowest: ImageOps.solarize(image, int(lowest)),
    "rotate": lambda image, degrees: image.rotate(degrees, Image.Resampling.BILINEAR),
    "shear_x": lambda image, amount: affine(image, (1, amount, 0, 0, 1, 0)),
    "shear_y": lambda image, amount: affine(image, (1, 0, 0, amount, 1, 0)),
    "translate_x": lambda image, amount: affine(image, (1, 0, amount, 0, 1, 0)),
    "translate_y": lambda image, amount: affine(image, (1, 0, 0, 0, 1, amount)),
}
AMOUNTS = {"posterize": (1, 8), "solarize": (0, 256), "rotate": (-150, 150), "shear_x": (-0.99, 0.99)}
AMOUNTS |= {"shear_y": (-0.99, 0.99), "translate_x": (-20, 20), "translate_y": (-20, 20)}


def affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth_images(count: int, seed: int, height: int = 20, width: int = 16) -> Tensor:
    """Bytes that differ little between neighbours, over the whole range."""
    coarse = torch.rand(count, 3, 5, 4, generator=generator(seed)) * 255
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").to(torch.uint8)


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_an_operation_is_pillows(name: str, seed: int, share: float):
    low, high = AMOUNTS.get(name, (0, 0))
    amount = low + share * (high - low)
    amount = round(amount) if name in ("posterize", "solarize") else amount
    images = smooth_images(2, seed)
    changed = operate(images, torch.full((2,), NUMBER[name]), torch.full((2,), float(amount)))
    for image, ours in zip(images, changed, strict=True):
        theirs = np.asarray(PILLOW[name](Image.fromarray(image.permute(1, 2, 0).numpy()), amount), dtype=int)
        apart = np.abs(ours.permute(1, 2, 0).numpy().astype(int) - theirs)
        # Pillow reckons positions in fixed point: a pixel on the very border may fall to the other side of it.
        assert (apart > 2).mean() <= (0.02 if NUMBER[name] in GEOMETRIC else 0), f"{amount}: {apart.max()}"


def test_a_channel_of_one_value_is_left_alone():
    images = torch.full((2, 3, 4, 4), 77, dtype=torch.uint8)
    for name in ("autocontrast", "equalize"):
        assert torch.equal(operate(images, torch.full((2,), NUMBER[name]), torch.zeros(2)), images)


def test_each_image_has_its_own_operation():
    images = smooth_images(len(OPERATIONS), 0)
    amounts = torch.tensor([0.0, 0, 0, 3, 128, 20, 0.3, 0.3, 3, 3])
    together = operate(images, torch.arange(len(OPERATIONS)), amounts)
    for number in range(len(OPERATIONS)):
        part = slice(number, number + 1)
        alone = operate(images[part], torch.tensor([number]), amounts[part])
        assert torch.equal(together[part], alone)
        assert torch.equal(alone, images[part]) == (number == 0)


@given(st.integers(0, 99), st.floats(0.01, 1))
def test_trivialaugment_draws_within_its_ranges(seed: int, strength: float):
    operations, amounts = trivialaugment.draw(400, strength, 32, generator(seed))
    limits = {"rotate": 135, "shear_x": 0.99, "shear_y": 0.99, "translate_x": 32, "translate_y": 32}
    for name, number in NUMBER.items():
        drawn = amounts[operations == number]
        assert 10 < len(drawn) < 90
        if name in limits:
            assert drawn.abs().max() <= strength * limits[name] + 1e-4
            assert (drawn > 0).any()
            assert (drawn < 0).any()
        elif name == "posterize":
            assert drawn.min() >= 8 - round(6 * strength + 0.5)
        elif name == "solarize":
            assert drawn.min() >= 255.5 - 256 * strength
        else:
            assert (drawn == 0).all()


@given(st.integers(0, 99), st.floats(0.2, 10))
def test_augmix_draws_chains_of_one_to_three_operations_and_shares_that_sum_to_one(seed: int, severity: float):
    operations, amounts, weights = augmix.draw(200, 2, severity, 32, generator(seed))
    depth = (operations > 0).sum(-1)
    assert depth.unique().tolist() == [1, 2, 3]
    assert ((operations > 0) == (torch.arange(3) < depth[..., None])).all()  # identities come last
    assert torch.allclose(weights.sum(-1), torch.ones(200, 2))
    assert (weights >= 0).all()
    assert weights[..., -1].mean().item() == pytest.approx(0.5, abs=0.06)
    assert amounts[operations == NUMBER["rotate"]].abs().max() <= 3 * severity
    assert amounts[operations == NUMBER["posterize"]].min() >= 4 - 0.4 * severity


def test_augmix_mixes_chains_with_the_image_as_the_formula_says():
    images = smooth_images(3, 1)
    operations, amounts, weights = augmix.draw(3, 2, 5.0, 16, generator(5))
    views = augmix.augmix(images, operations, amounts, weights).unflatten(0, (2, 3))
    for view in range(2):
        for index in range(3):
            image = images[index : index + 1]
            expected = weights[index, view, 3] * image
            for chain in range(3):
                changed = image
                for place in range(3):
                    at = (index, view, chain, place)
                    changed = operate(changed, operations[at][None], amounts[at][None])
                expected = expected + weights[index, view, chain] * changed
            assert torch.allclose(views[view, index], expected[0], atol=1e-3)


def test_divergence_is_the_mean_of_what_each_prediction_loses_to_their_mean():
    logits = torch.randn(3, 7, 5, generator=generator(0))
    predictions = logits.double().softmax(-1)
    mean = predictions.mean(0)
    expected = (predictions * (predictions / mean).log()).sum(-1).mean()
    assert augmix.divergence(logits).item() == pytest.approx(expected.item(), rel=1e-5)
    assert augmix.divergence(logits[:1].expand(3, 7, 5)).item() == pytest.approx(0, abs=1e-6)

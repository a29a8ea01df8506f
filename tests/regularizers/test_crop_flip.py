import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from raycnn.regularizers.crop_flip import crop, draw_crops, draw_flips, flip


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_images(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(1, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator(seed))


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**31))
def test_crop_equals_padding_and_slicing_each_image(count: int, height: int, width: int, padding: int, seed: int):
    images = some_images(count, height, width, seed)
    corners = draw_crops(count, padding, generator(seed))
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    expected = np.stack(
        [p[:, r : r + height, c : c + width] for p, (r, c) in zip(padded, corners.tolist(), strict=True)]
    )
    for layout in (torch.contiguous_format, torch.channels_last):
        cropped = crop(images.contiguous(memory_format=layout), corners, padding)
        assert np.array_equal(cropped.numpy(), expected)
        assert cropped.is_contiguous(memory_format=torch.channels_last)


def test_crop_at_the_middle_returns_the_images_unchanged():
    images = some_images(4, 8, 8)
    assert torch.equal(crop(images, torch.full((4, 2), 3), 3), images)


def test_crop_at_the_corner_of_a_hand_worked_image():
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).expand(1, 3, 2, 2)
    assert crop(image, torch.tensor([[0, 0]]), 1)[0, 0].tolist() == [[0, 0], [0, 1]]
    assert crop(image, torch.tensor([[0, 2]]), 1)[0, 1].tolist() == [[0, 0], [2, 0]]
    assert crop(image, torch.tensor([[2, 1]]), 1)[0, 2].tolist() == [[3, 4], [0, 0]]


def test_crop_corners_are_uniform_over_all_places():
    corners = draw_crops(81_000, 4, generator(1))
    counts = torch.bincount(corners[:, 0] * 9 + corners[:, 1], minlength=81)
    assert len(counts) == 81
    chi_square = ((counts - 1000.0) ** 2 / 1000).sum().item()
    assert 40 < chi_square < 140  # 80 degrees of freedom; outside with probability below 1e-4


@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 2**31))
def test_flip_mirrors_the_chosen_images_and_no_others(count: int, side: int, seed: int):
    images = some_images(count, side, side + 1, seed)
    flips = draw_flips(count, generator(seed))
    flipped = flip(images, flips)
    for image, mirrored, chosen in zip(images.numpy(), flipped.numpy(), flips.tolist(), strict=True):
        assert np.array_equal(mirrored, image[:, :, ::-1] if chosen else image)
    assert torch.equal(flip(flipped, flips), images)


def test_half_of_the_images_are_flipped():
    assert abs(draw_flips(10_000, generator(0)).float().mean().item() - 0.5) < 0.02


@given(st.integers(0, 3), st.integers(0, 99))
def test_reflecting_padding_is_torchs(padding: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (3, 3, 5, 4), dtype=torch.uint8, generator=generator)
    corners = draw_crops(3, padding, generator)
    padded = torch.nn.functional.pad(images.float(), (padding,) * 4, mode="reflect").byte()
    cropped = crop(images, corners, padding, "reflect")
    for image, whole, (row, column) in zip(cropped, padded, corners.tolist(), strict=True):
        assert torch.equal(image, whole[:, row : row + 5, column : column + 4])

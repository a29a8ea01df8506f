import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raycnn.regularizers.cutout import cutout, draw_centres


@given(st.integers(1, 12), st.integers(2, 12), st.data())
def test_the_blanked_area_is_the_square_cut_off_at_the_border(height: int, width: int, data: st.DataObject):
    size = data.draw(st.integers(0, 14))
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    blanked = cutout(torch.ones(1, 3, height, width), torch.tensor([[[row, column]]]), size)
    top, left = row - size // 2, column - size // 2
    rows = max(0, min(height, top + size) - max(0, top))
    columns = max(0, min(width, left + size) - max(0, left))
    assert (blanked == 0).sum().item() == 3 * rows * columns


def test_two_squares_of_a_hand_worked_image():
    image = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
    blanked = cutout(image, torch.tensor([[[0, 0], [2, 3]]]), 2)
    assert blanked[0, 0].tolist() == [[0, 2, 3, 4], [5, 6, 0, 0], [9, 10, 0, 0], [13, 14, 15, 16]]
    assert image.min() == 1  # the argument is unchanged


def test_each_image_is_blanked_at_its_own_places():
    centres = torch.tensor([[[0, 0]], [[3, 3]]])
    blanked = cutout(torch.ones(2, 3, 4, 4), centres, 1)
    assert blanked[0, 0, 0, 0] == 0
    assert blanked[1, 0, 3, 3] == 0
    assert blanked.sum().item() == 2 * 3 * 15


def test_pixels_outside_the_squares_are_unchanged():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 3, 10, 10, generator=generator)
    blanked = cutout(images, draw_centres(16, 3, 10, 10, generator), 4)
    kept = blanked != 0
    assert torch.equal(blanked[kept], images[kept])
    assert 0 < kept.float().mean() < 1


def test_every_pixel_is_as_likely_a_centre():
    centres = draw_centres(20_000, 2, 4, 5, torch.Generator().manual_seed(2)).view(-1, 2)
    counts = torch.bincount(centres[:, 0] * 5 + centres[:, 1], minlength=20)
    assert counts.min() > 1800
    assert counts.max() < 2200


def test_a_negative_size_is_refused():
    with pytest.raises(ValueError, match="size_px must not be negative, got -1"):
        cutout(torch.ones(1, 3, 4, 4), torch.zeros(1, 1, 2, dtype=torch.int64), -1)

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raycnn.regularizers.cutmix import cutmix, draw_boxes, remaining


def boxes(count: int, alpha: float = 1.0, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    return draw_boxes(count, alpha, height, width, torch.Generator().manual_seed(seed))


def test_the_box_is_the_partners_and_the_rest_the_images_own():
    image, partner = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    cut = cutmix(image, partner, torch.tensor([1, 3, 0, 2]))
    assert cut[0, 0].tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert remaining(torch.tensor([1, 3, 0, 2]), 4, 4).item() == 0.75


def test_an_empty_box_changes_nothing():
    image, partner = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    assert torch.equal(cutmix(image, partner, torch.zeros(4, dtype=torch.long)), image)
    assert remaining(torch.zeros(4, dtype=torch.long), 4, 4).item() == 1


@given(st.integers(4, 64), st.integers(4, 64), st.floats(0.1, 4), st.integers(0, 1000))
def test_boxes_lie_in_the_image_and_the_weight_is_the_share_of_own_pixels(
    height: int, width: int, alpha: float, seed: int
):
    for box in boxes(5, alpha, height, width, seed):
        top, bottom, left, right = box.tolist()
        assert 0 <= top <= bottom <= height
        assert 0 <= left <= right <= width
        cut = cutmix(torch.ones(1, 1, height, width), torch.zeros(1, 1, height, width), box)
        assert cut.mean().item() == pytest.approx(remaining(box, height, width).item(), abs=1e-6)


def test_areas_are_uniform_at_alpha_one_where_the_border_does_not_clip():
    large = boxes(20_000, height=1024, width=1024)
    top, bottom, left, right = large.unbind(1)
    inside = (top > 0) & (bottom < 1024) & (left > 0) & (right < 1024)
    # A box of relative side s lies inside with probability (1 - s)^2; with area a = s^2 uniform, the mean area of those
    # inside is E[a (1-s)^2] / E[(1-s)^2] = (1/2 - 4/5 + 1/3) / (1 - 4/3 + 1/2) = 0.2.
    areas = 1 - remaining(large, 1024, 1024)[inside]
    assert areas.mean().item() == pytest.approx(0.2, abs=4 * areas.std().item() / math.sqrt(len(areas)) + 0.002)
    assert inside.float().mean().item() == pytest.approx(1 / 6, abs=0.012)

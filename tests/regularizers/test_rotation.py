import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from raycnn.regularizers.rotation import draw_turns, rotate


def images(count: int, side: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_a_quarter_turn_of_a_hand_worked_image_is_counterclockwise():
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(1, 3, 2, 2)
    assert rotate(image, torch.tensor([[1]]))[0, 0].tolist() == [[2, 4], [1, 3]]


@given(st.integers(1, 4), st.integers(1, 7), st.integers(0, 2**31))
def test_rotate_equals_numpy_for_each_view_of_each_image(count: int, side: int, seed: int):
    batch = images(count, side, seed)
    turns = torch.randint(0, 4, (3, count), generator=torch.Generator().manual_seed(seed))
    turned = rotate(batch, turns)
    expected = [
        np.rot90(image, k, (1, 2)) for view in turns.tolist() for image, k in zip(batch.numpy(), view, strict=True)
    ]
    assert np.array_equal(turned.numpy(), np.stack(expected))
    assert turned.is_contiguous(memory_format=torch.channels_last)


def test_four_quarter_turns_are_the_identity():
    batch = turned = images(3, 6)
    for _ in range(4):
        turned = rotate(turned, torch.ones(1, 3, dtype=torch.int64))
    assert torch.equal(turned, batch)


def test_four_views_are_all_rotations_in_order():
    assert draw_turns(3, 4, torch.Generator()).tolist() == [[0, 1, 2, 3]] * 3


@given(st.integers(1, 3), st.integers(0, 2**31))
def test_fewer_views_of_an_image_are_different_rotations(views: int, seed: int):
    turns = draw_turns(20, views, torch.Generator().manual_seed(seed))
    assert all(len(set(view)) == views for view in turns.tolist())


def test_one_view_is_each_rotation_equally_often():
    counts = torch.bincount(draw_turns(8000, 1, torch.Generator().manual_seed(0)).flatten())
    assert len(counts) == 4
    assert (counts - 2000).abs().max() < 200

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from raycnn.regularizers.mixup import draw_lambdas, mixup


def images(seed: int) -> torch.Tensor:
    return torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(seed))


def test_mixup_with_lambda_one_returns_the_images_unchanged():
    assert torch.equal(mixup(images(0), images(1), torch.tensor(1.0)), images(0))


def test_mixup_with_lambda_zero_returns_the_partners():
    assert torch.equal(mixup(images(0), images(1), torch.tensor(0.0)), images(1))


@given(st.floats(0, 1), st.integers(0, 1000))
def test_mixed_pixels_lie_between_those_of_both_images(lam: float, seed: int):
    a, b = images(seed), images(seed + 1)
    mixed = mixup(a, b, torch.tensor(lam))
    assert (mixed >= torch.minimum(a, b) - 1e-6).all()
    assert (mixed <= torch.maximum(a, b) + 1e-6).all()
    assert torch.allclose(mixed, lam * a + (1 - lam) * b, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0])
def test_lambdas_have_the_beta_distribution(alpha: float):
    lambdas = draw_lambdas(4000, alpha, torch.Generator().manual_seed(3)).double().numpy()
    # At small alpha single precision rounds to 0 and 1, where the distribution function is steep: compare the middle.
    for x in (0.01, 0.1, 0.3, 0.5, 0.8, 0.95):
        expected = stats.beta.cdf(x, alpha, alpha)
        assert abs((lambdas <= x).mean() - expected) < 4 * math.sqrt(expected * (1 - expected) / 4000)


@given(st.floats(0.001, 100), st.integers(0, 2**31))
def test_lambdas_are_numbers_from_zero_to_one(alpha: float, seed: int):
    lambdas = draw_lambdas(50, alpha, torch.Generator().manual_seed(seed))
    assert lambdas.dtype == torch.float32
    assert ((lambdas >= 0) & (lambdas <= 1)).all()

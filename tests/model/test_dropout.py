"""Dropout from few random bits: rate, mean, gradient, reproducibility; torch's own wherever it does not apply."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from elc_composer.model.dropout import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate_and_mean(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(403, 1001)
    y = dropout(x, p, True, "torch")
    deviation = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(float((y == 0).double().mean()) - p) < 4 * deviation + 1e-5
    assert abs(float(y.double().mean()) - 1) < 4 * deviation / (1 - p)
    kept = y[y != 0]
    assert torch.allclose(kept, kept[0])
    assert float(kept[0]) == pytest.approx(1 / (1 - p), rel=1e-4)


def test_neighbours_are_independent() -> None:
    torch.manual_seed(1)
    kept = (dropout(torch.ones(400_000), 0.5, True, "torch") != 0).double() - 0.5
    for distance in (1, 2, 3, 4, 8):
        correlation = float((kept[:-distance] * kept[distance:]).mean() / 0.25)
        assert abs(correlation) < 4 / 400_000**0.5, distance


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 7)], ids=str)
def test_the_gradient_is_zero_where_the_output_is(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.ones(shape, dtype=dtype, requires_grad=True)
    y = dropout(x, 0.4, True, "torch")
    y.sum().backward()
    assert y.dtype == dtype
    assert torch.equal(x.grad, y.detach())


def test_the_seed_decides() -> None:
    x = torch.randn(50, 20)
    draws = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        draws.append(dropout(x, 0.3, True, "torch"))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_recomputation_drops_the_same() -> None:
    x = torch.ones(64, 64, requires_grad=True)
    y = checkpoint(lambda x: dropout(x, 0.5, True, "torch").sin(), x, use_reentrant=False)
    y.sum().backward()
    assert torch.equal(x.grad != 0, y != 0)


def test_eager_is_torchs_own() -> None:
    x = torch.randn(30, 20)
    torch.manual_seed(5)
    expected = F.dropout(x, 0.2)
    torch.manual_seed(5)
    assert torch.equal(Dropout(0.2, "eager")(x), expected)


@pytest.mark.parametrize("kernels", ["eager", "torch"])
def test_nothing_is_dropped_in_evaluation(kernels: str) -> None:
    x = torch.randn(9)
    assert Dropout(0.5, kernels).eval()(x) is x or torch.equal(Dropout(0.5, kernels).eval()(x), x)
    assert torch.equal(Dropout(0.0, kernels)(x), x)

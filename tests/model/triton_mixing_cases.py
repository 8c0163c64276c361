"""Triton's mixing kernels against float64 and the plain form. Run by test_triton_mixing.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from elc_composer.model.triton_mixing import BLOCK, PROGRAMS, inner_products, weighted_sum
from tests.model.mixing_chains import chain, largest, random_inputs
from tests.model.triton_interpreter import DEVICE

TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 1e-2}
"""Relative to the result's largest magnitude; bfloat16 itself resolves 4e-3."""
SIZES = {"one": (1, 1, 1), "odd": (3, 7, 33), "several blocks": (2, 9, 257), "a block": (1, 2, BLOCK // 2)}
COUNTS = (1, 2, 5, 13, 17)


def random_states(count: int, shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype) for _ in range(count)]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_weighted_sum(size: str, dtype: torch.dtype) -> None:
    for count in COUNTS:
        states = random_states(count, SIZES[size], dtype)
        shares = torch.softmax(torch.arange(count, dtype=torch.float64) % 3, 0).to(DEVICE, dtype)
        exact = sum(share * state for share, state in zip(shares.double(), [s.double() for s in states]))
        actual = weighted_sum(states, shares, dtype)
        assert actual.dtype == dtype
        assert largest([actual.double()], [exact]) <= TOLERANCE[dtype], count


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_inner_products(size: str, dtype: torch.dtype) -> None:
    for count in COUNTS:
        states = random_states(count, SIZES[size], dtype)
        exact = torch.stack([(state.double() * states[0].double()).sum() for state in states])
        actual = inner_products(states, states[0])
        assert largest([actual.double()], [exact]) <= TOLERANCE[dtype], count
        assert torch.equal(actual, inner_products(states, states[0]))


def test_more_blocks_than_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elc_composer.model.triton_mixing.PROGRAMS", 2)
    states = random_states(3, (5, BLOCK + 3), torch.float64)
    exact = torch.stack([(state * states[2]).sum() for state in states])
    assert largest([inner_products(states, states[2])], [exact]) <= 1e-13
    assert PROGRAMS > 2


def test_states_that_are_not_contiguous() -> None:
    states = [state.transpose(0, 1) for state in random_states(3, (4, 6, 5), torch.float64)]
    shares = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64, device=DEVICE)
    assert largest([weighted_sum(states, shares, torch.float64)], [sum(w * s for w, s in zip(shares, states))]) <= 1e-14
    exact = torch.stack([(state * states[1]).sum() for state in states])
    assert largest([inner_products(states, states[1])], [exact]) <= 1e-13


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_a_chain_of_readers_as_in_the_plain_form(recompute: bool) -> None:
    results = []
    for linked in (True, False):
        inputs = [t.detach().to(DEVICE).requires_grad_() for t in random_inputs()]
        states, mixes = chain(inputs, linked, recompute and linked, "triton")
        (states[-1].sin() + mixes[2]).sum().backward()
        results.append([*states, *mixes, *(t.grad for t in inputs)])
    assert largest(*results) <= 1e-13

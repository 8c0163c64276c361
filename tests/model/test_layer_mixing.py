"""Linked mixing against the plain form: values, gradients, and what may happen between forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from elc_composer.model.layer_mixing import linked_mix, mix
from tests.model.mixing_chains import READERS, SHAPE, chain, largest, random_inputs

OUTPUTS = {
    "last state": lambda states, mixes: [states[-1]],
    "every state": lambda states, mixes: states,
    "a middle state": lambda states, mixes: [states[2]],
    "mixes and a state": lambda states, mixes: [mixes[1], mixes[-1], states[3]],
}


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("outputs", OUTPUTS)
def test_same_values_and_gradients_as_the_plain_form(outputs: str, recompute: bool) -> None:
    results = []
    for linked in (True, False):
        inputs = random_inputs()
        states, mixes = chain(inputs, linked, recompute and linked)
        chosen = OUTPUTS[outputs](states, mixes)
        sum((output.cos() * output).sum() for output in chosen).backward()
        results.append([*states, *mixes, *(t.grad if t.grad is not None else torch.ones_like(t) for t in inputs)])
    assert largest(*results) <= 1e-14


def test_gradcheck() -> None:
    inputs = random_inputs()
    with torch.no_grad():
        inputs[4][1] = 0.3

    def function(*inputs: Tensor) -> tuple[Tensor, ...]:
        states, _ = chain(list(inputs), linked=True)
        return states[-1], states[2]

    assert torch.autograd.gradcheck(function, inputs)


def test_each_backward_pass_stands_alone() -> None:
    inputs, plain = random_inputs(), random_inputs()
    states, _ = chain(inputs, linked=True)
    expected, _ = chain(plain, linked=False)
    for last in (-1, 2, -1):
        actual = torch.autograd.grad(states[last].square().sum(), inputs[:3], retain_graph=True)
        wanted = torch.autograd.grad(expected[last].square().sum(), plain[:3], retain_graph=True)
        assert largest(list(actual), list(wanted)) <= 1e-14


@pytest.mark.parametrize("frozen", [[0], [1, 2, 3], [5], list(range(1, 6))], ids=str)
def test_frozen_inputs_change_no_other_gradient(frozen: list[int]) -> None:
    gradients = []
    for linked in (True, False):
        inputs = [t.requires_grad_(i not in frozen) for i, t in enumerate(random_inputs())]
        chain(inputs, linked)[0][-1].square().sum().backward()
        assert all(inputs[i].grad is None for i in frozen)
        gradients.append([t.grad for i, t in enumerate(inputs) if i not in frozen])
    assert largest(*gradients) <= 1e-14


def test_without_gradients_nothing_is_linked() -> None:
    inputs = random_inputs()
    with torch.no_grad():
        mixed, links = linked_mix([inputs[0]], inputs[1], (), READERS, "torch")
    assert links == ()
    assert torch.equal(mixed, mix([inputs[0]], inputs[1]))


def test_a_mix_in_between_may_start_without_links() -> None:
    states = [torch.randn(SHAPE, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    weights = torch.randn(3, dtype=torch.float64, requires_grad=True)
    mixed, links = linked_mix(states, weights, (), READERS, "torch")
    assert links == ()
    assert torch.autograd.grad(mixed.sum(), states[0])[0].abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_narrow_states_are_as_exact_as_in_the_plain_form(dtype: torch.dtype) -> None:
    def results(kind: torch.dtype, linked: bool) -> list[Tensor]:
        inputs = [t.detach().to(kind).requires_grad_() for t in random_inputs(dtype)]
        states, _ = chain(inputs, linked)
        states[-1].sum().backward()
        assert all(t.grad.dtype == kind for t in inputs)
        return [states[-1].double(), *(t.grad.double() for t in (inputs[0], *inputs[2:]))]

    exact = results(torch.float64, linked=False)
    assert largest(results(dtype, linked=True), exact) <= 2 * largest(results(dtype, linked=False), exact)


def test_states_of_two_dtypes() -> None:
    weights = [torch.zeros(n + 1, requires_grad=True) for n in range(2)]
    first = torch.randn(SHAPE, requires_grad=True)
    mixed, links = linked_mix([first], weights[0], (), 2, "torch")
    second = mixed.to(torch.bfloat16)
    mixed, _ = linked_mix([first.detach(), second], weights[1], links, 2, "torch")
    assert mixed.dtype == torch.float32
    mixed.sum().backward()
    assert torch.allclose(first.grad, torch.ones(SHAPE), atol=1e-2)


def test_the_first_reader_copies_nothing_and_its_weight_has_no_gradient() -> None:
    state = torch.randn(SHAPE, requires_grad=True)
    weights = torch.randn(1, requires_grad=True)
    mixed, links = linked_mix([state], weights, (), 2, "torch")
    assert mixed.data_ptr() == state.data_ptr()
    assert len(links) == 2
    mixed.square().sum().backward()
    assert torch.equal(state.grad, 2 * state.detach())
    assert weights.grad.tolist() == [0.0]


@pytest.mark.parametrize("grad", [True, False])
def test_shares_of_narrow_states_are_not_rounded(grad: bool) -> None:
    """Three equal shares, rounded to bfloat16, add up to 1.002; the mix of equal states must be that state."""
    state = torch.full(SHAPE, 3.0, dtype=torch.bfloat16)
    with torch.set_grad_enabled(grad):
        links: tuple[Tensor, ...] = ()
        for count in (1, 2, 3):
            states = [state.clone().requires_grad_(grad and n == count - 1) for n in range(count)]
            mixed, links = linked_mix(states, torch.zeros(count, requires_grad=grad), links, 3, "torch")
    assert mixed.dtype == torch.bfloat16
    assert torch.equal(mixed.detach(), state)

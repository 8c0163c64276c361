"""`torch.func` transforms, forward-mode and second derivatives of whole models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, vjp, vmap

from elc_composer.model import ElcForMaskedLM
from elc_composer.model.cpu_attention import CpuAttention
from elc_composer.model.dropout import SixteenBitDropout
from elc_composer.model.kernels import resolve_kernels
from elc_composer.model.layer_mixing import LinkedMix
from tests.model.small_models import build

VARIANTS = ["base", "weighted_output", "normalized"]
Parameters = dict[str, Tensor]


def batch() -> tuple[Tensor, Tensor]:
    ids = torch.randint(7, 60, (3, 9), generator=torch.Generator().manual_seed(0))
    return ids, torch.arange(9) < torch.tensor([[9], [4], [9]])


def loss_of(model: ElcForMaskedLM) -> Callable[..., Tensor]:
    def loss(parameters: Parameters, ids: Tensor, mask: Tensor) -> Tensor:
        return functional_call(model, parameters, (ids, mask), {"labels": ids}).loss

    return loss


def transformed(name: str, model: ElcForMaskedLM) -> Any:
    loss, (ids, mask) = loss_of(model), batch()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    bias = {"classifier.nonlinearity.1.bias": parameters["classifier.nonlinearity.1.bias"]}

    def of_bias(changed: Parameters) -> Tensor:
        return loss({**parameters, **changed}, ids, mask)

    return {
        "grad": lambda: grad(loss)(parameters, ids, mask),
        "grad per sample": lambda: vmap(grad(loss), (None, 0, 0))(parameters, ids[:, None], mask[:, None]),
        "vmap": lambda: vmap(loss, (None, 0, 0))(parameters, ids[:, None], mask[:, None]),
        "jvp": lambda: jvp(lambda own: loss(own, ids, mask), (parameters,), (parameters,)),
        "vjp": lambda: vjp(of_bias, bias)[1](torch.ones((), dtype=torch.float64)),
        "jacrev": lambda: jacrev(of_bias)(bias),
        "hessian": lambda: hessian(of_bias)(bias),
    }[name]()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["grad", "grad per sample", "vmap", "jvp", "vjp", "jacrev", "hessian"])
def test_transforms_take_the_eager_form(name: str, variant: str) -> None:
    for kernels in ("auto", "torch"):
        torch.testing.assert_close(
            transformed(name, build(variant, kernels).double()), transformed(name, build(variant, "eager").double())
        )


def test_a_sample_s_gradient_is_that_of_the_sample_alone() -> None:
    model = build("base", "auto").double()
    found = transformed("grad per sample", model)
    ids, mask = batch()
    for row in range(3):
        model.zero_grad()
        model(ids[row : row + 1], mask[row : row + 1], ids[row : row + 1]).loss.backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(found[name][row], parameter.grad)


def test_dropout_under_vmap() -> None:
    model = build("base", "auto", dropout=0.2).double()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    ids, mask = batch()
    per_sample = vmap(grad(loss_of(model)), (None, 0, 0), randomness="different")
    assert all(g.isfinite().all() for g in per_sample(parameters, ids[:, None], mask[:, None]).values())


def test_forward_mode_takes_the_eager_form() -> None:
    model = build("weighted_output", "auto").double()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    with forward_ad.dual_level():
        dual = {name: forward_ad.make_dual(p, p) for name, p in parameters.items()}
        tangent = forward_ad.unpack_dual(loss_of(model)(dual, *batch())).tangent
    torch.testing.assert_close(tangent, transformed("jvp", model)[1])


def test_the_fast_forms_come_back_after_a_transform() -> None:
    x = torch.ones(3)
    assert grad(lambda x: x.sum() * (resolve_kernels("auto", x) == "eager"))(x).tolist() == [1.0] * 3
    assert resolve_kernels("auto", x) == "torch"


def second_derivatives(model: ElcForMaskedLM, by: str) -> list[Tensor]:
    ids, mask = batch()
    parameters = list(model.parameters())
    first = torch.autograd.grad(model(ids, mask, ids).loss, parameters, create_graph=True)
    total = sum(gradient.square().sum() for gradient in first)
    if by == "grad":
        return list(torch.autograd.grad(total, parameters))
    total.backward()
    return [parameter.grad for parameter in parameters]


@pytest.mark.parametrize("by", ["grad", "backward"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_second_derivatives_of_a_model_are_refused(variant: str, by: str) -> None:
    """A wrong result is worse: `once_differentiable` gave one here, since `grad` never met its error."""
    with pytest.raises(RuntimeError, match="set kernels=eager"):
        second_derivatives(build(variant, "auto").double(), by)


def test_second_derivatives_of_the_eager_form() -> None:
    """Along their own direction they are the slope of the gradient's square."""
    model = build("weighted_output", "eager").double()
    loss, given = loss_of(model), batch()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    second = dict(zip(parameters, second_derivatives(model, "grad"), strict=True))
    norm = float(sum(g.square().sum() for g in second.values())) ** 0.5

    def square(shift: float) -> float:
        moved = {name: p + shift / norm * second[name] for name, p in parameters.items()}
        return float(sum(g.square().sum() for g in grad(loss)(moved, *given).values()))

    assert (square(1e-5) - square(-1e-5)) / 2e-5 == pytest.approx(norm, rel=1e-4)


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()


def test_second_derivatives_of_each_operation() -> None:
    """With a linear loss, whose gradient needs no gradient: `once_differentiable` says nothing at all about it."""
    buckets = torch.zeros(3, 3, dtype=torch.int64)
    attended = CpuAttention.apply(
        numbers(2, 3, 2, 2, 4), numbers(2, 3, 2, 4), numbers(5, 2, 2, 4), buckets, None, 0.5, 0.0
    )
    mixed, *_ = LinkedMix.apply(torch.softmax(numbers(2), 0), 2, "torch", torch.float64, numbers(2, 3), numbers(2, 3))
    for out in (attended, mixed):
        with pytest.raises(RuntimeError, match="set kernels=eager"):
            out.sum().backward(create_graph=True)
    x = numbers(50)
    y = SixteenBitDropout.apply(x.square(), 1 << 15)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, torch.where(y == 0, 0.0, 4.0).double())

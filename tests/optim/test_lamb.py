"""LAMB on whole parameters: the published numbers, the plain formulas, other libraries, torch's conventions."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from composer.algorithms.gradient_clipping.gradient_clipping import apply_gradient_clipping
from torch import nn
from torch_optimizer import Lamb as OtherLamb

from elc_composer.common.errors import ConfigError
from elc_composer.optim import Lamb, lamb_foreach
from elc_composer.optim.placement import Placement
from tests.conftest import require
from tests.optim.plain_lamb import PlainLamb

FORMS = {"Lamb": Lamb, "PlainLamb": PlainLamb}
both = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
SHAPES = [(6, 5), (7,), (4, 3, 2), (1,), ()]


def make_params(dtype: torch.dtype = torch.float32, seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)) for shape in SHAPES]


def set_gradients(params: list[nn.Parameter], step: int, skip: int | None = None) -> None:
    generator = torch.Generator().manual_seed(1000 + step)
    for i, param in enumerate(params):
        grad = torch.randn(param.shape, generator=generator, dtype=torch.float64)
        param.grad = None if i == skip else grad.to(param.dtype)


def groups_of(params: list[nn.Parameter], weight_decay: float = 0.1) -> list[dict]:
    return [{"params": params[::2], "weight_decay": weight_decay}, {"params": params[1::2], "weight_decay": 0.0}]


def largest_error(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    return max(float((a - e).abs().max() / e.abs().max().clamp_min(1e-30)) for a, e in zip(actual, expected))


@pytest.mark.golden
@both
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-6)])
def test_published_steps(golden_dir: Path, form: type, dtype: torch.dtype, tolerance: float, record_property):
    golden = np.load(require(golden_dir / "lamb.npz"))
    names = sorted({key.split("/")[0] for key in golden.files if key.startswith("p")})
    model = nn.ParameterList([nn.Parameter(torch.tensor(golden[f"{name}/0"]).to(dtype)) for name in names])
    params = dict(zip(names, model))
    decayed = [name for name in names if int(name[1:]) % 2 == 0]
    optimizer = form(
        [
            {"params": [params[name] for name in decayed], "weight_decay": 0.1},
            {"params": [params[name] for name in names if name not in decayed], "weight_decay": 0.0},
        ],
        lr=0.0,
        betas=(0.9, 0.98),
        eps=1e-6,
    )
    worst = 0.0
    for step, lr in enumerate(golden["lr"], start=1):
        for name in names:
            params[name].grad = torch.tensor(golden[f"g{name[1:]}/{step}"]).to(dtype)
        norm = nn.utils.get_total_norm([param.grad for param in model])
        assert float(norm) == pytest.approx(float(golden[f"grad_norm/{step}"]), rel=1e-6)
        apply_gradient_clipping(model, "norm", 2.0, fsdp_enabled=False)
        assert float(nn.utils.get_total_norm([param.grad for param in model])) <= 2.0 + 1e-5
        for group in optimizer.param_groups:
            group["lr"] = float(lr)
        optimizer.step()
        expected = [torch.tensor(golden[f"{name}/{step}"]).to(dtype) for name in names]
        worst = max(worst, largest_error(list(model), expected))
    record_property("largest_relative_error", worst)
    print(f"{form.__name__} {dtype}: {worst:.2e}")
    assert worst <= tolerance


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_equals_the_formulas(weight_decay: float):
    for dtype, tolerance in [(torch.float64, 1e-13), (torch.float32, 2e-6), (torch.bfloat16, 2e-2)]:
        params = {name: make_params(dtype) for name in FORMS}
        optimizers = {name: form(groups_of(params[name], weight_decay)) for name, form in FORMS.items()}
        for step in range(10):
            # A parameter without a gradient for some steps lags behind in its step count.
            for name, own in params.items():
                set_gradients(own, step, skip=2 if step in (0, 4) else None)
                optimizers[name].step()
        assert largest_error(params["Lamb"], params["PlainLamb"]) < tolerance
        assert optimizers["Lamb"].state[params["Lamb"][2]]["step"] == 8


def test_mixed_types_and_zero_parameters():
    torch.manual_seed(0)
    params = [
        nn.Parameter(torch.zeros(4, 3)),
        nn.Parameter(torch.randn(5, dtype=torch.float64)),
        nn.Parameter(torch.randn(5).bfloat16()),
        nn.Parameter(torch.empty(0, 3)),
    ]
    copies = [nn.Parameter(param.detach().clone()) for param in params]
    for form, own in ((Lamb, params), (PlainLamb, copies)):
        optimizer = form(own, lr=0.1)
        set_gradients(own, 0)
        own[3].grad = torch.empty(0, 3)
        optimizer.step()
    for param, other in zip(params, copies):
        # bfloat16 keeps 8 bits: the two orders of rounding may differ in the last.
        tolerance = {"rtol": 2**-7, "atol": 2**-9} if param.dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-7}
        torch.testing.assert_close(param, other, **tolerance)
    assert params[0].detach().abs().max().item() == pytest.approx(0.1, rel=1e-3), (
        "a zero parameter moves by the plain Adam step"
    )


def test_without_trust_ratio_it_is_adam():
    params, others = make_params(torch.float64), make_params(torch.float64)
    lamb = Lamb(params, lr=3e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0)
    adam = torch.optim.Adam(others, lr=3e-3, betas=(0.9, 0.98), eps=1e-6)
    for step in range(8):
        for own, optimizer in ((params, lamb), (others, adam)):
            set_gradients(own, step)
            optimizer.step()
    assert largest_error(params, others) < 1e-13


def test_agrees_with_torch_optimizer_where_definitions_do():
    # It corrects the step size for bias, outside the trust ratio, or nothing; so late in a run, where no correction is
    # left, and with its cap on the weights' norm out of the way, the two are the same.
    params, others = make_params(torch.float64), make_params(torch.float64)
    settings = {"lr": 1e-2, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.1}
    lamb = Lamb(params, **settings)
    other = OtherLamb(others, **settings, clamp_value=1e9)
    for param in params:
        zeros = torch.zeros_like(param)
        lamb.state[param] = {"step": torch.tensor(1e5), "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
    for step in range(8):
        for own, optimizer in ((params, lamb), (others, other)):
            set_gradients(own, step)
            optimizer.step()
    assert largest_error(params, others) < 1e-12


def test_closure_runs_with_gradients_before_the_step():
    param = nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = Lamb([param], lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = param.square().sum()
        loss.backward()
        return loss

    before = param.detach().clone()
    assert float(optimizer.step(closure)) == 13.0
    assert not torch.equal(param, before)


def test_state_round_trip_continues_exactly():
    params = make_params()
    optimizer = Lamb(groups_of(params))
    for step in range(3):
        set_gradients(params, step)
        optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    copies = copy.deepcopy(params)
    resumed = Lamb(groups_of(copies))
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for step in range(3, 6):
        for own, opt in ((params, optimizer), (copies, resumed)):
            set_gradients(own, step)
            opt.step()
    assert all(torch.equal(a, b) for a, b in zip(params, copies))


def test_state_from_an_integer_step_count_loads():
    params = make_params()
    optimizer = Lamb(params)
    set_gradients(params, 0)
    optimizer.step()
    state = optimizer.state_dict()
    for values in state["state"].values():
        values["step"] = int(values["step"])
    optimizer.load_state_dict(state)
    set_gradients(params, 1)
    optimizer.step()
    assert optimizer.state[params[0]]["step"] == 2


def test_gradients_that_are_not_finite_show():
    params = make_params()
    optimizer = Lamb(groups_of(params))
    set_gradients(params, 0)
    params[0].grad[0, 0] = float("nan")
    params[1].grad[0] = float("inf")
    optimizer.step()
    assert params[0].isnan().any()
    assert params[1].isnan().any()
    assert params[2].isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize("gradient_everywhere", [True, False])
def test_parts_of_a_parameter_are_stepped_by_the_norms_of_the_whole(
    gradient_everywhere: bool, monkeypatch: pytest.MonkeyPatch
):
    """Two parts of one parameter in one process; a part without a gradient adds to the parameter's norm only."""
    monkeypatch.setattr("elc_composer.optim.lamb.placement_of", lambda param: Placement((None,)))
    monkeypatch.setattr(lamb_foreach, "sum_over_ranks", lambda values, placements: [sum(values)] * len(values))
    generator = torch.Generator().manual_seed(0)
    whole, grad = (torch.randn(10, generator=generator, dtype=torch.float64) for _ in range(2))
    parts = [nn.Parameter(part.clone()) for part in whole.split([6, 4])]
    for part, own in zip(parts, grad.split([6, 4])):
        part.grad = own.clone() if gradient_everywhere or len(own) == 6 else None
    Lamb(parts, lr=0.1, eps=1e-6, weight_decay=0.3).step()
    stepped = 10 if gradient_everywhere else 6
    # In the first step the corrected moments are the gradient and its square.
    update = (grad / (grad.abs() + 1e-6) + 0.3 * whole)[:stepped]
    expected = whole.clone()
    expected[:stepped] -= 0.1 * whole.norm() / update.norm() * update
    torch.testing.assert_close(torch.cat([part.detach() for part in parts]), expected, rtol=1e-12, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_never_waits_for_the_device():
    params = [nn.Parameter(param.detach().cuda()) for param in make_params()]
    optimizer = Lamb(groups_of(params))
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(param.isfinite().all() for param in params)


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ({"lr": -1.0}, "lr is -1.0"),
        ({"eps": -1e-8}, "eps is"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"betas": (0.9, 1.0)}, "betas are"),
        ({"betas": [0.9]}, "betas are"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, culprit: str):
    with pytest.raises(ConfigError, match=culprit):
        Lamb(make_params(), **arguments)


def test_sparse_gradients_are_refused():
    embedding = nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(ConfigError, match="dense"):
        Lamb(embedding.parameters()).step()

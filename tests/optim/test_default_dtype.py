"""Torch's default dtype changes neither LAMB's steps nor the learning rate."""

from __future__ import annotations

import torch
from torch import nn

from elc_composer.optim import Lamb, ScheduleConfig, build_scheduler
from tests.model.default_dtype import default_dtype, narrow


def trained(steps: int) -> tuple[Lamb, list[nn.Parameter], list[float]]:
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float32)) for shape in ((4, 3), (5,))]
    optimizer = Lamb([{"params": params[:1]}, {"params": params[1:], "weight_decay": 0.0}])
    scheduler = build_scheduler(ScheduleConfig(), optimizer, steps)
    rates = []
    for _ in range(steps):
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float32)
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return optimizer, params, rates


@narrow
def test_four_hundred_steps(narrow: torch.dtype) -> None:
    _, expected, expected_rates = trained(400)
    with default_dtype(narrow):
        optimizer, params, rates = trained(400)
    assert [float(state["step"]) for state in optimizer.state.values()] == [400.0, 400.0]
    assert all(state["step"].dtype == torch.float32 for state in optimizer.state.values())
    assert rates == expected_rates
    assert all(torch.equal(own, other) for own, other in zip(params, expected, strict=True))


@narrow
def test_state_of_narrow_parameters_loads_with_a_wide_count(narrow: torch.dtype) -> None:
    with default_dtype(narrow):
        optimizer, params, _ = trained(3)
        state = optimizer.state_dict()
        again = Lamb(params)
        again.load_state_dict({**state, "param_groups": [{**state["param_groups"][0], "params": [0, 1]}]})
    assert all(values["step"].dtype == torch.float32 for values in again.state.values())

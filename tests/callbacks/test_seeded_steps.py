"""SeededSteps: dropout depends on the seed and the step only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from elc_composer.callbacks import SeededSteps


def drawn(seed: int, step: int) -> list[float]:
    state: Any = SimpleNamespace(timestamp=SimpleNamespace(batch=step))
    SeededSteps(seed).batch_start(state, None)  # type: ignore[arg-type]
    return torch.nn.functional.dropout(torch.ones(200)).tolist()


def test_random_draws_of_a_step_do_not_depend_on_earlier_ones() -> None:
    first = drawn(3, 7)
    torch.rand(1000)
    assert drawn(3, 7) == first


def test_steps_and_seeds_differ() -> None:
    assert len({tuple(drawn(seed, step)) for seed in (3, 4, 1 << 40) for step in (0, 1, 7)}) == 9

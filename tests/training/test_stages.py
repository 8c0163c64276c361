from __future__ import annotations

import pytest

from elc_composer.common.errors import ConfigError
from elc_composer.training.stages import StageConfig, plan_stages, stage_at


def test_published_curriculum() -> None:
    first, second = plan_stages([StageConfig(128, 0.9, 32768), StageConfig(512, 0.1, 8192)], 15625)
    assert (first.first_step, first.last_step, second.first_step, second.last_step) == (0, 14062, 14062, 15625)
    assert first.tokens + second.tokens == 15625 * 32768 * 128


def test_steps_are_shared_out_without_gap() -> None:
    plan = plan_stages([StageConfig(8, 1 / 3, 4), StageConfig(16, 1 / 3, 2), StageConfig(32, 1 / 3, 1)], 100)
    assert [stage.steps for stage in plan] == [33, 34, 33]
    assert [stage_at(plan, step).index for step in (0, 32, 33, 66, 67, 99, 100)] == [0, 0, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("stages", "steps", "message"),
    [
        ([], 10, "sum to 0"),
        ([StageConfig(8, 0.5, 4)], 10, "sum to 0.5"),
        ([StageConfig(8, 0.99, 4), StageConfig(16, 0.01, 4)], 10, r"stages\.1.*without a step"),
        ([StageConfig(2, 1.0, 4)], 10, r"stages\.0.*at least 3"),
        ([StageConfig(8, 1.0, 0)], 10, r"stages\.0"),
    ],
)
def test_impossible_stages_are_refused(stages: list[StageConfig], steps: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_stages(stages, steps)

"""Learning-rate schedule over all steps of a run, independent of its stages.

Composer's `CosineAnnealingWithWarmupScheduler` has the published curve, but the trainer of Composer 0.32.1 asks a
`ComposerScheduler` for the next rate before it advances its clock: steps 0 and 1 both get multiplier 0, and each later
step the one of the step before. Torch's `LambdaLR` counts steps itself, and Composer saves and restores it, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from elc_composer.common.errors import ConfigError

SCHEDULES = ("cosine", "linear", "constant")


@dataclass
class ScheduleConfig:
    """Multiplier of the learning rate: linear warm-up from 0 to 1, then decay to `floor` at the end of the run."""

    name: str = "cosine"
    """Decay after the warm-up: `cosine`, `linear` or `constant` (stays at 1)."""
    warmup_fraction: float = 0.016
    """Warm-up as a share of all steps."""
    warmup_steps: int | None = None
    """Warm-up in steps; replaces `warmup_fraction`."""
    floor: float = 0.1
    """Multiplier at the end of the run."""


def count_warmup_steps(config: ScheduleConfig, total_steps: int) -> int:
    """Optimizer steps before the multiplier reaches 1.

    Raises:
        ConfigError: the warm-up is longer than `total_steps`, or negative.
    """
    if config.warmup_steps is not None:
        steps, name = config.warmup_steps, "warmup_steps"
    else:
        if not 0 <= config.warmup_fraction <= 1:
            raise ConfigError(f"schedule.warmup_fraction is {config.warmup_fraction}; it must lie between 0 and 1")
        steps, name = round(config.warmup_fraction * total_steps), "warmup_fraction"
    if not 0 <= steps <= total_steps:
        raise ConfigError(f"schedule.{name} gives {steps} warm-up steps; they must lie between 0 and all {total_steps}")
    return steps


def check_schedule(config: ScheduleConfig, total_steps: int) -> None:
    """Raise a ConfigError if the settings are invalid for `total_steps` optimizer steps."""
    if config.name not in SCHEDULES:
        raise ConfigError(f"schedule.name is {config.name!r}; it must be one of {', '.join(SCHEDULES)}")
    if not 0 <= config.floor <= 1:
        raise ConfigError(f"schedule.floor is {config.floor}; it must lie between 0 and 1")
    if total_steps < 1:
        raise ConfigError(f"the schedule has {total_steps} steps; it needs at least 1")
    count_warmup_steps(config, total_steps)


def lr_multiplier(config: ScheduleConfig, step: int, total_steps: int) -> float:
    """Multiplier of the peak learning rate at optimizer step `step`, counted from 0; constant after the run's end.

    Step 0 of a warm-up has multiplier 0, as published; `floor` is reached at `total_steps`, one step after the last.
    """
    warmup = count_warmup_steps(config, total_steps)
    if step < warmup:
        return step / warmup
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    if config.name == "constant":
        return 1.0
    if config.name == "linear":
        return 1.0 - (1.0 - config.floor) * progress
    return config.floor + (1.0 - config.floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def build_scheduler(config: ScheduleConfig, optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """Build a scheduler for `Trainer(schedulers=..., step_schedulers_every_batch=True)`.

    Without `step_schedulers_every_batch` Composer steps torch's schedulers once per epoch. On return the optimizer's
    learning rates are those of step 0.

    Raises:
        ConfigError: an unknown name or a number out of range.
    """
    check_schedule(config, total_steps)
    return LambdaLR(optimizer, lambda step: lr_multiplier(config, step, total_steps))

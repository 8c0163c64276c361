"""Learning-rate schedule: one multiplier a step of the whole run, whatever stages the run is cut into.

Composer's `CosineAnnealingWithWarmupScheduler` has the published curve, but Composer 0.32's trainer asks a
`ComposerScheduler` for the next rate before it advances the clock: steps 0 and 1 both get multiplier 0, later ones
their predecessor's. Torch's `LambdaLR` counts for itself: step s gets multiplier s. Composer drives and saves it alike.
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
    """Decay after the warm-up: `cosine`, `linear` or `constant` (no decay)."""
    warmup_fraction: float = 0.016
    """Warm-up as a share of the run's optimizer steps."""
    warmup_steps: int | None = None
    """Warm-up in optimizer steps; null: `warmup_fraction` decides."""
    floor: float = 0.1
    """Multiplier at the end of the run."""


def count_warmup_steps(config: ScheduleConfig, total_steps: int) -> int:
    """Optimizer steps before the multiplier reaches 1.

    Raises:
        ConfigError: the warm-up does not fit into `total_steps`.
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
    """Raise a ConfigError if the schedule cannot run over `total_steps` optimizer steps."""
    if config.name not in SCHEDULES:
        raise ConfigError(f"schedule.name is {config.name!r}; it must be one of {', '.join(SCHEDULES)}")
    if not 0 <= config.floor <= 1:
        raise ConfigError(f"schedule.floor is {config.floor}; it must lie between 0 and 1")
    if total_steps < 1:
        raise ConfigError(f"a schedule over {total_steps} steps is empty; the run needs at least one")
    count_warmup_steps(config, total_steps)


def lr_multiplier(config: ScheduleConfig, step: int, total_steps: int) -> float:
    """What optimizer step `step`, from 0, multiplies the peak learning rate by; constant beyond the run's end.

    Step 0 of a warm-up has 0, as published; the floor is reached at `total_steps`, one step after the last.
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
    """A scheduler over the optimizer's groups, for `Trainer(schedulers=..., step_schedulers_every_batch=True)`.

    Composer steps torch's schedulers once an epoch unless it is told so. The optimizer's rates are those of step 0 when
    this returns.

    Raises:
        ConfigError: an unknown name or numbers out of range.
    """
    check_schedule(config, total_steps)
    return LambdaLR(optimizer, lambda step: lr_multiplier(config, step, total_steps))

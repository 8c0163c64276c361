"""LAMB, learning-rate schedule and parameter groups for any PyTorch or Composer project."""

from __future__ import annotations

from elc_composer.optim.lamb import Lamb
from elc_composer.optim.optimizer import OptimizerConfig, build_optimizer
from elc_composer.optim.parameter_groups import no_decay_names, parameter_groups
from elc_composer.optim.schedule import ScheduleConfig, build_scheduler

__all__ = [
    "Lamb",
    "OptimizerConfig",
    "ScheduleConfig",
    "build_optimizer",
    "build_scheduler",
    "no_decay_names",
    "parameter_groups",
]

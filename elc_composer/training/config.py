"""What a run is: one dataclass that nests every component's own; `load_config` reads it from YAML and overrides.

docs/configuration.md lists all keys with their defaults, made from these very classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import MISSING

from elc_composer.checkpoints.resume import CheckpointsConfig
from elc_composer.common.strict_yaml import load_strict
from elc_composer.data.config import DataConfig
from elc_composer.data.masking import MaskingConfig
from elc_composer.model import ElcConfig
from elc_composer.optim import OptimizerConfig, ScheduleConfig
from elc_composer.training.callbacks import CallbacksConfig
from elc_composer.training.evaluators import EvaluatorsConfig
from elc_composer.training.loggers import LoggersConfig
from elc_composer.training.parallelism import ParallelismConfig, Precision
from elc_composer.training.stages import StageConfig


def _fields_of(function: Any) -> list[tuple[str, Any, Any]]:
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, hints[p.name], p.default) for p in parameters if p.name != "self" and p.kind is not p.VAR_KEYWORD]


# The model's own constructor is the one place that names its settings; it cannot import from here, so it is read here.
ModelConfig = make_dataclass("ModelConfig", _fields_of(ElcConfig.__init__))
ModelConfig.__doc__ = ElcConfig.__doc__


@dataclass
class RunConfig:
    """One training run."""

    run_name: str = MISSING
    """Names the run in logs and its folder."""
    run_folder: str = "runs/${run_name}"
    """Everything that the run writes goes here."""
    seed: int = 0
    max_steps: int = MISSING
    """Optimizer steps of the whole run."""
    model: ModelConfig = field(default_factory=ModelConfig)  # type: ignore[valid-type]
    tokenizer: str | None = None
    """Tokenizer file or folder; null takes the one that the first data stream was prepared with."""
    data: DataConfig = field(default_factory=DataConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    gradient_clip_norm: float | None = 2.0
    """Largest global norm of a step's gradient; null clips nothing."""
    label_smoothing: float = 0.0
    """Share of a label's probability spread over the vocabulary in the training loss; dev loss and export ignore it."""
    stages: list[StageConfig] = field(
        default_factory=lambda: [StageConfig(128, 0.9, 32768), StageConfig(512, 0.1, 8192)]
    )
    precision: Precision = Precision.amp_bf16
    parallelism: ParallelismConfig = field(default_factory=ParallelismConfig)
    callbacks: CallbacksConfig = field(default_factory=CallbacksConfig)
    evaluators: EvaluatorsConfig = field(default_factory=EvaluatorsConfig)
    loggers: LoggersConfig = field(default_factory=LoggersConfig)
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    dry_run: bool = False
    """Print what would be trained, check data and tokenizer, and stop; the same as `--dry-run`."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The run config of a YAML file with `key=value` overrides; see `load_strict` for what it refuses and how."""
    return load_strict(RunConfig, Path(path), overrides)

"""The run config: one dataclass that nests those of all components; `load_config` reads it from YAML and overrides.

docs/configuration.md lists all keys with types, defaults and descriptions; it is generated from these classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from elc_composer.checkpoints.resume import CheckpointsConfig
from elc_composer.common.strict_yaml import load_strict
from elc_composer.data.config import DataConfig
from elc_composer.data.masking import MaskingConfig
from elc_composer.optim import OptimizerConfig, ScheduleConfig
from elc_composer.training.callbacks import CallbacksConfig
from elc_composer.training.evaluators import EvaluatorsConfig
from elc_composer.training.loggers import LoggersConfig
from elc_composer.training.model_config import ModelConfig
from elc_composer.training.parallelism import ParallelismConfig, Precision
from elc_composer.training.stages import StageConfig


@dataclass
class RunConfig:
    """One training run."""

    run_name: str
    """Name of the run in loggers; part of the default `run_folder`."""
    max_steps: int
    """Optimizer steps of the whole run."""
    run_folder: str = "runs/${run_name}"
    """Folder for everything that the run writes; a run in it is resumed."""
    seed: int = 0
    """Seed of initial weights, dropout, sample order and masking."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Shape and variant of the model."""
    tokenizer: str | None = None
    """Tokenizer file or folder; null: the tokenizer in the folder of the first data stream."""
    data: DataConfig = field(default_factory=DataConfig)
    """Data streams, sample order, and download settings."""
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    """Choice and replacement of the tokens to predict."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimizer and its settings."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Learning-rate schedule."""
    gradient_clip_norm: float | None = 2.0
    """Largest global L2 norm of a step's gradient, larger ones are scaled down to it; null: no clipping."""
    label_smoothing: float = 0.0
    """Share of a label's probability spread over the vocabulary in the training loss; dev loss and export ignore it."""
    stages: list[StageConfig] = field(
        default_factory=lambda: [StageConfig(128, 0.9, 32768), StageConfig(512, 0.1, 8192)]
    )
    """Length curriculum: parts of the run with their own sequence length and batch size, in order."""
    precision: Precision = Precision.amp_bf16
    """Arithmetic of forward and backward pass; parameters and optimizer state are float32."""
    parallelism: ParallelismConfig = field(default_factory=ParallelismConfig)
    """Distribution over devices, and trade-offs between memory and speed."""
    callbacks: CallbacksConfig = field(default_factory=CallbacksConfig)
    """Monitors and the bad-loss guard."""
    evaluators: EvaluatorsConfig = field(default_factory=EvaluatorsConfig)
    """Evaluation during training."""
    loggers: LoggersConfig = field(default_factory=LoggersConfig)
    """Destinations of the metrics."""
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    """Saving and resuming."""
    dry_run: bool = False
    """Print the planned run, check data and tokenizer, and stop; same as `--dry-run`."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run config from a YAML file and `key=value` overrides; see `load_strict` for rules and errors."""
    return load_strict(RunConfig, Path(path), overrides)

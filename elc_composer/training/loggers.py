"""Where a run's figures go: Composer's loggers by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from composer.core import TimeUnit
from composer.loggers import FileLogger, LoggerDestination, MLFlowLogger, TensorboardLogger, WandBLogger

from elc_composer.callbacks.metrics_file import MetricsFile
from elc_composer.common.errors import ConfigError
from elc_composer.common.intervals import parse_interval
from elc_composer.common.run_folder import LOG, METRICS, TENSORBOARD


@dataclass
class WandbConfig:
    """Weights & Biases; the key comes from the environment (`WANDB_API_KEY`), never from a config."""

    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass
class MlflowConfig:
    """MLflow; the server comes from `tracking_uri` or the environment (`MLFLOW_TRACKING_URI`)."""

    experiment_name: str | None = None
    tracking_uri: str | None = None


@dataclass
class LoggersConfig:
    """Each logger that is switched on gets every metric."""

    metrics_file: bool = True
    """`metrics.jsonl` in the run folder, which pictures and reports are made from."""
    progress_bar: bool = True
    console_interval: str | None = None
    """Print metrics at this Composer time string; null prints none."""
    log_file: bool = False
    """`log-rank{rank}.txt` in the run folder, one a rank; a run that starts again begins it anew."""
    tensorboard: bool = False
    """Event files in `<run_folder>/tensorboard`; needs the extra `tensorboard`."""
    wandb: WandbConfig | None = None
    """Needs the extra `wandb`."""
    mlflow: MlflowConfig | None = None
    """Needs the package mlflow."""

    def __post_init__(self) -> None:
        if self.console_interval is not None:
            # Composer's ConsoleLogger counts nothing else.
            parse_interval(self.console_interval, "loggers.console_interval", (TimeUnit.BATCH, TimeUnit.EPOCH))


def build_loggers(config: LoggersConfig, run_folder: Path, run_name: str) -> list[LoggerDestination]:
    """The loggers that are switched on, besides Composer's own progress bar and console.

    Raises:
        ConfigError: naming the logger whose package is not installed.
    """
    loggers: list[LoggerDestination] = []
    if config.metrics_file:
        loggers.append(MetricsFile(str(run_folder / METRICS)))
    if config.log_file:
        loggers.append(FileLogger(filename=str(run_folder / LOG), remote_file_name=None, overwrite=True))
    try:
        if config.tensorboard:
            loggers.append(TensorboardLogger(log_dir=str(run_folder / TENSORBOARD)))
        if config.wandb is not None:
            loggers.append(
                WandBLogger(
                    project=config.wandb.project,
                    entity=config.wandb.entity,
                    group=config.wandb.group,
                    tags=config.wandb.tags,
                    name=run_name,
                )
            )
        if config.mlflow is not None:
            loggers.append(
                MLFlowLogger(
                    experiment_name=config.mlflow.experiment_name,
                    run_name=run_name,
                    tracking_uri=config.mlflow.tracking_uri,
                )
            )
    except ImportError as error:
        raise ConfigError(f"loggers: {' '.join(str(error).split())}") from error
    return loggers

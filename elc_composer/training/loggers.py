"""The `loggers` section: destinations of the metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from composer.core import TimeUnit
from composer.loggers import FileLogger, LoggerDestination, MLFlowLogger, TensorboardLogger, WandBLogger
from composer.utils import dist

from elc_composer.callbacks.metrics_file import MetricsFile
from elc_composer.common.errors import ConfigError, one_line
from elc_composer.common.intervals import parse_interval
from elc_composer.common.run_folder import LOG, METRICS, TENSORBOARD
from elc_composer.training.tracking import wandb_run_id


@dataclass
class WandbConfig:
    """Weights & Biases. The API key comes from the environment variable `WANDB_API_KEY`."""

    project: str | None = None
    """Project name; null: wandb's default."""
    entity: str | None = None
    """User or team; null: wandb's default."""
    group: str | None = None
    """Group that the run belongs to."""
    tags: list[str] = field(default_factory=list)
    """Tags of the run."""


@dataclass
class MlflowConfig:
    """MLflow. Credentials come from the environment."""

    experiment_name: str | None = None
    """Experiment name; null: Composer's default."""
    tracking_uri: str | None = None
    """Server address; null: the environment variable `MLFLOW_TRACKING_URI`."""


@dataclass
class LoggersConfig:
    """Destinations of the metrics; each one that is on gets all metrics."""

    metrics_file: bool = True
    """Write `metrics.jsonl` into the run folder; reports need it."""
    progress_bar: bool = True
    """Show a progress bar on the terminal."""
    console_interval: str | None = None
    """Interval of printing metrics: a time string in ba or ep; null: never."""
    log_file: bool = False
    """Write `log-rank{rank}.txt` into the run folder, overwritten when the run is resumed."""
    tensorboard: bool = False
    """Write event files to `<run_folder>/tensorboard`; needs the extra `tensorboard`."""
    wandb: WandbConfig | None = None
    """Log to Weights & Biases; needs the extra `wandb`."""
    mlflow: MlflowConfig | None = None
    """Log to MLflow; needs the package mlflow."""

    def __post_init__(self) -> None:
        if self.console_interval is not None:
            # Composer's ConsoleLogger counts nothing else.
            parse_interval(self.console_interval, "loggers.console_interval", (TimeUnit.BATCH, TimeUnit.EPOCH))


def build_loggers(
    config: LoggersConfig, run_folder: Path, run_name: str, *, resumed: bool = False
) -> list[LoggerDestination]:
    """Build the loggers that are on, except Composer's progress bar and console.

    Args:
        config: the section.
        run_folder: folder of the log files and of the W&B run id, which all processes of the run share.
        run_name: name of the run in W&B and MLflow.
        resumed: continue the newest MLflow run of that name.

    Raises:
        ConfigError: the package of a logger is not installed.
    """
    loggers: list[LoggerDestination] = []
    first = dist.get_global_rank() == 0
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
                    init_kwargs={"id": wandb_run_id(run_folder), "resume": "allow"} if first else {},
                )
            )
        if config.mlflow is not None:
            loggers.append(
                MLFlowLogger(
                    experiment_name=config.mlflow.experiment_name,
                    run_name=run_name,
                    tracking_uri=config.mlflow.tracking_uri,
                    resume=resumed,
                    # MLflow refuses another value for a parameter, and Composer logs the number of nodes as one.
                    ignore_hyperparameters=["*"] if resumed else None,
                )
            )
    except ImportError as error:
        raise ConfigError(f"loggers: {one_line(error)}") from error
    return loggers

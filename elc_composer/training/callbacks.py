"""The `callbacks` section: this project's monitors and Composer's, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from composer import Callback
from composer.callbacks import LRMonitor, MemoryMonitor, OptimizerMonitor, RuntimeEstimator, SpeedMonitor

from elc_composer.callbacks import (
    DataWaitMonitor,
    LayerWeightMonitor,
    LossGuard,
    MixedInputMonitor,
    StepMetrics,
    WeightDistributionMonitor,
)
from elc_composer.callbacks.minimal_pair_plot import MinimalPairPlot
from elc_composer.common.errors import ConfigError
from elc_composer.common.run_folder import MINIMAL_PAIRS_PICTURE


@dataclass
class SpeedMonitorConfig:
    """Composer's SpeedMonitor: tokens, samples and FLOPs per second, and MFU on known GPUs."""

    window_size: int = 50
    """Number of batches that a rate is averaged over."""
    gpu_flops_available: float | None = None
    """Peak FLOPs per second of one GPU, for MFU; null: Composer's table."""

    def __post_init__(self) -> None:
        if self.window_size < 1:
            raise ConfigError(f"speed_monitor.window_size is {self.window_size}; it must be at least 1")


@dataclass
class OptimizerMonitorConfig:
    """Composer's OptimizerMonitor: gradient norms of every parameter. DDP only: under FSDP its norms are per rank."""

    batch_log_interval: int = 100
    """Batches between two measurements."""

    def __post_init__(self) -> None:
        if self.batch_log_interval < 1:
            raise ConfigError(
                f"optimizer_monitor.batch_log_interval is {self.batch_log_interval}; it must be at least 1"
            )


@dataclass
class CallbacksConfig:
    """Monitors and the bad-loss guard. A section that is given is on, null is off; defaults show which are on."""

    layer_weight_monitor: LayerWeightMonitor | None = field(default_factory=LayerWeightMonitor)
    """Shares of the earlier layers in the input of each layer."""
    weight_distribution_monitor: WeightDistributionMonitor | None = None
    """Distributions of weights, gradients and updates of each layer."""
    mixed_input_monitor: MixedInputMonitor | None = None
    """Norms of the mixed inputs of each layer and of the contributions to them."""
    speed_monitor: SpeedMonitorConfig | None = field(default_factory=SpeedMonitorConfig)
    """Throughput in tokens, samples and FLOPs per second."""
    data_wait_monitor: DataWaitMonitor | None = field(default_factory=DataWaitMonitor)
    """Time spent waiting for batches."""
    optimizer_monitor: OptimizerMonitorConfig | None = None
    """Gradient norms of every parameter; DDP only."""
    gradient_norm: bool = True
    """Log `gradient/norm`, the global gradient norm before clipping, at every step."""
    step_metrics: bool = True
    """Log masked accuracy, sequence length, epochs and words seen at every step."""
    loss_guard: LossGuard | None = field(default_factory=LossGuard)
    """Reaction to NaN, infinite and unusually large losses."""
    minimal_pair_plot: bool = True
    """Draw the accuracies on each set of minimal pairs after every evaluation."""
    lr_monitor: bool = True
    """Log the learning rate of each parameter group at every step."""
    memory_monitor: bool = False
    """Log the memory use of the GPU (Composer's MemoryMonitor)."""
    runtime_estimator: bool = False
    """Log an estimate of the remaining time (Composer's RuntimeEstimator)."""


def build_monitors(config: CallbacksConfig, run_folder: Path) -> list[Callback]:
    """Build the callbacks that are on; monitors with the default folder write into the run folder."""
    # First: W&B and the metrics file take no values for a step after those of the next one.
    callbacks: list[Callback] = [StepMetrics()] if config.step_metrics else []
    if config.data_wait_monitor is not None:
        callbacks.append(config.data_wait_monitor)
    monitors = (
        config.loss_guard,
        config.layer_weight_monitor,
        config.weight_distribution_monitor,
        config.mixed_input_monitor,
    )
    for monitor in monitors:
        if monitor is not None:
            if monitor.folder == type(monitor).folder:
                monitor.folder = str(run_folder)
            callbacks.append(monitor)
    if config.minimal_pair_plot:
        callbacks.append(MinimalPairPlot(str(run_folder / MINIMAL_PAIRS_PICTURE)))
    if config.speed_monitor is not None:
        speed = config.speed_monitor
        callbacks.append(SpeedMonitor(window_size=speed.window_size, gpu_flops_available=speed.gpu_flops_available))
    if config.optimizer_monitor is not None:
        callbacks.append(OptimizerMonitor(batch_log_interval=config.optimizer_monitor.batch_log_interval))
    switches: list[tuple[bool, type[Callback]]] = [
        (config.lr_monitor, LRMonitor),
        (config.memory_monitor, MemoryMonitor),
        (config.runtime_estimator, RuntimeEstimator),
    ]
    return callbacks + [callback() for on, callback in switches if on]

"""Which callbacks a run has: this project's monitors and Composer's own, by name."""

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


@dataclass
class SpeedMonitorConfig:
    """Composer's SpeedMonitor: tokens, samples, FLOPs a second, and MFU on GPUs that it knows."""

    window_size: int = 50
    """Batches that a rate is taken over."""
    gpu_flops_available: float | None = None
    """Peak FLOPs a second of one GPU, for MFU; null looks it up."""

    def __post_init__(self) -> None:
        if self.window_size < 1:
            raise ConfigError(f"speed_monitor.window_size is {self.window_size}; it must be at least 1")


@dataclass
class OptimizerMonitorConfig:
    """Composer's OptimizerMonitor: gradient norms of every parameter; for DDP only, being local under FSDP."""

    batch_log_interval: int = 100

    def __post_init__(self) -> None:
        if self.batch_log_interval < 1:
            raise ConfigError(f"optimizer_monitor.batch_log_interval is {self.batch_log_interval}; give at least 1")


@dataclass
class CallbacksConfig:
    """A callback is on where its section is given, and off where it is null; the defaults say which are on anyway."""

    layer_weight_monitor: LayerWeightMonitor | None = field(default_factory=LayerWeightMonitor)
    weight_distribution_monitor: WeightDistributionMonitor | None = None
    mixed_input_monitor: MixedInputMonitor | None = None
    speed_monitor: SpeedMonitorConfig | None = field(default_factory=SpeedMonitorConfig)
    data_wait_monitor: DataWaitMonitor | None = field(default_factory=DataWaitMonitor)
    optimizer_monitor: OptimizerMonitorConfig | None = None
    gradient_norm: bool = True
    """Log `gradient/norm`, the whole gradient's norm before clipping, at every step."""
    step_metrics: bool = True
    """Log masked accuracy, sequence length and epochs seen at every step."""
    loss_guard: LossGuard | None = field(default_factory=LossGuard)
    minimal_pair_plot: bool = True
    """Draw each set of minimal pairs' accuracies after every evaluation."""
    lr_monitor: bool = True
    memory_monitor: bool = False
    runtime_estimator: bool = False


def build_monitors(config: CallbacksConfig, run_folder: Path) -> list[Callback]:
    """The callbacks that are switched on; monitors that name no folder of their own write into the run's."""
    # First, as its docstring asks.
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
        callbacks.append(MinimalPairPlot(str(run_folder / "minimal_pairs_{label}.png")))
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

"""Callbacks for any Composer project: what layers read, how weights are spread, a run's metrics, faults and its end."""

from .data_wait import DataWaitMonitor
from .gradient_norm import GradientNorm
from .layer_weights import LayerWeightMonitor
from .loss_guard import BadLoss, LossGuard
from .metrics_file import MetricsFile
from .mixed_inputs import MixedInputMonitor
from .preemption import Preemption
from .seeded_steps import SeededSteps
from .step_metrics import StepMetrics
from .weight_distribution import WeightDistributionMonitor

__all__ = [
    "BadLoss",
    "DataWaitMonitor",
    "GradientNorm",
    "LayerWeightMonitor",
    "LossGuard",
    "MetricsFile",
    "MixedInputMonitor",
    "Preemption",
    "SeededSteps",
    "StepMetrics",
    "WeightDistributionMonitor",
]

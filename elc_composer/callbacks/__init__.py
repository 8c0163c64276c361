"""Callbacks for any Composer project: layer weights, weight distributions, metrics file, bad-loss guard, SIGTERM."""

from elc_composer.callbacks.data_wait import DataWaitMonitor
from elc_composer.callbacks.gradient_norm import GradientNorm
from elc_composer.callbacks.layer_weights import LayerWeightMonitor
from elc_composer.callbacks.loss_guard import BadLoss, LossGuard
from elc_composer.callbacks.metrics_file import MetricsFile
from elc_composer.callbacks.mixed_inputs import MixedInputMonitor
from elc_composer.callbacks.preemption import Preemption
from elc_composer.callbacks.seeded_steps import SeededSteps
from elc_composer.callbacks.step_metrics import StepMetrics
from elc_composer.callbacks.weight_distribution import WeightDistributionMonitor

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

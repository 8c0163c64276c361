"""Callbacks for any Composer project: what layers read, how weights are spread, and a run's metrics in a file."""

from .layer_weights import LayerWeightMonitor
from .metrics_file import MetricsFile
from .mixed_inputs import MixedInputMonitor
from .weight_distribution import WeightDistributionMonitor

__all__ = ["LayerWeightMonitor", "MetricsFile", "MixedInputMonitor", "WeightDistributionMonitor"]

"""Callbacks for any Composer project: what layers read, how weights are spread, and a run's metrics in a file."""

from .layer_weights import LayerWeightMonitor

__all__ = ["LayerWeightMonitor"]

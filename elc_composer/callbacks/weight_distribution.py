"""Monitors the distributions of weights, gradients and updates, per layer and per parameter group."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist
from torch import Tensor

from elc_composer.callbacks.measuring.destinations import log_histograms
from elc_composer.callbacks.measuring.distributions import Spread, histogram, spread_of, sums_of, weighted_quantiles
from elc_composer.callbacks.measuring.local_shards import Shards
from elc_composer.callbacks.measuring.record_files import RecordFile, run_path
from elc_composer.callbacks.measuring.sampling import Sample
from elc_composer.common import run_folder
from elc_composer.common.errors import ConfigError
from elc_composer.common.intervals import Interval
from elc_composer.common.module_names import units


@dataclass(eq=False)
class WeightDistributionMonitor(Callback):
    """Logs statistics of the weights, gradients and updates of every layer and optimizer parameter group.

    A unit is a layer (`transformer.layers.3`: the path up to the first number), a part outside the layers
    (`embedding`) or a parameter group of the optimizer (`group_0`, or its `name`). Norms, moments and shares cover
    every element; quantiles, histograms and update ratios come from a fixed, evenly spaced sample of each parameter.
    Sharded parameters (FSDP1, FSDP2) are not gathered: each rank sums over its part, and one small reduction gives the
    same results as on one device.

    +------------------------------------------------+-----------------------------------------------------------------+
    | Key                                            | Logged data                                                     |
    +================================================+=================================================================+
    | ``weight_distribution/{unit}/norm``            | L2 norm of the finite weights (moments: also finite ones only)  |
    | ``weight_distribution/{unit}/mean``, ``std``   | Mean and standard deviation                                     |
    | ``weight_distribution/{unit}/abs_max``         | Largest magnitude                                               |
    | ``weight_distribution/{unit}/zeros``           | Share of exact zeros                                            |
    | ``weight_distribution/{unit}/nonfinite``       | Share of NaN and infinities                                     |
    | ``weight_distribution/{unit}/q{percent}``      | Quantiles (``q1``, ``q25``, ...)                                |
    | ``weight_distribution/{unit}/update_ratio``    | Norm of the batch's update / norm of the weights before it      |
    | ``weight_distribution/{unit}/grad_norm``       | L2 norm of the gradient that the optimizer uses (after clipping)|
    | ``weight_distribution/{unit}/grad_std``        | Its standard deviation                                          |
    | ``weight_distribution/{unit}/grad_nonfinite``  | Its share of NaN and infinities                                 |
    | ``weight_histograms/{unit}``                   | Histogram of the weights, in TensorBoard and W&B                |
    +------------------------------------------------+-----------------------------------------------------------------+

    In `folder`: `weight_histograms.jsonl` (`{"step": ..., "units": {unit: {"low", "high", "counts": [...]}}}`, all
    histograms). It measures the first batch, then one batch every `interval`.

    Raises:
        ConfigError: an invalid interval; sample size, bins or quantiles out of range.
    """

    interval: str = "100ba"
    """How often to measure: a Composer time string."""
    sample_size: int = 1024
    """Elements of each parameter in the sample for quantiles, histograms and update ratios."""
    exact: bool = True
    """False: norms and moments also come from the sample; for models where a pass over all weights is slow."""
    per_parameter: bool = False
    """Also log each parameter separately."""
    quantiles: list[float] = field(default_factory=lambda: [0.01, 0.25, 0.5, 0.75, 0.99])
    """Between 0 and 1."""
    bins: int = 64
    """Bins of a histogram; 0 draws none."""
    folder: str | None = "runs/{run_name}"
    """Folder of the histograms, with Composer's placeholders; null: only loggers get them."""

    def __post_init__(self) -> None:
        """Check the settings."""
        self._interval = Interval(self.interval, "weight_distribution_monitor.interval")
        if self.sample_size < 1 or self.bins < 0:
            raise ConfigError("weight_distribution_monitor: sample_size must be at least 1 and bins at least 0")
        if any(not 0 <= level <= 1 for level in self.quantiles):
            raise ConfigError(f"weight_distribution_monitor.quantiles: {self.quantiles} must lie between 0 and 1")
        self._sample: Sample | None = None
        self._units: dict[str, list[int]] = {}
        self._before: Tensor | None = None
        self._records = RecordFile(None)

    def fit_start(self, state: State, logger: Logger) -> None:
        """Find the part of each parameter that this rank holds."""
        self._interval.restart(state, before=True)
        self._find(state)
        folder = run_path(self.folder, state) if self.bins else None
        self._records = RecordFile(folder and folder / run_folder.WEIGHT_HISTOGRAMS)
        self._records.cut(int(state.timestamp.batch))

    def batch_start(self, state: State, logger: Logger) -> None:
        """Store the sampled weights before a batch that is measured."""
        if self._sample is None:
            self._find(state)
        assert self._sample is not None
        self._before = self._sample.local() if self._interval.wants_batch(state) and self._units else None

    def batch_end(self, state: State, logger: Logger) -> None:
        """Measure the batch."""
        if self._before is not None:
            self._measure(state, logger, self._before)
        self._before = None

    def _find(self, state: State) -> None:
        shards = Shards(state.model)
        self._sample = Sample(shards, self.sample_size)
        names = [shard.name for shard in shards]
        self._units = {}
        for index, unit in enumerate(units(names).values()):
            self._units.setdefault(unit, []).append(index)
        groups = [group for optimizer in state.optimizers for group in optimizer.param_groups]
        for number, group in enumerate(groups):
            members = {id(parameter) for parameter in group["params"]}
            found = [index for index, shard in enumerate(shards) if id(shard.parameter) in members]
            if found:
                self._units[str(group.get("name", f"group_{number}"))] = found
        if self.per_parameter:
            self._units.update({name: [index] for index, name in enumerate(names)})
        if not names and dist.get_global_rank() == 0:
            warnings.warn("WeightDistributionMonitor: the model has no parameters, so nothing is logged", stacklevel=2)

    def _measure(self, state: State, logger: Logger, before: Tensor) -> None:
        sample = self._sample
        assert sample is not None
        now = sample.local()
        sums, tops = sums_of(sample, before, now, self.exact)
        values = sample.assemble(now)
        metrics: dict[str, float] = {}
        histograms: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for unit, members in self._units.items():
            spread = spread_of(sums[members].sum(0), max(float(tops[i]) for i in members))
            elements = np.concatenate([values[i].double().numpy() for i in members])
            weights = np.concatenate([np.full(len(values[i]), float(sample.stands_for[i])) for i in members])
            figures = self._figures(spread, elements, weights)
            metrics.update({f"weight_distribution/{unit}/{key}": value for key, value in figures.items()})
            if self.bins and np.isfinite(elements).any():
                histograms[unit] = histogram(elements, weights, self.bins)
        logger.log_metrics(metrics)
        step = int(state.timestamp.batch)
        if histograms:
            log_histograms(logger, {f"weight_histograms/{unit}": found for unit, found in histograms.items()}, step)
            kept = {
                unit: {"low": float(edges[0]), "high": float(edges[-1]), "counts": [round(float(c)) for c in counts]}
                for unit, (counts, edges) in histograms.items()
            }
            self._records.append({"step": step, "units": kept})

    def _figures(self, spread: Spread, elements: np.ndarray, weights: np.ndarray) -> dict[str, float]:
        finite = np.isfinite(elements)
        found = weighted_quantiles(elements[finite], weights[finite], self.quantiles) if finite.any() else []
        return spread.metrics() | {f"q{100 * level:g}": value for level, value in zip(self.quantiles, found)}

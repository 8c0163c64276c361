"""Monitors the norm of each layer's mixed input and of each source's contribution to it."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist
from torch.nn import Module

from elc_composer.callbacks.measuring.destinations import log_picture, save_picture
from elc_composer.callbacks.measuring.probes import Probe
from elc_composer.callbacks.measuring.record_files import RecordFile, run_path
from elc_composer.common import run_folder
from elc_composer.common.errors import ConfigError
from elc_composer.common.intervals import Interval
from elc_composer.common.module_names import clean_name, layer_labels
from elc_composer.figures.canvas import pixels
from elc_composer.figures.heatmap import heatmap


@dataclass(eq=False)
class MixedInputMonitor(Callback):
    """Logs the norm of each layer's input and the share that each source contributes to it.

    A source with a small weight but large outputs can contribute more than one with a large weight. Norms are L2 norms
    of one token's vector, averaged over the real tokens of a whole batch (all microbatches, all ranks), or over all
    positions if the batch has no mask of the states' shape. Labels are those of `LayerWeightMonitor`.

    +-------------------------------------------+-------------------------------------------------------------------+
    | Key                                       | Logged data                                                       |
    +===========================================+===================================================================+
    | ``mixed_input/layer_{n}/norm``            | Mean norm of layer n's input, the weighted sum of its sources     |
    | ``mixed_input/layer_{n}/from_{i}``        | Mean norm of source i's contribution, softmax weight times norm   |
    | ``mixed_input/layer_{n}/share_{i}``       | The contribution as a share of all sources' contributions         |
    | ``mixed_input/heatmap``                   | Picture of the shares, in loggers that show images                |
    +-------------------------------------------+-------------------------------------------------------------------+

    In `folder`: `mixed_inputs.jsonl` (`{"step": ..., "layers": {"1": {"norm": ..., "contributions": [...]}}}`) and
    the newest heatmap `mixed_inputs.png`. It measures the first batch, then one every `interval`, and hooks
    modules only during these. A module is measured if it has a parameter that matches the pattern, and if it receives
    or returns a list or tuple of the states that it mixes. A compiled model runs uncompiled for the measured batches.

    Raises:
        ConfigError: an invalid interval or pattern.
    """

    pattern: str = r"(^|\.)prev_layer_weights$"
    """Regular expression, searched in parameter names (without the prefixes of DDP, FSDP and other wrappers)."""
    interval: str = "250ba"
    """How often to measure: a Composer time string."""
    picture_interval: str = "1000ba"
    """How often to draw the newest measurement; also drawn at the end."""
    folder: str | None = "runs/{run_name}"
    """Folder of measurements and heatmap, with Composer's placeholders; null: only metrics."""
    mask_key: str = "attention_mask"
    """Key of the batch entry `[B, T]` that is nonzero at real tokens."""

    def __post_init__(self) -> None:
        """Check the settings."""
        try:
            self._pattern = re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(
                f"mixed_input_monitor.pattern: {self.pattern!r} is not a regular expression: {error}"
            ) from error
        self._interval = Interval(self.interval, "mixed_input_monitor.interval")
        self._pictures = Interval(self.picture_interval, "mixed_input_monitor.picture_interval")
        self._probes: dict[str, Probe] | None = None
        self._handles: list[Any] = []
        self._watching = self._warned = False
        self._uncompiled = ExitStack()
        self._records = RecordFile(None)
        self._folder: Path | None = None
        self._newest: tuple[int, dict[str, list[float]]] | None = None

    def fit_start(self, state: State, logger: Logger) -> None:
        """Find the modules that mix states."""
        self._interval.restart(state, before=True)
        self._pictures.restart(state)
        self._find(state.model)
        self._folder = run_path(self.folder, state)
        self._records = RecordFile(self._folder and self._folder / run_folder.MIXED_INPUTS)
        if self._probes:
            self._records.cut(int(state.timestamp.batch))
        else:
            self._records.forget(int(state.timestamp.batch))

    def batch_start(self, state: State, logger: Logger) -> None:
        """Decide whether to measure this batch."""
        if self._probes is None:
            self._find(state.model)
        self._watching = bool(self._probes) and self._interval.wants_batch(state)
        if self._watching and "torch._dynamo" in sys.modules:
            # Compiled code does not call hooks that were attached after it was compiled.
            self._uncompiled.enter_context(torch.compiler.set_stance("force_eager"))

    def before_train_batch(self, state: State, logger: Logger) -> None:
        """Reset the sums: Composer repeats a batch that ran out of memory with smaller microbatches."""
        for probe in (self._probes or {}).values():
            probe.sums = None

    def before_forward(self, state: State, logger: Logger) -> None:
        """Attach the hooks."""
        self._detach()
        if self._watching:
            mask = state.batch.get(self.mask_key) if isinstance(state.batch, Mapping) else None
            for probe in (self._probes or {}).values():
                self._handles += probe.attach(mask)

    def after_forward(self, state: State, logger: Logger) -> None:
        """Detach the hooks: activation checkpointing runs layers again in the backward pass."""
        self._detach()

    def batch_end(self, state: State, logger: Logger) -> None:
        """Log the measured batch; draw when due."""
        self._uncompiled.close()
        if self._watching:
            self._measure(state, logger)
        self._watching = False
        if self._pictures.passed(state):
            self._draw(logger)

    def epoch_end(self, state: State, logger: Logger) -> None:
        """Draw when due; intervals in epochs are due here."""
        if self._pictures.passed(state):
            self._draw(logger)

    def fit_end(self, state: State, logger: Logger) -> None:
        """Draw the last measurement."""
        self._draw(logger)

    def close(self, state: State, logger: Logger) -> None:
        """Detach the hooks, also if training stopped within a measured batch."""
        self._detach()
        self._uncompiled.close()

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _find(self, model: Module) -> None:
        found = {}
        for path, module in model.named_modules():
            for parameter, _ in module.named_parameters(recurse=False):
                name = clean_name(f"{path}.{parameter}" if path else parameter, model)
                if self._pattern.search(name):
                    found[name] = Probe(module, parameter)
        self._probes = {label: found[name] for name, label in layer_labels(found).items()}
        if not found:
            self._warn(f"no parameter matches {self.pattern!r}")

    def _warn(self, reason: str) -> None:
        if not self._warned and dist.get_global_rank() == 0:
            warnings.warn(f"MixedInputMonitor: {reason}, so no mixed inputs are logged", stacklevel=2)
        self._warned = True

    def _measure(self, state: State, logger: Logger) -> None:
        seen = {label: probe.sums for label, probe in (self._probes or {}).items() if probe.sums is not None}
        if not seen:
            self._warn(
                f"the modules with {self.pattern!r} neither receive nor return a list of the states that they mix"
            )
            return
        together = torch.cat(list(seen.values()))
        if dist.get_world_size() > 1:
            dist.all_reduce(together)
        metrics, layers, shares = {}, {}, {}
        for label, row in zip(seen, together.cpu().split([len(sums) for sums in seen.values()])):
            norm, *parts = (row[:-1] / row[-1].clamp(min=1)).tolist()
            whole = sum(parts) or 1.0
            shares[label] = [part / whole for part in parts]
            layers[label] = {"norm": norm, "contributions": parts}
            unit = f"mixed_input/layer_{label}" if label.isdigit() else f"mixed_input/{label}"
            metrics[f"{unit}/norm"] = norm
            metrics.update({f"{unit}/from_{source}": part for source, part in enumerate(parts)})
            metrics.update({f"{unit}/share_{source}": share for source, share in enumerate(shares[label])})
        step = int(state.timestamp.batch)
        logger.log_metrics(metrics)
        self._records.append({"step": step, "layers": layers})
        self._newest = (step, shares)

    def _draw(self, logger: Logger) -> None:
        if self._newest is None or dist.get_global_rank() != 0 or (self._folder is None and not logger.destinations):
            return
        step, shares = self._newest
        figure = heatmap(
            shares, f"What each layer's input consists of, step {step:,}", "share of the contributions' norms"
        )
        log_picture(logger, "mixed_input/heatmap", pixels(figure), step)
        save_picture(figure, self._folder and self._folder / run_folder.MIXED_INPUTS_PICTURE)

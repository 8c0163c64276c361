"""Monitors layer mixing: the softmax of each layer's mixing weights as metrics, heatmaps and a history."""

from __future__ import annotations

import json
import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist

from elc_composer.callbacks.measuring.destinations import log_picture, save_picture
from elc_composer.callbacks.measuring.local_shards import Shards
from elc_composer.callbacks.measuring.record_files import RecordFile, run_path
from elc_composer.common import run_folder
from elc_composer.common.errors import ConfigError
from elc_composer.common.intervals import Interval
from elc_composer.common.json_files import parse_json
from elc_composer.common.module_names import clean_name, layer_labels
from elc_composer.figures.canvas import pixels
from elc_composer.figures.heatmap import heatmap, small_multiples

HISTORY_LIMIT = 1024
"""Measurements that a checkpoint carries at most."""


def softmax(weights: list[float]) -> list[float]:
    """Shares of one layer's sources, summing to 1; a weight of -inf gives 0. All NaN if a weight is NaN or +inf."""
    top = max(weights)
    if not math.isfinite(top) or any(map(math.isnan, weights)):
        return [math.nan] * len(weights)
    powers = [math.exp(weight - top) for weight in weights]
    return [power / sum(powers) for power in powers]


def _measurement(record: dict[str, Any]) -> dict[str, Any] | None:
    """A record of `layer_weights.jsonl` with NaN for null; None if it is damaged."""
    layers = record.get("layers")
    if not isinstance(layers, dict) or not layers:
        return None
    read = {label: _shares(shares) for label, shares in layers.items()}
    return None if None in read.values() else {"step": record["step"], "layers": read}


def _shares(values: Any) -> list[float] | None:
    if not isinstance(values, list) or not values or any(type(v) not in (int, float, type(None)) for v in values):
        return None
    return [math.nan if value is None else float(value) for value in values]


def describe(shares: list[float], before: list[float] | None) -> dict[str, float]:
    """Metrics of one layer's shares; `before` are its shares at the previous measurement."""
    figures = {f"from_{source}": share for source, share in enumerate(shares)}
    figures["entropy"] = sum(share * math.log(1 / share) for share in shares if share != 0)
    figures["expected_source"] = sum(source * share for source, share in enumerate(shares))
    figures["embedding_share"] = shares[0]
    figures["previous_share"] = shares[-1]
    if before is not None and len(before) == len(shares):
        figures["drift"] = sum(abs(now - then) for now, then in zip(shares, before)) / 2
    return figures


@dataclass(eq=False)
class LayerWeightMonitor(Callback):
    """Logs the mixing weights of every layer, draws them as a layer-by-source heatmap and keeps their history.

    Layers count from 1 and sources from 0: source 0 is the embedding, source i is the output of layer i, and layer n
    reads sources 0 to n-1. The parameter `layers.0.prev_layer_weights` is `layer_1`. A vector without a number in its
    name (the mix that the head reads) is `head`. Works on one device, DDP, FSDP1 and FSDP2; one reduction assembles
    sharded vectors, and nothing else is communicated.

    +----------------------------------------------+----------------------------------------------------------+
    | Key                                          | Logged data                                              |
    +==============================================+==========================================================+
    | ``layer_weights/layer_{n}/from_{i}``         | Share of source i in what layer n reads (softmax)        |
    | ``layer_weights/layer_{n}/entropy``          | Entropy of the shares, nats                              |
    | ``layer_weights/layer_{n}/expected_source``  | Mean source index under the shares                       |
    | ``layer_weights/layer_{n}/embedding_share``  | Share of source 0                                        |
    | ``layer_weights/layer_{n}/previous_share``   | Share of source n-1, the previous layer                  |
    | ``layer_weights/layer_{n}/drift``            | Total variation distance to the previous one, 0 to 1     |
    | ``layer_weights/heatmap``                    | The heatmap, in loggers that show images                 |
    +----------------------------------------------+----------------------------------------------------------+

    In `folder`: `layer_weights.jsonl` (`{"step": ..., "layers": {"1": [...], ..., "head": [...]}}`, all measurements),
    the newest heatmap `layer_weights.png`, and at the end `layer_weights_over_time.png`. It measures before the first
    step, every `interval` and at the end. Checkpoints contain the history.

    Raises:
        ConfigError: an invalid interval or pattern.
    """

    pattern: str = r"(^|\.)prev_layer_weights$"
    """Regular expression, searched in parameter names (without the prefixes of DDP, FSDP and other wrappers)."""
    interval: str = "50ba"
    """How often to measure and log: a Composer time string (`50ba`, `1ep`, `0.01dur`, ...)."""
    picture_interval: str = "1000ba"
    """How often to draw; also drawn at the end."""
    folder: str | None = "runs/{run_name}"
    """Folder of history and pictures, with Composer's placeholders; null: only metrics."""

    def __post_init__(self) -> None:
        """Check the settings. State is not stored in dataclass fields, which a config would show as settings."""
        try:
            self._pattern = re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(
                f"layer_weight_monitor.pattern: {self.pattern!r} is not a regular expression: {error}"
            ) from error
        self._interval = Interval(self.interval, "layer_weight_monitor.interval")
        self._pictures = Interval(self.picture_interval, "layer_weight_monitor.picture_interval")
        self._shards: Shards | None = None
        self._records = RecordFile(None)
        self._folder: Path | None = None
        self.history: list[dict[str, Any]] = []

    def fit_start(self, state: State, logger: Logger) -> None:
        """Find the parameters, restore the history and measure once."""
        self._interval.restart(state)
        self._pictures.restart(state)
        self._find(state)
        self._folder = run_path(self.folder, state)
        step = int(state.timestamp.batch)
        self.history = [record for record in self.history if record["step"] <= step]
        self._records = RecordFile(self._folder and self._folder / run_folder.LAYER_WEIGHTS)
        if not self._shards:
            self._records.forget(step)
            return
        on_disk = [found for record in self._records.cut(step) if (found := _measurement(record)) is not None]
        if len(on_disk) < len(self.history):
            self._records.replace(self.history)
        elif not self.history:
            # The checkpoint has no history. Only rank 0 has the file, so it must not influence whether the ranks
            # measure (a collective): drop its record of this step, so that all ranks measure.
            self.history = [record for record in on_disk if record["step"] < step]
            self._records.replace(self.history)
        if not self.history or self.history[-1]["step"] < step:
            self._measure(state, logger)

    def batch_end(self, state: State, logger: Logger) -> None:
        """Measure and draw when due."""
        self._run(state, logger)

    def epoch_end(self, state: State, logger: Logger) -> None:
        """Measure and draw when due; intervals in epochs are due here."""
        self._run(state, logger)

    def fit_end(self, state: State, logger: Logger) -> None:
        """Measure the final weights; draw them and the history."""
        if self._shards:
            if not self.history or self.history[-1]["step"] < int(state.timestamp.batch):
                self._measure(state, logger)
            self._draw(state, logger)
            self._draw_history()

    def state_dict(self) -> dict[str, Any]:
        """The history as JSON text: sharded checkpoints store list items one by one and skip those a new run lacks."""
        return {"history": json.dumps(self.history)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the history of a checkpoint."""
        history = state.get("history", [])
        self.history = parse_json(history, "layer weights of the checkpoint") if isinstance(history, str) else history

    def _find(self, state: State) -> None:
        model = state.model
        self._shards = Shards(model, lambda name: self._pattern.search(name) is not None)
        self._labels = layer_labels(shard.name for shard in self._shards)
        if not self._shards and dist.get_global_rank() == 0:
            some = ", ".join(clean_name(name, model) for name, _ in list(model.named_parameters())[:3])
            warnings.warn(
                f"LayerWeightMonitor: no parameter matches {self.pattern!r} (names are like {some}), "
                "so no layer weights are logged; set layer_weight_monitor.pattern",
                stacklevel=2,
            )

    def _run(self, state: State, logger: Logger) -> None:
        measure, draw = self._interval.passed(state), self._pictures.passed(state)
        if self._shards is None:
            self._find(state)
        if self._shards and measure:
            self._measure(state, logger)
        if self._shards and draw:
            self._draw(state, logger)

    def _measure(self, state: State, logger: Logger) -> None:
        assert self._shards is not None
        weights = self._shards.assemble()
        shares = {label: softmax(weights[name]) for name, label in self._labels.items()}
        before = self.history[-1]["layers"] if self.history else {}
        metrics = {}
        for label, values in shares.items():
            unit = f"layer_{label}" if label.isdigit() else label
            for figure, value in describe(values, before.get(label)).items():
                metrics[f"layer_weights/{unit}/{figure}"] = value
        logger.log_metrics(metrics)
        record = {"step": int(state.timestamp.batch), "layers": shares}
        if len(self.history) >= HISTORY_LIMIT:
            # Keeps checkpoints small: drop every other measurement but the first. The file keeps all.
            self.history = self.history[::2]
        self.history.append(record)
        self._records.append(record)

    def _draw(self, state: State, logger: Logger) -> None:
        if dist.get_global_rank() != 0 or not self.history:
            return
        if self._folder is None and not logger.destinations:
            return
        step = self.history[-1]["step"]
        figure = heatmap(self.history[-1]["layers"], f"What each layer reads, step {step:,}")
        log_picture(logger, "layer_weights/heatmap", pixels(figure), step)
        save_picture(figure, self._folder and self._folder / run_folder.LAYER_WEIGHTS_PICTURE)

    def _draw_history(self) -> None:
        if self._folder is not None and len(self.history) > 1:
            moments = [(record["step"], record["layers"]) for record in self.history]
            figure = small_multiples(moments, "What each layer reads, over training")
            save_picture(figure, self._folder / run_folder.LAYER_WEIGHTS_OVER_TIME_PICTURE)

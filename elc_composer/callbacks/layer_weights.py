"""Which earlier layers each layer reads: the softmax of its mixing weights, as metrics, pictures and a history."""

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
from elc_composer.callbacks.measuring.record_files import Records, run_path
from elc_composer.common.errors import ConfigError
from elc_composer.common.intervals import Interval
from elc_composer.common.module_names import clean_name, layer_labels
from elc_composer.figures.canvas import pixels
from elc_composer.figures.heatmap import heatmap, small_multiples

HISTORY_LIMIT = 1024


def softmax(weights: list[float]) -> list[float]:
    """Shares of one layer's sources, summing to 1; a weight of -inf has none. NaN where a weight is no number."""
    top = max(weights)
    if not math.isfinite(top) or any(map(math.isnan, weights)):
        return [math.nan] * len(weights)
    powers = [math.exp(weight - top) for weight in weights]
    return [power / sum(powers) for power in powers]


def _numbers(layers: dict[str, list[float | None]]) -> dict[str, list[float]]:
    """Shares as read from a file, where null stands for what is no number."""
    return {label: [math.nan if share is None else share for share in shares] for label, shares in layers.items()}


def describe(shares: list[float], before: list[float] | None) -> dict[str, float]:
    """Figures of one layer's shares; `before` are its shares at the last measurement."""
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
    """Logs what every layer reads, draws it as a layer-by-source heatmap and keeps its history.

    Layers count from 1 and sources from 0, so that source 0 is the embedding, source i is layer i's output, and layer n
    reads sources 0 to n-1: the parameter `layers.0.prev_layer_weights` is `layer_1`. A vector without a number in its
    name (the mix that the head reads) is `head`. Works on one device, DDP, FSDP1 and FSDP2; a sharded vector is put
    together from the ranks' slices, and nothing else is communicated.

    +----------------------------------------------+----------------------------------------------------------+
    | Key                                          | Logged data                                              |
    +==============================================+==========================================================+
    | ``layer_weights/layer_{n}/from_{i}``         | Share of source i in what layer n reads (softmax)        |
    | ``layer_weights/layer_{n}/entropy``          | Entropy of the shares, nats                              |
    | ``layer_weights/layer_{n}/expected_source``  | Mean source index under the shares                       |
    | ``layer_weights/layer_{n}/embedding_share``  | Share of source 0                                        |
    | ``layer_weights/layer_{n}/previous_share``   | Share of source n-1, the layer before                    |
    | ``layer_weights/layer_{n}/drift``            | Total variation distance to the last measurement, 0 to 1 |
    | ``layer_weights/heatmap``                    | The picture, in loggers that show images                 |
    +----------------------------------------------+----------------------------------------------------------+

    In `folder`: `layer_weights.jsonl` (`{"step": ..., "layers": {"1": [...], ..., "head": [...]}}`, all measurements),
    the newest picture `layer_weights.png`, and at the end `layer_weights_over_time.png`. Measured before the first
    step, every `interval` and at the end. The history travels in checkpoints.

    Raises:
        ConfigError: an interval or pattern that cannot be read.
    """

    pattern: str = r"(^|\.)prev_layer_weights$"
    """Regular expression, searched in the parameters' names (without the prefixes of DDP, FSDP and other wrappers)."""
    interval: str = "50ba"
    """How often to measure and log: a Composer time string (`50ba`, `1ep`, `0.01dur`, ...)."""
    picture_interval: str = "1000ba"
    """How often to draw; also drawn at the end."""
    folder: str | None = "runs/{run_name}"
    """Where history and pictures go, with Composer's placeholders; null: only metrics."""

    def __post_init__(self) -> None:
        """Check the settings; what changes while running is no field, so that a config shows settings alone."""
        try:
            self._pattern = re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(
                f"layer_weight_monitor.pattern: {self.pattern!r} is no regular expression: {error}"
            ) from error
        self._interval = Interval(self.interval, "layer_weight_monitor.interval")
        self._pictures = Interval(self.picture_interval, "layer_weight_monitor.picture_interval")
        self._shards: Shards | None = None
        self._records = Records(None)
        self._folder: Path | None = None
        self.history: list[dict[str, Any]] = []

    def fit_start(self, state: State, logger: Logger) -> None:
        """Find the parameters, take up the history and measure once."""
        self._interval.restart(state)
        self._pictures.restart(state)
        self._find(state)
        self._folder = run_path(self.folder, state)
        step = int(state.timestamp.batch)
        self.history = [record for record in self.history if record["step"] <= step]
        self._records = Records(self._folder and self._folder / "layer_weights.jsonl")
        if not self._shards:
            self._records.forget(step)
            return
        on_disk = self._records.cut(step)
        if len(on_disk) < len(self.history):
            self._records.replace(self.history)
        elif not self.history:
            # a checkpoint that lacks the history; whether to measure must not hang on a file that one rank alone has
            earlier = [record for record in on_disk if record["step"] < step]
            self._records.replace(earlier)
            self.history = [{**record, "layers": _numbers(record["layers"])} for record in earlier]
        if not self.history or self.history[-1]["step"] < step:
            self._measure(state, logger)

    def batch_end(self, state: State, logger: Logger) -> None:
        """Measure and draw when due."""
        self._run(state, logger)

    def epoch_end(self, state: State, logger: Logger) -> None:
        """Measure and draw when due; intervals in epochs end here."""
        self._run(state, logger)

    def fit_end(self, state: State, logger: Logger) -> None:
        """Measure the final weights and draw them and their history."""
        if self._shards:
            if not self.history or self.history[-1]["step"] < int(state.timestamp.batch):
                self._measure(state, logger)
            self._draw(state, logger)
            self._draw_history()

    def state_dict(self) -> dict[str, Any]:
        """The history, as text: sharded checkpoints store every list apart and miss those that a new run lacks."""
        return {"history": json.dumps(self.history)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the history of a checkpoint."""
        history = state.get("history", [])
        self.history = json.loads(history) if isinstance(history, str) else list(history)

    def _find(self, state: State) -> None:
        model = state.model
        self._shards = Shards(model, lambda name: self._pattern.search(name) is not None)
        self._labels = layer_labels(shard.name for shard in self._shards)
        if not self._shards and dist.get_global_rank() == 0:
            some = ", ".join(clean_name(name, model) for name, _ in list(model.named_parameters())[:3])
            warnings.warn(
                f"LayerWeightMonitor: no parameter matches {self.pattern!r} (the model's are named like {some}), "
                "so no layer weights are logged",
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
            # what checkpoints carry stays small: every other one goes, the first stays, the file keeps all
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
        save_picture(figure, self._folder and self._folder / "layer_weights.png")

    def _draw_history(self) -> None:
        if self._folder is not None and len(self.history) > 1:
            moments = [(record["step"], record["layers"]) for record in self.history]
            figure = small_multiples(moments, "What each layer reads, over training")
            save_picture(figure, self._folder / "layer_weights_over_time.png")

"""Draws minimal-pair accuracy over training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist

from elc_composer.callbacks.measuring.destinations import log_picture, save_picture
from elc_composer.callbacks.measuring.record_files import run_path
from elc_composer.common.json_files import parse_json
from elc_composer.evaluation.in_training.metrics import MinimalPairAccuracy
from elc_composer.figures.canvas import pixels
from elc_composer.figures.curves import curves


@dataclass(eq=False)
class MinimalPairPlot(Callback):
    """Draws each set's accuracies after every evaluation and logs the picture.

    | picture                 | shows                                                   |
    |-------------------------|---------------------------------------------------------|
    | `minimal_pairs/<label>` | `overall` and the phenomena over batches, chance dashed |

    Checkpoints contain the history, so that the picture of a resumed run has all points. Works with any evaluator
    whose metrics are `MinimalPairAccuracy` and ignores the others. Rank 0 writes.
    """

    picture_path: str | None = "runs/{run_name}/minimal_pairs_{label}.png"
    """Path of the pictures, with Composer's placeholders and `{label}`; None: only loggers get them."""
    history: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)
    """Label -> `overall` or phenomenon -> (batch, accuracy), filled while training."""

    def eval_end(self, state: State, logger: Logger) -> None:
        """Add the accuracies that Composer has just computed to the history, and draw."""
        label = str(state.dataloader_label)
        metrics = state.eval_metrics.get(label, {})
        # Composer has called compute() on all ranks before; calling it on rank 0 alone returns the cached result.
        pairs = {name: metric for name, metric in metrics.items() if isinstance(metric, MinimalPairAccuracy)}
        found = {name: metric for name, metric in pairs.items() if metric.headline}
        if not found:
            return
        batch = state.timestamp.batch.value
        curves_of = self.history.setdefault(label, {})
        for name, metric in found.items():
            points = curves_of.setdefault(name, [])
            points[:] = [point for point in points if point[0] < batch] + [(batch, float(metric.compute()))]
        if dist.get_global_rank() == 0:
            self._draw(state, logger, label)

    def state_dict(self) -> dict[str, Any]:
        """The history as JSON text: sharded checkpoints store list items one by one and skip those a new run lacks."""
        return {"history": json.dumps(self.history)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the history of a checkpoint."""
        history = state["history"]
        if isinstance(history, str):
            history = parse_json(history, "minimal-pair accuracies of the checkpoint")
        self.history = {
            label: {name: [(int(batch), float(value)) for batch, value in points] for name, points in series.items()}
            for label, series in history.items()
        }

    def _draw(self, state: State, logger: Logger, label: str) -> None:
        figure = curves(
            self.history[label],
            title=f"Minimal pairs: {label}",
            ylabel="accuracy",
            ylim=(0.0, 1.0),
            chance=0.5,
        )
        path = None if self.picture_path is None else self.picture_path.replace("{label}", label)
        save_picture(figure, run_path(path, state))
        log_picture(logger, f"minimal_pairs/{label}", pixels(figure), state.timestamp.batch.value)

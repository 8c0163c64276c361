"""A run's metrics as a file that people, reports and tests read: one JSON object a step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from composer.core import State
from composer.loggers import Logger, LoggerDestination
from composer.utils import dist

from elc_composer.callbacks.measuring.record_files import Records, plain, read_records, run_path


def number(value: Any) -> float | int | str | bool | None:
    """A metric as JSON holds it; None for what is neither number nor text."""
    if isinstance(value, torch.Tensor):
        value = value.item() if value.numel() == 1 else None
    elif hasattr(value, "item") and getattr(value, "size", 1) == 1:
        value = value.item()
    return plain(value) if isinstance(value, (float, int, str, bool)) else None


@dataclass(eq=False)
class MetricsFile(LoggerDestination):
    """Logger that writes `metrics.jsonl` on rank 0: `{"step": 10, "loss/train/total": 2.3, ...}`, one line a step.

    The line of the current step is rewritten as more of its metrics arrive, so that a running run can be read. When a
    run resumes from a checkpoint, lines beyond its step are dropped; a run that starts at step 0 starts an empty
    file. What is no number or text, NaN and infinities are null. A disk that fills up costs metrics and a warning,
    not the run.
    """

    path: str = "runs/{run_name}/metrics.jsonl"
    """The file, with Composer's placeholders."""

    def __post_init__(self) -> None:
        """Nothing is known of the run yet: metrics wait for it."""
        self._path: Path | None = None
        self._records = Records(None)
        self._step = 0
        self._line: dict[str, float | int | str | bool | None] = {}
        self._start: int | None = None
        self._cut = False

    def init(self, state: State, logger: Logger) -> None:
        """Learn the run's name."""
        self._path = run_path(self.path, state)
        self._records = Records(self._path)

    def fit_start(self, state: State, logger: Logger) -> None:
        """Drop what an earlier attempt wrote beyond the step from which this one goes on."""
        if self._path is None or self._cut:
            return
        self._cut = True
        step = int(state.timestamp.batch)
        kept = self._records.cut(step)
        # the step's own line goes on growing: the next batch logs its loss under it
        same: dict[str, Any] = {}
        for record in kept:
            if record["step"] == step:
                same.update(record)
        self._records.replace([record for record in kept if record["step"] < step])
        self._line = {**same, **(self._line if self._step == step else {})}
        self._line.pop("step", None)
        self._step = step
        self._open()

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Take metrics of a step; those of another step end the line of the one before."""
        if dist.get_global_rank() != 0:
            return
        if step is not None and step != self._step:
            self._start = self._write()
            self._step, self._line = step, {}
        self._line.update({key: number(value) for key, value in metrics.items()})

    def batch_end(self, state: State, logger: Logger) -> None:
        """Make the step's line readable."""
        self._write()

    def eval_end(self, state: State, logger: Logger) -> None:
        """Make the evaluation readable."""
        self._write()

    def fit_end(self, state: State, logger: Logger) -> None:
        """Write what is left."""
        self._write()

    def close(self, state: State, logger: Logger) -> None:
        """Write what is left."""
        self._write()

    def _open(self) -> None:
        assert self._path is not None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            self._start = self._path.stat().st_size
        except OSError as error:
            self._records.warn(error)

    def _write(self) -> int | None:
        """Put the line of the current step where it begins and return where it ends."""
        if self._path is None or not self._line:
            return self._start
        if self._start is None:
            self._open()
        line = json.dumps({"step": self._step, **self._line}) + "\n"
        try:
            with self._path.open("r+b") as file:
                file.seek(self._start or 0)
                file.write(line.encode())
                file.truncate()
                return file.tell()
        except OSError as error:
            self._records.warn(error)
            return self._start


def read_metrics(path: Path | str) -> dict[str, list[tuple[int, float]]]:
    """Each metric of a `metrics.jsonl` as its (step, value) pairs; what is no number is left out."""
    history: dict[str, list[tuple[int, float]]] = {}
    for record in read_records(Path(path)):
        for key, value in record.items():
            if key != "step" and isinstance(value, (int, float)) and not isinstance(value, bool):
                history.setdefault(key, []).append((record["step"], float(value)))
    return history

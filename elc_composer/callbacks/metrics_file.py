"""Logger that writes a run's metrics to a JSON Lines file, one object per step; and its reader."""

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

from elc_composer.callbacks.measuring.record_files import RecordFile, plain, read_record_file, run_path


def number(value: Any) -> float | int | str | bool | None:
    """A metric as a JSON value; None if it is neither a number nor text."""
    if isinstance(value, torch.Tensor):
        value = value.item() if value.numel() == 1 else None
    elif hasattr(value, "item") and getattr(value, "size", 1) == 1:
        value = value.item()
    return plain(value) if isinstance(value, (float, int, str, bool)) else None


@dataclass(eq=False)
class MetricsFile(LoggerDestination):
    """Logger that writes `metrics.jsonl` on rank 0: `{"step": 10, "loss/train/total": 2.3, ...}`, one line a step.

    The line of the current step is rewritten whenever more of its metrics arrive, so that the file can be read during
    the run. A run that resumes from a checkpoint drops the lines after its step; a run that starts at step 0 starts an
    empty file. NaN, infinity and anything that is neither a number nor text become null. If the file cannot be
    written, the run continues without it and warns once.
    """

    path: str = "runs/{run_name}/metrics.jsonl"
    """The file, with Composer's placeholders."""

    def __post_init__(self) -> None:
        """Metrics are collected until `init` tells the run's name."""
        self._records = RecordFile(None)
        self._step = 0
        self._line: dict[str, float | int | str | bool | None] = {}
        self._start: int | None = None
        self._cut = False

    def init(self, state: State, logger: Logger) -> None:
        """Resolve the path from the run's name."""
        self._records = RecordFile(run_path(self.path, state))

    def fit_start(self, state: State, logger: Logger) -> None:
        """Drop the lines after the step from which this run starts."""
        if self._records.path is None or self._cut:
            return
        self._cut = True
        step = int(state.timestamp.batch)
        kept = self._records.cut(step)
        # More metrics belong to this step's line: the next batch logs its loss under this step.
        same: dict[str, Any] = {}
        for record in kept:
            if record["step"] == step:
                same.update(record)
        self._records.replace([record for record in kept if record["step"] < step])
        self._line = {**same, **(self._line if self._step == step else {})}
        self._line.pop("step", None)
        self._step = step
        self._start = self._end_of_file()

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add metrics to the line of their step; a new step completes the previous line."""
        if dist.get_global_rank() != 0:
            return
        if step is not None and step != self._step:
            self._start = self._write()
            self._step, self._line = step, {}
        self._line.update({key: number(value) for key, value in metrics.items()})

    def batch_end(self, state: State, logger: Logger) -> None:
        """Write the step's line."""
        self._write()

    def eval_end(self, state: State, logger: Logger) -> None:
        """Write the evaluation's metrics."""
        self._write()

    def fit_end(self, state: State, logger: Logger) -> None:
        """Write the last line."""
        self._write()

    def close(self, state: State, logger: Logger) -> None:
        """Write the last line."""
        self._write()

    def _end_of_file(self) -> int | None:
        """Size of the file in bytes, created if missing; None if that fails."""
        path = self._records.path
        if path is None:
            return None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            return path.stat().st_size
        except OSError as error:
            self._records.warn(error)
            return None

    def _write(self) -> int | None:
        """Write the current step's line at the position where it starts; return the position where it ends."""
        path = self._records.path
        if path is None or not self._line:
            return self._start
        if self._start is None:
            self._start = self._end_of_file()
        line = json.dumps(plain({"step": self._step, **self._line})) + "\n"
        try:
            with path.open("r+b") as file:
                file.seek(self._start or 0)
                file.write(line.encode())
                file.truncate()
                return file.tell()
        except OSError as error:
            self._records.warn(error)
            return self._start


def read_metrics(path: Path | str) -> dict[str, list[tuple[int, float]]]:
    """Each metric of a `metrics.jsonl` as (step, value) pairs; values that are not numbers are left out.

    Raises:
        DataError: the path is a directory or cannot be read.
    """
    history: dict[str, list[tuple[int, float]]] = {}
    for record in read_record_file(Path(path)):
        for key, value in record.items():
            if key != "step" and isinstance(value, (int, float)) and not isinstance(value, bool):
                history.setdefault(key, []).append((record["step"], float(value)))
    return history

"""Writes everything that was logged as CSV files, one value per row."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from elc_composer.report.layer_history import weight_history
from elc_composer.report.run_reader import RunFolder

Row = Sequence[Any]


def write_tables(runs: Sequence[RunFolder], folder: Path) -> list[Path]:
    """Write `metrics.csv`, `layer_weights.csv`, `mixed_inputs.csv` and `weight_histograms.csv`.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _write(folder / "metrics.csv", ("run", "step", "metric", "value"), metric_rows(runs)),
        _write(folder / "layer_weights.csv", ("run", "step", "layer", "source", "share"), weight_rows(runs)),
        _write(
            folder / "mixed_inputs.csv",
            ("run", "step", "layer", "norm", "source", "contribution"),
            mixed_rows(runs),
        ),
        _write(folder / "weight_histograms.csv", ("run", "step", "unit", "from", "to", "count"), histogram_rows(runs)),
    ]


def metric_rows(runs: Sequence[RunFolder]) -> Iterator[Row]:
    """(run, step, metric, value)."""
    for run in runs:
        for name, series in run.metrics.items():
            for step, value in zip(series.steps, series.values):
                yield run.name, step, name, value


def weight_rows(runs: Sequence[RunFolder]) -> Iterator[Row]:
    """(run, step, layer, source, share)."""
    for run in runs:
        for step, layers in weight_history(run):
            for layer, shares in layers.items():
                for source, share in enumerate(shares):
                    yield run.name, step, layer, source, share


def mixed_rows(runs: Sequence[RunFolder]) -> Iterator[Row]:
    """(run, step, layer, norm, source, contribution)."""
    for run in runs:
        for row in run.mixed_inputs:
            for layer, entry in row["layers"].items():
                for source, contribution in enumerate(entry["contributions"]):
                    yield run.name, row["step"], layer, entry.get("norm"), source, contribution


def histogram_rows(runs: Sequence[RunFolder]) -> Iterator[Row]:
    """(run, step, unit, lower edge, upper edge, count) for each bin."""
    for run in runs:
        for row in run.histograms:
            for unit, entry in row["units"].items():
                low, high, counts = entry["low"], entry["high"], entry["counts"]
                width = (high - low) / len(counts)
                for i, count in enumerate(counts):
                    yield run.name, row["step"], unit, low + i * width, low + (i + 1) * width, count


def _write(path: Path, head: Sequence[str], rows: Iterable[Row]) -> Path:
    with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
    return path

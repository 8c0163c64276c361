"""The page's charts as PNG files, and everything that was logged as CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from elc_composer.common.errors import DataError
from elc_composer.figures.curves import draw_curves
from elc_composer.figures.heatmap import draw_heatmap, draw_small_multiples
from elc_composer.report.files import RunFolder
from elc_composer.report.layers import Shares, mixed_history, weight_history
from elc_composer.report.page import all_panels


def plain_name(text: str) -> str:
    """A text as part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_.") or "run"


def plain_names(runs: Sequence[RunFolder]) -> list[str]:
    """The runs' names as parts of files' names; numbered where nothing else tells them apart."""
    names = [plain_name(run.name) for run in runs]
    return [f"{name}_{i}" if names.count(name) > 1 else name for i, name in enumerate(names, start=1)]


def write_pictures(runs: Sequence[RunFolder], folder: Path) -> list[Path]:
    """Every chart that is not one of many small ones, and each run's heatmaps.

    Raises:
        DataError: the folder cannot be written.
    """
    _make(folder)
    written = []
    for panel in all_panels(runs):
        if panel.small:
            continue
        named = [line for line in panel.lines if line.style != "faint"]
        history = {
            f"{line.run} {line.label}": [
                (step, float(value)) for step, value in zip(line.x, line.y) if value is not None
            ]
            for line in named
        }
        labels = {f"{line.run} {line.label}": line.label for line in named}
        path = folder / f"{plain_name(panel.id)}.png"
        written.append(draw_curves(history, path, panel.title, panel.unit, labels, ylim=panel.range, chance=panel.rule))
    for run, name in zip(runs, plain_names(runs)):
        for kind, history_of in (("layer_weights", weight_history), ("mixed_inputs", mixed_history)):
            moments = [(step, _numbers(shares)) for step, shares in history_of(run)]
            if moments:
                step, shares = moments[-1]
                title = f"{run.name}: {kind.replace('_', ' ')}"
                written.append(draw_heatmap(shares, folder / f"{kind}_{name}.png", f"{title}, step {step:,}"))
                over = folder / f"{kind}_over_time_{name}.png"
                written.append(draw_small_multiples(moments, over, f"{title}, over training"))
    return written


def write_tables(runs: Sequence[RunFolder], folder: Path) -> list[Path]:
    """`metrics.csv`, `layer_weights.csv`, `mixed_inputs.csv` and `weight_histograms.csv`, whole, one value a row.

    Raises:
        DataError: the folder cannot be written.
    """
    _make(folder)
    metrics = (
        (run.name, step, name, value)
        for run in runs
        for name, series in run.metrics.items()
        for step, value in zip(series.steps, series.values)
    )
    weights = (
        (run.name, step, layer, source, share)
        for run in runs
        for step, layers in weight_history(run)
        for layer, shares in layers.items()
        for source, share in enumerate(shares)
    )
    mixed = (
        (run.name, row["step"], layer, entry.get("norm"), source, part)
        for run in runs
        for row in run.mixed_inputs
        for layer, entry in row["layers"].items()
        for source, part in enumerate(entry.get("contributions") or [])
    )
    bars = (
        (
            run.name,
            row["step"],
            unit,
            low + i * (high - low) / len(counts),
            low + (i + 1) * (high - low) / len(counts),
            n,
        )
        for run in runs
        for row in run.histograms
        for unit, (low, high, counts) in ((u, (e["low"], e["high"], e["counts"])) for u, e in row["units"].items())
        for i, n in enumerate(counts)
    )
    return [
        _csv(folder / "metrics.csv", ("run", "step", "metric", "value"), metrics),
        _csv(folder / "layer_weights.csv", ("run", "step", "layer", "source", "share"), weights),
        _csv(folder / "mixed_inputs.csv", ("run", "step", "layer", "norm", "source", "contribution"), mixed),
        _csv(folder / "weight_histograms.csv", ("run", "step", "unit", "from", "to", "count"), bars),
    ]


def _numbers(shares: Shares) -> dict[str, list[float]]:
    return {label: [float("nan") if each is None else each for each in row] for label, row in shares.items()}


def _csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
    return path


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made: {error.strerror}") from None

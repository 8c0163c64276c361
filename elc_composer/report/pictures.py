"""Writes the page's charts and heatmaps as PNG files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from elc_composer.figures.curves import draw_curves
from elc_composer.figures.heatmap import draw_heatmap, draw_small_multiples
from elc_composer.report.charts import Chart
from elc_composer.report.layer_history import SourceShares, mixed_history, weight_history
from elc_composer.report.page import all_charts
from elc_composer.report.run_reader import RunFolder

HISTORIES = {"layer_weights": weight_history, "mixed_inputs": mixed_history}


def file_name(text: str) -> str:
    """The text as part of a file name."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_.")[:80] or "run"


def file_names(runs: Sequence[RunFolder]) -> list[str]:
    """The runs' names as parts of file names; numbered if they would be equal."""
    names = [file_name(run.name) for run in runs]
    return [f"{name}_{i}" if names.count(name) > 1 else name for i, name in enumerate(names, start=1)]


def write_pictures(runs: Sequence[RunFolder], folder: Path) -> list[Path]:
    """Write every large chart, and each run's heatmaps: the newest one and some over training.

    Raises:
        OSError: the folder cannot be written.
    """
    written = [_draw_chart(chart, folder) for chart in all_charts(runs) if not chart.small]
    for run, name in zip(runs, file_names(runs)):
        for kind, history_of in HISTORIES.items():
            history = [(step, _numbers(shares)) for step, shares in history_of(run)]
            if history:
                step, shares = history[-1]
                title = f"{run.name}: {kind.replace('_', ' ')}"
                written.append(draw_heatmap(shares, folder / f"{kind}_{name}.png", f"{title}, step {step:,}"))
                over_time = folder / f"{kind}_over_time_{name}.png"
                written.append(draw_small_multiples(history, over_time, f"{title}, over training"))
    return written


def _draw_chart(chart: Chart, folder: Path) -> Path:
    history, labels = {}, {}
    for number, line in enumerate(chart.lines):
        if line.style != "faint":
            key = str(number)  # two runs may have the same label
            labels[key] = line.label
            history[key] = [(step, float(value)) for step, value in zip(line.x, line.y) if value is not None]
    path = folder / f"{file_name(chart.id)}.png"
    return draw_curves(history, path, chart.title, chart.unit, labels, ylim=chart.range, chance=chart.rule)


def _numbers(shares: SourceShares) -> dict[str, list[float]]:
    return {label: [float("nan") if share is None else share for share in row] for label, row in shares.items()}

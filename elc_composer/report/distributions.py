"""How weights are spread: histograms by step, and small charts of each unit's figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from elc_composer.report.charts import SMALL, Panel, line, small_panels
from elc_composer.report.files import RunFolder, Series
from elc_composer.report.thin import short, spread_out

PREFIX = "weight_distribution/"
MOST_UNITS = 40
FIGURES = {
    "quantiles": ("Quantiles of the weights", "weight"),
    "norm": ("Norm of the weights", "L2 norm"),
    "std": ("Standard deviation of the weights", "weight"),
    "update_ratio": ("Update against weight, ratio of norms", ""),
    "grad_norm": ("Gradient norm", "L2 norm"),
    "grad_std": ("Standard deviation of the gradient", ""),
    "zeros": ("Share of exact zeros", "share"),
    "nonfinite": ("Share of NaN and infinities", "share"),
}


def units(runs: Sequence[RunFolder]) -> list[str]:
    """The layers, parts and parameter groups that were measured in any run, at most 40."""
    each = [[n for n in run.metrics if n.startswith(PREFIX) and n.endswith("/norm")] for run in runs]
    # the order of the run that has most, so that another's layers stand between its own
    names = (name for found in sorted(each, key=len, reverse=True) for name in found)
    return list(dict.fromkeys(name.removeprefix(PREFIX).removesuffix("/norm") for name in names))[:MOST_UNITS]


def unit_title(unit: str) -> str:
    """`transformer.layers.0` reads layer 1, as everywhere on the page; other names stay."""
    match = re.fullmatch(r"(?:.*\.)?layers?\.(\d+)", unit)
    return f"layer {int(match[1]) + 1}" if match else unit


def spread_panels(runs: Sequence[RunFolder]) -> list[Panel]:
    """For each figure one small chart a unit."""
    found = units(runs)
    panels: list[Panel] = []
    for figure, (_, unit) in FIGURES.items():
        if figure == "quantiles":
            panels += _quantile_panels(runs, found)
            continue
        metrics = {f"{PREFIX}{name}/{figure}": unit_title(name) for name in found}
        drawn = small_panels(runs, "distributions", metrics, unit, figure=figure)
        if figure not in ("zeros", "nonfinite") or any(y for panel in drawn for each in panel.lines for y in each.y):
            panels += drawn
    return panels


def _quantile_panels(runs: Sequence[RunFolder], found: Sequence[str]) -> list[Panel]:
    panels = []
    for name in found:
        lines = []
        for number, run in enumerate(runs):
            levels = quantiles(run, name)
            if not levels:
                continue
            middle = min(levels, key=lambda level: abs(level - 50))
            curve = line(number, f"{run.name}, {middle:g} %", levels[middle], SMALL)
            outer = [level for level in sorted(levels) if level < middle and 100 - level in levels]
            for level in outer:
                pair = [levels[level], levels[100 - level]]
                curve.bands.append([_values_at(series, curve.x) for series in pair])
            lines.append(curve)
        if lines:
            key = f"distributions-quantiles-{name}"
            panels.append(
                Panel(key, unit_title(name), "distributions", "weight", lines, figure="quantiles", small=True)
            )
    return panels


def quantiles(run: RunFolder, unit: str) -> dict[float, Series]:
    """Level in per cent -> the unit's quantile."""
    pattern = re.compile(re.escape(f"{PREFIX}{unit}/q") + r"([\d.]+)")
    return {float(match[1]): series for name, series in run.metrics.items() if (match := pattern.fullmatch(name))}


def _values_at(series: Series, steps: Sequence[int]) -> list[float | int | None]:
    values = dict(zip(series.steps, series.values))
    return [short(values.get(step)) for step in steps]


def histograms(run: RunFolder, most_numbers: int) -> dict[str, Any] | None:
    """Moments and their histograms for the page; fewer moments where units and bins are many."""
    if not run.histograms:
        return None
    shown = list(dict.fromkeys(unit for row in run.histograms for unit in row["units"]))[:MOST_UNITS]
    last = run.histograms[-1]["units"]
    numbers = sum(len(entry["counts"]) for entry in last.values()) or 1
    frames = spread_out(run.histograms, max(8, min(60, most_numbers // numbers)))
    rows = []
    for frame in frames:
        row = []
        for unit in shown:
            entry = frame["units"].get(unit)
            counts = entry and [short(count, 3) for count in entry["counts"]]
            row.append(entry and [short(entry["low"]), short(entry["high"]), counts])
        rows.append(row)
    return {"steps": [frame["step"] for frame in frames], "units": [unit_title(unit) for unit in shown], "frames": rows}

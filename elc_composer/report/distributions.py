"""Charts and histograms of how the weights and gradients of each layer and parameter group are distributed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from elc_composer.report.charts import SMALL_POINTS, Chart, Line, Values, line, small_charts
from elc_composer.report.downsample import evenly_spaced, rounded
from elc_composer.report.run_reader import RunFolder
from elc_composer.report.series import Series

PREFIX = "weight_distribution/"
MAX_UNITS = 40
MIN_FRAMES, MAX_FRAMES = 8, 60
FIGURES = {
    "quantiles": ("Quantiles of the weights", "weight"),
    "norm": ("Norm of the weights", "L2 norm"),
    "std": ("Standard deviation of the weights", "weight"),
    "update_ratio": ("Ratio of the norms of update and weights", ""),
    "grad_norm": ("Gradient norm", "L2 norm"),
    "grad_std": ("Standard deviation of the gradient", ""),
    "zeros": ("Share of exact zeros", "share"),
    "nonfinite": ("Share of NaN and infinities", "share"),
}
"""Last part of the metric's name -> title and unit. One of them is shown at a time."""
ONLY_IF_NONZERO = ("zeros", "nonfinite")


def measured_units(runs: Sequence[RunFolder]) -> list[str]:
    """Layers, other modules and parameter groups with distributions in any run; at most 40."""
    of_runs = []
    for run in runs:
        names = [name for name in run.metrics if name.startswith(PREFIX) and name.endswith("/norm")]
        of_runs.append([name.removeprefix(PREFIX).removesuffix("/norm") for name in names])
    # The deepest run first: its order puts all layers before the parameter groups, those of shallower runs included.
    of_runs.sort(key=len, reverse=True)
    return list(dict.fromkeys(unit for units in of_runs for unit in units))[:MAX_UNITS]


def unit_title(unit: str) -> str:
    """`layer 1` for `transformer.layers.0`, as everywhere on the page; other names stay."""
    match = re.fullmatch(r"(?:.*\.)?layers?\.(\d{1,6})", unit)
    return f"layer {int(match[1]) + 1}" if match else unit


def distribution_charts(runs: Sequence[RunFolder]) -> list[Chart]:
    """A small chart for each figure and unit."""
    units = measured_units(runs)
    charts: list[Chart] = []
    for figure, (_, unit_of_values) in FIGURES.items():
        if figure == "quantiles":
            charts += _quantile_charts(runs, units)
            continue
        metrics = {f"{PREFIX}{unit}/{figure}": unit_title(unit) for unit in units}
        drawn = small_charts(runs, "distributions", metrics, unit_of_values, figure)
        if figure not in ONLY_IF_NONZERO or _any_nonzero(drawn):
            charts += drawn
    return charts


def _any_nonzero(charts: Sequence[Chart]) -> bool:
    return any(any(each.y) for chart in charts for each in chart.lines)


def _quantile_charts(runs: Sequence[RunFolder], units: Sequence[str]) -> list[Chart]:
    charts = []
    for unit in units:
        lines = []
        for number, run in enumerate(runs):
            levels = quantiles(run, unit)
            if levels:
                lines.append(_median_with_bands(number, run.name, levels))
        if lines:
            id = f"distributions-quantiles-{unit}"
            charts.append(Chart(id, unit_title(unit), "distributions", "weight", lines, figure="quantiles", small=True))
    return charts


def _median_with_bands(run: int, name: str, levels: dict[float, Series]) -> Line:
    middle = min(levels, key=lambda level: abs(level - 50))
    curve = line(run, f"{name}, {middle:g} %", levels[middle], SMALL_POINTS)
    for level in sorted(levels):
        if level < middle and 100 - level in levels:
            curve.bands.append((_values_at(levels[level], curve.x), _values_at(levels[100 - level], curve.x)))
    return curve


def quantiles(run: RunFolder, unit: str) -> dict[float, Series]:
    """Level in per cent -> the unit's quantile over training."""
    found = {}
    for name, series in run.metrics.items():
        match = re.fullmatch(re.escape(f"{PREFIX}{unit}/q") + r"(\d+(?:\.\d+)?)", name)
        if match:
            found[float(match[1])] = series
    return found


def _values_at(series: Series, steps: Sequence[int]) -> Values:
    values = dict(zip(series.steps, series.values))
    return [rounded(values.get(step)) for step in steps]


def histograms(run: RunFolder, max_numbers: int) -> dict[str, Any] | None:
    """The histograms for the page, `{"steps", "units", "frames"}`; None without any.

    Args:
        run: the run.
        max_numbers: counts to keep in all; at least 8 and at most 60 frames stay.

    Returns:
        `frames[moment][unit]` is `[low, high, counts]`, or None where the unit was not measured.
    """
    if not run.histograms:
        return None
    shown = list(dict.fromkeys(unit for row in run.histograms for unit in row["units"]))[:MAX_UNITS]
    numbers = sum(len(entry["counts"]) for entry in run.histograms[-1]["units"].values())
    kept = evenly_spaced(run.histograms, max(MIN_FRAMES, min(MAX_FRAMES, max_numbers // max(numbers, 1))))
    frames = []
    for row in kept:
        entries = [row["units"].get(unit) for unit in shown]
        frames.append([entry and _bars(entry) for entry in entries])
    return {"steps": [row["step"] for row in kept], "units": [unit_title(unit) for unit in shown], "frames": frames}


def _bars(entry: dict[str, Any]) -> list[Any]:
    return [rounded(entry["low"]), rounded(entry["high"]), [rounded(count, 3) for count in entry["counts"]]]

"""Line charts of a run's metrics over its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from elc_composer.figures.canvas import GRID, INK, MUTED, SERIES, literal, new_figure, save, set_title

History = Mapping[str, Sequence[tuple[int, float]]]
"""Name -> (step, value) pairs."""


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Running mean over `window` values, centred; near the ends over fewer, as many on either side."""
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(values, dtype=float)]))
    at = np.arange(len(values))
    reach = np.minimum(np.minimum(at, len(values) - 1 - at), window // 2)
    return (sums[at + reach + 1] - sums[at - reach]) / (2 * reach + 1)


def curves(
    history: History,
    title: str,
    ylabel: str = "",
    labels: Mapping[str, str] | None = None,
    window: int = 1,
    ylim: tuple[float, float] | None = None,
    chance: float | None = None,
) -> Figure:
    """A chart with one line per metric.

    Args:
        history: metric name -> (step, value) pairs.
        title: title above the chart.
        ylabel: label of the value axis, with the unit.
        labels: legend entries, for metrics that are not shown by their own name.
        window: values of the running mean; above 1 it is drawn as well, and the values themselves faintly.
        ylim: ends of the value axis.
        chance: a value to mark with a dashed line, such as 0.5 for minimal pairs.
    """
    figure = new_figure(7.2, 4.2)
    axes = figure.add_subplot()
    for index, (name, points) in enumerate(history.items()):
        if not points:
            continue
        steps, values = zip(*points)
        color, label = SERIES[index % len(SERIES)], literal((labels or {}).get(name, name))
        style = "-" if index < len(SERIES) else "--"
        marker = "o" if len(points) <= 30 else None
        if window > 1 and len(points) > 2 * window:
            axes.plot(steps, values, style, color=color, alpha=0.25, linewidth=0.8)
            values = tuple(smooth(values, window))
            label, marker = f"{label} (mean of {window})", None
        axes.plot(steps, values, style, color=color, label=label, linewidth=1.8, marker=marker, markersize=3.5)
    if chance is not None:
        axes.axhline(chance, color=MUTED, linestyle="--", linewidth=1, label=f"chance ({chance:g})")
    set_title(figure, title)
    axes.set_xlabel("step", color=INK)
    axes.set_ylabel(literal(ylabel), color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if ylim is not None:
        axes.set_ylim(*ylim)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=9)
    handles, _ = axes.get_legend_handles_labels()
    if len(handles) > 6:
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    elif handles:
        axes.legend(frameon=False, fontsize=9)
    return figure


def draw_curves(
    history: History,
    path: Path | str,
    title: str,
    ylabel: str = "",
    labels: Mapping[str, str] | None = None,
    window: int = 1,
    ylim: tuple[float, float] | None = None,
    chance: float | None = None,
) -> Path:
    """Write `curves` to `path` as PNG."""
    return save(curves(history, title, ylabel, labels, window, ylim, chance), path)

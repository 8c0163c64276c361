"""Plotly figures of the line charts as plain dicts: curves, shaded bands and event marks.

The page's script fills in the theme's colours: every trace names its colour by number in `meta.colour`, or by key
(`rule`, `warn`). Without that step the figures are valid and have the colours of the light theme.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from elc_composer.report.charts import Chart, Line, Values
from elc_composer.report.events import MARKED_KINDS, Event
from elc_composer.report.theme import LIGHT

Figure = dict[str, Any]
MARKER_POINTS = 30
"""Curves of at most this many points have a marker at each."""
FAINT_RANGE = (0.5, 99.5)
"""Percentiles of a faint curve that the value axis covers, so that one spike does not flatten the rest."""
LARGEST_END = 1e300
"""Beyond it the axis is left to Plotly: its ends with a margin would be infinite."""
LABEL_WIDTH = 44
"""Characters of a legend entry on a line; more do not fit on a phone."""
LARGE_MARGINS = {"t": 24, "r": 12, "b": 40, "l": 52}
RANGE_MARGIN = 0.04
"""Room above and below the curves, relative to their range."""
SMALL_MARGINS = {"t": 8, "r": 8, "b": 24, "l": 40}
LARGE_HEIGHT, SMALL_HEIGHT, LEGEND_HEIGHT = 270, 150, 50


def plain(text: str) -> str:
    """The text as Plotly must be given it: its labels understand a subset of HTML."""
    return escape(text, quote=False)


def wrapped(text: str) -> str:
    """`plain` on lines of limited width."""
    return "<br>".join(plain(part) for part in textwrap.wrap(text, LABEL_WIDTH)) or " "


def line_figure(chart: Chart, events: Sequence[Sequence[Event]], several: bool) -> Figure:
    """A chart's figure, `{"data", "layout"}`.

    Args:
        chart: the chart.
        events: the events of each run; marked in large charts only.
        several: whether the page compares runs. Then colours are the runs'; else each curve has its own.
    """
    traces: list[Figure] = []
    number = 0
    for each in chart.lines:
        colour = each.run if several else 1 if each.style == "dash" else number
        traces += _bands(each, colour % len(LIGHT.series))
        traces.append(_curve(each, colour % len(LIGHT.series), chart.small))
        number += each.style != "faint"
    if not chart.small:
        in_legend: set[str] = set()
        for run in sorted({each.run for each in chart.lines}):
            for mark in _marks(events[run], run, _steps(chart)):
                mark["showlegend"] = mark["name"] not in in_legend  # one entry shows and hides those of all runs
                in_legend.add(mark["name"])
                traces.append(mark)
    in_words = [trace for trace in traces if trace["meta"]["words"]]
    legend = not chart.small and (several or len(in_words) > 1)
    return {"data": traces, "layout": _layout(chart, legend)}


def _curve(line: Line, colour: int, small: bool) -> Figure:
    faint = line.style == "faint"
    return {
        "type": "scatter",
        "name": wrapped(line.label),
        "x": line.x,
        "y": line.y,
        "mode": "lines+markers" if len(line.x) <= MARKER_POINTS else "lines",
        "line": {
            "color": LIGHT.series[colour],
            "width": 1 if faint else 1.8,
            "dash": "dash" if line.style == "dash" else "solid",
        },
        "marker": {"size": 5},
        "opacity": 0.35 if faint else 1,
        "hoverinfo": "skip" if faint else "all",
        "showlegend": not faint and not small,
        "legendgroup": line.label.split(" (mean of ")[0],
        "meta": {"run": line.run, "colour": colour, "label": line.label, "words": "" if faint else _in_words(line)},
    }


def _bands(line: Line, colour: int) -> list[Figure]:
    """Two invisible curves for each band, the second of which fills the area down to the first."""
    traces = []
    for lower, upper in line.bands:
        known = [i for i in range(len(line.x)) if lower[i] is not None and upper[i] is not None]
        for values, fill in ((lower, "none"), (upper, "tonexty")):
            traces.append(
                {
                    "type": "scatter",
                    "x": [line.x[i] for i in known],
                    "y": [values[i] for i in known],
                    "mode": "lines",
                    "line": {"width": 0, "color": LIGHT.series[colour]},
                    "fill": fill,
                    "hoverinfo": "skip",
                    "showlegend": False,
                    "meta": {"run": line.run, "colour": colour, "words": ""},
                }
            )
    return traces


def _marks(events: Sequence[Event], run: int, steps: range) -> list[Figure]:
    """Vertical lines at a run's events, on an axis of their own from 0 to 1."""
    traces = []
    for name, kinds, colour in (("stages", ("stage",), "rule"), ("restarts and faults", ("restart", "fault"), "warn")):
        marked = [event for event in events if event.kind in kinds and event.kind in MARKED_KINDS]
        marked = [event for event in marked if event.step in steps]
        if not marked:
            continue
        x: list[int | None] = []
        text: list[str] = []
        for event in marked:
            label = "<br>".join(plain(part) for part in textwrap.wrap(f"step {event.step:,}: {event.text}", 60))
            x += [event.step, event.step, None]
            text += [label, label, ""]
        traces.append(
            {
                "type": "scatter",
                "name": name,
                "x": x,
                "y": [0, 1, None] * len(marked),
                "yaxis": "y2",
                "mode": "lines",
                "line": {"width": 1.2, "dash": "dot", "color": getattr(LIGHT, colour)},
                "text": text,
                "hovertemplate": "%{text}<extra></extra>",
                "legendgroup": name,
                "meta": {"run": run, "colour": colour, "words": ""},
            }
        )
    return traces


def _steps(chart: Chart) -> range:
    """Steps after the chart's first one up to its last: a mark at the very start says nothing."""
    ends = [(line.x[0], line.x[-1]) for line in chart.lines if line.x]
    return range(min(first for first, _ in ends) + 1, max(last for _, last in ends) + 1) if ends else range(0)


def _layout(chart: Chart, legend: bool) -> Figure:
    layout: Figure = {
        "height": SMALL_HEIGHT if chart.small else LARGE_HEIGHT + LEGEND_HEIGHT * legend,
        "margin": SMALL_MARGINS if chart.small else LARGE_MARGINS,
        "showlegend": legend,
        "legend": {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        "hovermode": "x unified",
        "uirevision": "kept",
        "xaxis": {"tickformat": ",d", "hoverformat": ",d", "nticks": 4 if chart.small else 8, "showgrid": False},
        "yaxis": {
            "tickformat": ",.6~g",
            "hoverformat": ",.5~g",
            "nticks": 4 if chart.small else 7,
            **_value_axis(chart),
        },
    }
    steps = _steps(chart)
    if len(steps) < 8:
        layout["xaxis"]["dtick"] = 1  # ticks between two steps would repeat their rounded numbers
    if not chart.small:
        layout["xaxis"]["title"] = {"text": "step", "standoff": 6}
        layout["yaxis"]["title"] = {"text": plain(chart.unit), "standoff": 8}
        layout["yaxis2"] = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    if chart.rule is not None:
        layout["shapes"] = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": chart.rule, "y1": chart.rule}]
    return layout


def _value_axis(chart: Chart) -> Figure:
    """The value axis adapts to the curves that are shown, within the ends of all of them."""
    if chart.range is not None:
        low, high = chart.range
        margin = RANGE_MARGIN / 2 * (high - low)
        return {"range": [low - margin, high + margin]}
    ends = [end for line in chart.lines for end in _ends(line)]
    if not ends:
        return {}
    low, high = min(ends), max(ends)
    if max(-low, high) > LARGEST_END:
        return {}
    if high - low < 1e-3 * abs(high):
        margin = abs(high) / 10 or 1  # differences by rounding alone would fill the chart
        return {"range": [low - margin, high + margin]}
    margin = RANGE_MARGIN * (high - low)
    if 0 <= low < 0.3 * high:
        return {"rangemode": "tozero", "autorangeoptions": {"clipmax": high + margin}}
    return {"autorangeoptions": {"clipmin": low - margin, "clipmax": high + margin}}


def _ends(line: Line) -> list[float]:
    """Smallest and largest value of a curve and its bands, of a faint curve without its most extreme values."""
    values: Values = [*line.y, *(value for band in line.bands for values in band for value in values)]
    finite = [float(value) for value in values if value is not None]
    if not finite:
        return []
    if line.style == "faint":
        return [float(end) for end in np.percentile(finite, FAINT_RANGE)]
    return [min(finite), max(finite)]


def _in_words(line: Line) -> str:
    """The curve's ends, for screen readers."""
    if not line.x:
        return ""
    ends = [f"{'none' if line.y[i] is None else f'{line.y[i]:.4g}'} at step {line.x[i]:,}" for i in (0, -1)]
    return f"{line.label} from {ends[0]} to {ends[1]}"

"""Line charts as plain values, from which Plotly figures and PNG pictures are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from elc_composer.figures.curves import smooth
from elc_composer.report.downsample import MAX_POINTS, downsample, rounded
from elc_composer.report.run_reader import RunFolder
from elc_composer.report.series import Series

SMALL_POINTS = 300
"""Points of a curve in a small chart; a page may have a hundred of these."""
RATE_POINTS = 600
MIN_WINDOW = 3

Values = list[float | int | None]


@dataclass
class Line:
    """One curve."""

    run: int
    """Number of its run."""
    label: str
    x: list[int]
    y: Values
    style: str = "line"
    """line, faint (a raw curve behind its running mean; without a legend entry) or dash."""
    bands: list[tuple[Values, Values]] = field(default_factory=list)
    """Lower and upper curves over the same x; the area between them is shaded."""


@dataclass
class Chart:
    """One chart; `id` is unique on the page."""

    id: str
    title: str
    section: str
    unit: str
    lines: list[Line]
    range: tuple[float, float] | None = None
    """Ends of the value axis; None: from the values."""
    rule: float | None = None
    """A value to mark with a horizontal line, such as chance."""
    figure: str = ""
    """Key in `distributions.FIGURES`; the reader picks one of them at a time."""
    small: bool = False


def line(run: int, label: str, series: Series, most: int = MAX_POINTS, style: str = "line", scale: float = 1) -> Line:
    """A curve with at most `most` points, its values multiplied by `scale`."""
    x, y = downsample(series.steps, series.values, most)
    return Line(run, label, x, [None if value is None else rounded(value * scale) for value in y], style)


def smoothed(run: int, label: str, series: Series, most: int = RATE_POINTS) -> list[Line]:
    """A faint curve and its running mean over about a hundredth of it; only the curve itself if it is short."""
    finite = [(step, value) for step, value in zip(series.steps, series.values) if value is not None]
    window = len(finite) // 100
    if window < MIN_WINDOW:
        return [line(run, label, series)]
    steps, values = zip(*finite)
    mean = Series(list(steps), [float(value) for value in smooth(values, window)])
    return [line(run, label, series, style="faint"), line(run, f"{label} (mean of {window})", mean, most)]


def small_charts(
    runs: Sequence[RunFolder],
    section: str,
    metrics: Mapping[str, str],
    unit: str = "",
    figure: str = "",
    range: tuple[float, float] | None = None,
    rule: float | None = None,
) -> list[Chart]:
    """One small chart for each metric that any run has; `metrics` maps their names to titles."""
    charts = []
    for metric, title in metrics.items():
        lines = []
        for number, run in enumerate(runs):
            if metric in run.metrics:
                lines.append(line(number, run.name, run.metrics[metric], SMALL_POINTS))
        if lines:
            charts.append(Chart(f"{section}-{metric}", title, section, unit, lines, range, rule, figure, small=True))
    return charts

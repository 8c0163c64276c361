"""The page's line charts, as plain values that the page's script and the PNG export both draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from elc_composer.figures.curves import smooth
from elc_composer.report.files import RunFolder, Series
from elc_composer.report.thin import MOST_POINTS, short, thin

SMALL = 300
"""Most points of a curve in a small chart, of which there may be a hundred."""


@dataclass
class Line:
    """One curve; its colour is its run's, or its own number's where there is one run and `colour` is set."""

    run: int
    label: str
    x: list[int]
    y: list[float | int | None]
    style: str = "line"
    """line, faint (behind, unlabelled) or dash."""
    bands: list[list[list[float | int | None]]] = field(default_factory=list)
    """Pairs of lower and upper curve over the same x, drawn as shades."""


@dataclass
class Panel:
    """One chart."""

    id: str
    title: str
    section: str
    unit: str
    lines: list[Line]
    range: tuple[float, float] | None = None
    rule: float | None = None
    """A value to mark, such as chance."""
    figure: str = ""
    """Set in charts of which the reader picks one figure at a time."""
    small: bool = False

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def line(run: int, label: str, series: Series, most: int = MOST_POINTS, style: str = "line", scale: float = 1) -> Line:
    """A thinned curve."""
    x, y = thin(series.steps, series.values, most)
    return Line(run, label, x, [None if value is None else short(value * scale) for value in y], style)


def smoothed(run: int, label: str, series: Series, most: int = 600) -> list[Line]:
    """The curve itself, faint, and its running mean over about a hundredth of it; short curves as they are."""
    whole = [(step, value) for step, value in zip(series.steps, series.values) if value is not None]
    window = len(whole) // 100
    if window < 3:
        return [line(run, label, series)]
    steps, values = zip(*whole)
    mean = Series(list(steps), [float(value) for value in smooth(values, window)])
    return [line(run, label, series, style="faint"), line(run, f"{label} (mean of {window})", mean, most)]


def training_panels(runs: Sequence[RunFolder]) -> list[Panel]:
    """Loss, accuracy, speed, gradients and learning rate; panels without a curve are left out."""
    panels = [
        Panel("loss", "Masked-LM loss", "loss", "nats a masked token", _loss(runs)),
        _panel(runs, "dev-accuracy", "Accuracy on masked tokens of the dev split", "loss", "share",
               "metrics/dev/MaskedAccuracy"),
        _panel(runs, "perplexity", "Perplexity on the dev split", "loss", "", "metrics/dev/LanguagePerplexity"),
        _panel(runs, "tokens", "Tokens", "speed", "tokens a second", "throughput/tokens_per_sec"),
        _panel(runs, "flops", "Arithmetic", "speed", "GFLOP a second", "throughput/flops_per_sec", scale=1e-9),
        _panel(runs, "mfu", "Model FLOPs utilisation", "speed", "share of the device's peak", "throughput/device/mfu"),
        _panel(runs, "memory", "Largest memory in use", "speed", "GB", "memory/peak_reserved_mem"),
        Panel("gradient", "Gradient norm", "gradients", "L2 norm", _gradients(runs)),
        Panel("learning-rate", "Learning rate", "learning-rate", "", _rates(runs)),
    ]  # fmt: skip
    return [panel for panel in panels if panel.lines]


def _panel(
    runs: Sequence[RunFolder], id: str, title: str, section: str, unit: str, metric: str, scale: float = 1
) -> Panel:
    found = [(number, run.name, run.metrics[metric]) for number, run in enumerate(runs) if metric in run.metrics]
    return Panel(id, title, section, unit, [line(number, name, series, scale=scale) for number, name, series in found])


def _loss(runs: Sequence[RunFolder]) -> list[Line]:
    lines: list[Line] = []
    for number, run in enumerate(runs):
        if "loss/train/total" in run.metrics:
            lines += smoothed(number, f"{run.name}, train", run.metrics["loss/train/total"])
        if "metrics/dev/LanguageCrossEntropy" in run.metrics:
            dev = run.metrics["metrics/dev/LanguageCrossEntropy"]
            lines.append(line(number, f"{run.name}, dev", dev, style="dash"))
    return lines


def _gradients(runs: Sequence[RunFolder]) -> list[Line]:
    lines = []
    for number, run in enumerate(runs):
        whole = run.metrics.get("gradient/norm") or run.metrics.get("l2_norm/grad/global") or whole_gradient(run)
        if whole is not None:
            lines += smoothed(number, run.name, whole)
    return lines


def whole_gradient(run: RunFolder) -> Series | None:
    """The whole gradient's norm from the parameter groups' norms, which share no parameter; None without these."""
    prefix, suffix = "weight_distribution/group_", "/grad_norm"
    groups = [s for name, s in run.metrics.items() if name.startswith(prefix) and name.endswith(suffix)]
    if not groups or any(group.steps != groups[0].steps for group in groups):
        return None
    rows = zip(*(group.values for group in groups))
    values = [None if any(v is None for v in row) else math.sqrt(sum(v * v for v in row if v)) for row in rows]
    return Series(groups[0].steps, values)


def _rates(runs: Sequence[RunFolder]) -> list[Line]:
    lines = []
    for number, run in enumerate(runs):
        seen: list[Series] = []
        for name, series in run.metrics.items():
            # groups mostly share one rate: one curve then says all
            if name.startswith("lr-") and all(series.values != other.values for other in seen):
                seen.append(series)
                label = run.name if len(seen) == 1 else f"{run.name}, {name.rsplit('/', 1)[-1]}"
                lines.append(line(number, label, series, most=600))
    return lines


def small_panels(
    runs: Sequence[RunFolder],
    section: str,
    metrics: Mapping[str, str],
    unit: str = "",
    **more: Any,
) -> list[Panel]:
    """One small chart for each of `metrics` (name -> title), all runs in it."""
    panels = []
    for metric, title in metrics.items():
        found = [(number, run.name, run.metrics.get(metric)) for number, run in enumerate(runs)]
        lines = [line(number, label, series, SMALL) for number, label, series in found if series is not None]
        if lines:
            panels.append(
                Panel(f"{section}-{metric}".replace("/", "-"), title, section, unit, lines, small=True, **more)
            )
    return panels

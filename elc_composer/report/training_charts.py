"""Charts of training: loss, accuracy, throughput, memory, gradients and learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from elc_composer.report.charts import RATE_POINTS, Chart, Line, line, smoothed
from elc_composer.report.run_reader import RunFolder
from elc_composer.report.series import Series

TRAIN_LOSS = "loss/train/total"
DEV_LOSS = "metrics/dev/LanguageCrossEntropy"
DEV_ACCURACY = "metrics/dev/MaskedAccuracy"
TOKENS_PER_SECOND = "throughput/tokens_per_sec"
GRADIENT_NORMS = ("gradient/norm", "l2_norm/grad/global")
"""Names under which different callbacks log the norm of the whole gradient."""
GROUP_PREFIX, GROUP_SUFFIX = "weight_distribution/group_", "/grad_norm"


def training_charts(runs: Sequence[RunFolder]) -> list[Chart]:
    """The charts that have at least one curve."""
    charts = [
        Chart("loss", "Masked-LM loss", "loss", "nats per masked token", _losses(runs)),
        _chart(runs, "dev-accuracy", "Accuracy on masked tokens of the dev split", "loss", "accuracy", DEV_ACCURACY),
        _chart(
            runs, "perplexity", "Perplexity on the dev split", "loss", "perplexity", "metrics/dev/LanguagePerplexity"
        ),
        _chart(runs, "tokens", "Tokens", "speed", "tokens per second", TOKENS_PER_SECOND),
        _chart(runs, "flops", "Arithmetic", "speed", "GFLOP per second", "throughput/flops_per_sec", scale=1e-9),
        _chart(runs, "mfu", "Model FLOPs utilization", "speed", "share of the peak", "throughput/device/mfu"),
        _chart(runs, "memory", "Largest memory in use", "speed", "GB", "memory/peak_reserved_mem"),
        Chart("gradient", "Gradient norm", "gradients", "L2 norm", _gradients(runs)),
        Chart("learning-rate", "Learning rate", "learning-rate", "learning rate", _learning_rates(runs)),
    ]
    return [chart for chart in charts if chart.lines]


def whole_gradient(run: RunFolder) -> Series | None:
    """Norm of the whole gradient from those of the parameter groups, which share no parameter; None without them."""
    groups = []
    for name, series in run.metrics.items():
        if name.startswith(GROUP_PREFIX) and name.endswith(GROUP_SUFFIX):
            groups.append(series)
    if not groups or any(group.steps != groups[0].steps for group in groups):
        return None
    norms: list[float | None] = []
    for row in zip(*(group.values for group in groups)):
        known = [value for value in row if value is not None]
        norms.append(math.hypot(*known) if len(known) == len(row) else None)
    return Series(groups[0].steps, norms)


def _chart(
    runs: Sequence[RunFolder], id: str, title: str, section: str, unit: str, metric: str, scale: float = 1
) -> Chart:
    lines = []
    for number, run in enumerate(runs):
        if metric in run.metrics:
            lines.append(line(number, run.name, run.metrics[metric], scale=scale))
    return Chart(id, title, section, unit, lines)


def _losses(runs: Sequence[RunFolder]) -> list[Line]:
    lines = []
    for number, run in enumerate(runs):
        if TRAIN_LOSS in run.metrics:
            lines += smoothed(number, f"{run.name}, train", run.metrics[TRAIN_LOSS])
        if DEV_LOSS in run.metrics:
            lines.append(line(number, f"{run.name}, dev", run.metrics[DEV_LOSS], style="dash"))
    return lines


def _gradients(runs: Sequence[RunFolder]) -> list[Line]:
    lines = []
    for number, run in enumerate(runs):
        logged = [run.metrics[name] for name in GRADIENT_NORMS if name in run.metrics]
        norm = logged[0] if logged else whole_gradient(run)
        if norm is not None:
            lines += smoothed(number, run.name, norm)
    return lines


def _learning_rates(runs: Sequence[RunFolder]) -> list[Line]:
    """One curve for each distinct rate of a run: parameter groups mostly share theirs."""
    lines = []
    for number, run in enumerate(runs):
        distinct: list[Series] = []
        for name, series in run.metrics.items():
            if name.startswith("lr-") and all(series.values != other.values for other in distinct):
                distinct.append(series)
                label = run.name if len(distinct) == 1 else f"{run.name}, {name.rsplit('/', 1)[-1]}"
                lines.append(line(number, label, series, most=RATE_POINTS))
    return lines

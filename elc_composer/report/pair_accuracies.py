"""Minimal-pair accuracies over training: averages, phenomena and paradigms, as charts and as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elc_composer.common.json_files import parse_json
from elc_composer.evaluation.blimp import BLIMP_PHENOMENA, phenomenon_of
from elc_composer.report.charts import Chart, small_charts
from elc_composer.report.downsample import evenly_spaced
from elc_composer.report.run_reader import RunFolder
from elc_composer.report.series import Series

AVERAGES = ("overall", "phenomena", "micro")
KINDS = ("average", "phenomenon", "paradigm")
MAX_COLUMNS = 16
"""Evaluations in the table of paradigms."""


@dataclass(frozen=True)
class Accuracy:
    """One accuracy of a set."""

    name: str
    kind: str
    """average, phenomenon or paradigm."""
    group: str
    """A paradigm's phenomenon; the name itself for the other kinds."""
    series: Series


@dataclass(frozen=True)
class Grid:
    """Accuracies of a set's paradigms in one run: rows are paradigms, columns are evaluations."""

    label: str
    run: int
    steps: list[int]
    groups: dict[str, list[tuple[str, list[float | None]]]]
    """Phenomenon -> (paradigm, its accuracies)."""


def set_labels(runs: Sequence[RunFolder]) -> list[str]:
    """Labels of the sets of minimal pairs that were scored in any run."""
    found = []
    for run in runs:
        for name in run.metrics:
            parts = name.split("/")
            if len(parts) == 3 and parts[0] == "metrics" and parts[2] == "overall":
                found.append(parts[1])
    return list(dict.fromkeys(found))


def accuracies(run: RunFolder, label: str) -> list[Accuracy]:
    """All accuracies of a set: averages, then phenomena, then paradigms grouped by phenomenon."""
    group_of = read_phenomena(run, label)
    known = set(group_of.values()) | set(BLIMP_PHENOMENA.values())
    prefix, found = f"metrics/{label}/", []
    for metric, series in run.metrics.items():
        name = metric.removeprefix(prefix)
        if not metric.startswith(prefix) or "/" in name:
            continue
        # A paradigm that is named like its phenomenon is logged with a suffix.
        paradigm = name.removesuffix("_paradigm") if name not in group_of else name
        if name in AVERAGES:
            kind, group = "average", name
        elif name in known:
            kind, group = "phenomenon", name
        else:
            kind, group = "paradigm", group_of.get(paradigm) or phenomenon_of(paradigm) or "other"
        found.append(Accuracy(name, kind, group, series))
    order = list(dict.fromkeys(entry.group for entry in found))
    return sorted(found, key=lambda entry: (KINDS.index(entry.kind), order.index(entry.group)))


def read_phenomena(run: RunFolder, label: str) -> dict[str, str]:
    """Paradigm -> phenomenon of a set, from the first line of each of its local files; other files are left out."""
    named = run.get("evaluators", "minimal_pairs")
    found: dict[str, str] = {}
    for entry in named if isinstance(named, list) else []:
        if not isinstance(entry, dict) or entry.get("label", "blimp") != label:
            continue
        path = entry.get("path")
        if not isinstance(path, str) or "://" in path:
            continue
        for row, stem in _first_lines(Path(path)):
            paradigm, stated = row.get("UID", stem), row.get("linguistics_term") or row.get("phenomenon")
            if isinstance(paradigm, str) and (stated is None or isinstance(stated, str)):
                phenomenon = phenomenon_of(paradigm, stated)
                if phenomenon:
                    found[paradigm] = phenomenon
    return found


def _first_lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The first object and the stem of each file; files that cannot be read are left out."""
    try:
        files = [path] if path.is_file() else sorted(path.rglob("*.jsonl"))
    except (OSError, ValueError):  # ValueError: a path with a null byte
        return
    for file in files:
        try:
            with file.open(encoding="utf-8-sig") as lines:
                row = parse_json(next(lines, ""), file)
        except (OSError, ValueError):
            continue
        if isinstance(row, dict):
            yield row, file.stem


def accuracy_charts(runs: Sequence[RunFolder]) -> list[Chart]:
    """For each set a chart of its mean over paradigms, and small ones of its phenomena."""
    charts: list[Chart] = []
    for label in set_labels(runs):
        overall = {f"metrics/{label}/overall": f"{label}: mean over paradigms"}
        phenomena = {}
        for run in runs:
            for entry in accuracies(run, label):
                if entry.kind == "phenomenon":
                    phenomena[f"metrics/{label}/{entry.name}"] = f"{label}: {entry.name.replace('_', ' ')}"
        large = small_charts(runs, "pairs", overall, "accuracy", range=(0.0, 1.0), rule=0.5)
        for chart in large:
            chart.small = False
        charts += large + small_charts(runs, "pairs", phenomena, "accuracy", range=(0.0, 1.0), rule=0.5)
    return charts


def accuracy_grids(runs: Sequence[RunFolder]) -> list[Grid]:
    """A table of all paradigms for each set and run, at up to 16 evaluations."""
    grids = []
    for label in set_labels(runs):
        for number, run in enumerate(runs):
            entries = [entry for entry in accuracies(run, label) if entry.kind == "paradigm"]
            if entries:
                steps = evenly_spaced(max((entry.series.steps for entry in entries), key=len), MAX_COLUMNS)
                grid = Grid(label, number, steps, {})
                for entry in entries:
                    values = dict(zip(entry.series.steps, entry.series.values))
                    row = (entry.name, [values.get(step) for step in steps])
                    grid.groups.setdefault(entry.group, []).append(row)
                grids.append(grid)
    return grids

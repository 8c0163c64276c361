"""Minimal-pair accuracies over training, sorted into averages, phenomena and paradigms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elc_composer.evaluation.blimp import BLIMP_PHENOMENA, phenomenon_of
from elc_composer.report.files import RunFolder, Series

AVERAGES = {"overall": "mean over paradigms", "phenomena": "mean over phenomena", "micro": "all pairs alike"}


@dataclass(frozen=True)
class Accuracy:
    """One accuracy of a set."""

    label: str
    name: str
    kind: str
    """average, phenomenon or paradigm."""
    group: str
    """A paradigm's phenomenon; else the name itself."""
    series: Series


def labels(run: RunFolder) -> list[str]:
    """Sets of minimal pairs that were scored."""
    return [name.split("/")[1] for name in run.metrics if name.startswith("metrics/") and name.endswith("/overall")]


def accuracies(run: RunFolder, label: str) -> list[Accuracy]:
    """All accuracies of a set: averages, then phenomena, then paradigms beside others of their phenomenon."""
    group_of = phenomena(run, label)
    known = set(group_of.values()) | set(BLIMP_PHENOMENA.values())
    prefix, found = f"metrics/{label}/", []
    for metric, series in run.metrics.items():
        name = metric.removeprefix(prefix)
        if not metric.startswith(prefix) or "/" in name:
            continue
        paradigm = name.removesuffix("_paradigm") if name not in group_of else name
        if name in AVERAGES:
            kind, group = "average", name
        elif name in known:
            kind, group = "phenomenon", name
        else:
            kind, group = "paradigm", group_of.get(paradigm) or phenomenon_of(paradigm) or "other"
        found.append(Accuracy(label, name, kind, group, series))
    order = list(dict.fromkeys(entry.group for entry in found))
    kinds = ["average", "phenomenon", "paradigm"]
    return sorted(found, key=lambda entry: (kinds.index(entry.kind), order.index(entry.group)))


def phenomena(run: RunFolder, label: str) -> dict[str, str]:
    """Paradigm -> phenomenon of a set, from the first line of each of its files; empty where they are out of reach."""
    named = run.get("evaluators", "minimal_pairs")
    sets = named if isinstance(named, list) else []
    paths = [entry.get("path") for entry in sets if isinstance(entry, dict) and entry.get("label", "blimp") == label]
    found: dict[str, str] = {}
    for row, stem in (item for path in paths if path and "://" not in str(path) for item in _first_lines(Path(path))):
        paradigm = str(row.get("UID", stem))
        phenomenon = phenomenon_of(paradigm, row.get("linguistics_term") or row.get("phenomenon"))
        if phenomenon:
            found[paradigm] = phenomenon
    return found


def _first_lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    for file in [path] if path.is_file() else sorted(path.rglob("*.jsonl")):
        try:
            with file.open(encoding="utf-8-sig") as lines:
                row = json.loads(next(lines, ""))
        except (OSError, ValueError):
            continue
        if isinstance(row, dict):
            yield row, file.stem

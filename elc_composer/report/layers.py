"""What layers read at every logged moment: the numbers behind the heatmaps with a step slider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elc_composer.report.files import RunFolder
from elc_composer.report.thin import short, spread_out

Shares = dict[str, list[float | None]]


def weight_history(run: RunFolder) -> list[tuple[int, Shares]]:
    """(step, layer -> shares of its sources), from the layer weights alone."""
    return [(row["step"], dict(row["layers"])) for row in run.layer_weights]


def mixed_history(run: RunFolder) -> list[tuple[int, Shares]]:
    """(step, layer -> shares of its sources), weight times norm."""
    return [
        (row["step"], {label: _shares(entry) for label, entry in row["layers"].items()}) for row in run.mixed_inputs
    ]


def _shares(entry: Mapping[str, Any]) -> list[float | None]:
    parts: Sequence[float | None] = entry.get("contributions") or []
    whole = sum(part for part in parts if part is not None)
    return [None if part is None or not whole else part / whole for part in parts]


def frames(history: Sequence[tuple[int, Shares]], most_numbers: int) -> dict[str, Any] | None:
    """At most 200 moments for the page, fewer where layers are many; None where there is none."""
    if not history:
        return None
    labels = list(history[-1][1])
    numbers = sum(map(len, history[-1][1].values())) or 1
    kept = spread_out(history, max(10, min(200, most_numbers // numbers)))
    rows = [[[short(share, 4) for share in shares.get(label, [])] for label in labels] for _, shares in kept]
    return {"steps": [step for step, _ in kept], "labels": labels, "frames": rows}

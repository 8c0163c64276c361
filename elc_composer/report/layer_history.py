"""Histories of what each layer reads: the data behind the heatmaps with a step slider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elc_composer.report.downsample import evenly_spaced, rounded
from elc_composer.report.run_reader import RunFolder

MAX_FRAMES = 200
SourceShares = dict[str, list[float | None]]
"""Layer label -> shares of its sources 0 (embedding), 1 (layer 1), ..."""


def weight_history(run: RunFolder) -> list[tuple[int, SourceShares]]:
    """(step, shares) from the layer weights: the softmax of each layer's weights."""
    return [(row["step"], dict(row["layers"])) for row in run.layer_weights]


def mixed_history(run: RunFolder) -> list[tuple[int, SourceShares]]:
    """(step, shares) from the mixed inputs: each source's contribution, weight times norm, relative to their sum."""
    history = []
    for row in run.mixed_inputs:
        history.append((row["step"], {label: _relative(entry) for label, entry in row["layers"].items()}))
    return history


def _relative(entry: Mapping[str, Any]) -> list[float | None]:
    parts: Sequence[float | None] = entry["contributions"]
    total = sum(part for part in parts if part is not None)
    return [None if part is None or not total else part / total for part in parts]


def frames(history: Sequence[tuple[int, SourceShares]], max_numbers: int) -> dict[str, Any] | None:
    """The history for the page, `{"steps", "labels", "frames"}`; None if it is empty.

    Args:
        history: see `weight_history`.
        max_numbers: shares to keep in all; at least 10 and at most 200 frames stay.

    Returns:
        `frames[moment][layer][source]` is a share or None; `labels` are those of the newest moment.
    """
    if not history:
        return None
    labels = list(history[-1][1])
    numbers = sum(len(shares) for shares in history[-1][1].values())
    kept = evenly_spaced(history, max(10, min(MAX_FRAMES, max_numbers // max(numbers, 1))))
    rows = []
    for _, shares in kept:
        rows.append([[rounded(share, 4) for share in shares.get(label, [])] for label in labels])
    return {"steps": [step for step, _ in kept], "labels": labels, "frames": rows}

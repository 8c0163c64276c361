"""Fewer numbers that look the same, so that the page of a long run stays small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")
MOST_POINTS = 2000


def thin(
    steps: Sequence[int], values: Sequence[float | None], most: int = MOST_POINTS
) -> tuple[list[int], list[float | None]]:
    """At most `most` of the points: of every stretch its smallest and largest value, so that no spike is lost.

    The first and the last point stay, and so does a gap (None) of a stretch that has nothing else.
    """
    count = len(values)
    if count <= most:
        return list(steps), list(values)
    stretches = max((most - 2) // 2, 1)
    kept = {0, count - 1}
    for stretch in range(stretches):
        inside = range(stretch * count // stretches, (stretch + 1) * count // stretches)
        finite = [(value, i) for i in inside if (value := values[i]) is not None]
        kept |= {min(finite)[1], max(finite)[1]} if finite else {inside[0]}
    chosen = sorted(kept)
    return [steps[i] for i in chosen], [values[i] for i in chosen]


def spread_out(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)] if most > 1 else [items[-1]]


def short(value: float | None, digits: int = 5) -> float | int | None:
    """The value with that many significant digits; None for what is no finite number."""
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded

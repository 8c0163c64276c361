"""Reduces series and histories to the number of points that a page needs, so that it stays small for long runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")
MAX_POINTS = 2000


def downsample(
    steps: Sequence[int], values: Sequence[float | None], most: int = MAX_POINTS
) -> tuple[list[int], list[float | None]]:
    """Keep at most `most` points: the smallest and the largest value of each interval, so that spikes stay.

    The first and the last point stay, and a gap (None) stays if its interval has nothing else.
    """
    count = len(values)
    if count <= most:
        return list(steps), list(values)
    intervals = max((most - 2) // 2, 1)
    kept = {0, count - 1}
    for interval in range(intervals):
        inside = range(interval * count // intervals, (interval + 1) * count // intervals)
        finite = [(value, i) for i in inside if (value := values[i]) is not None]
        kept |= {min(finite)[1], max(finite)[1]} if finite else {inside[0]}
    chosen = sorted(kept)
    return [steps[i] for i in chosen], [values[i] for i in chosen]


def evenly_spaced(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spaced, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)] if most > 1 else [items[-1]]


def rounded(value: float | None, digits: int = 5) -> float | int | None:
    """The value with `digits` significant digits; None for NaN and infinity."""
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    if not math.isfinite(short):  # the largest floats round up to infinity
        return value
    return int(short) if short.is_integer() and abs(short) < 1e15 else short

"""Metrics as series over optimizer steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from elc_composer.report.step_records import is_number

LARGEST = 1e300
"""Magnitude from which a value counts as infinite: axes cannot span more."""


@dataclass
class Series:
    """One metric over optimizer steps; None stands for NaN and infinity."""

    steps: list[int] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)

    def last(self) -> float | None:
        """The newest finite value."""
        return next((value for value in reversed(self.values) if value is not None), None)


def as_series(rows: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """Metric name -> its series. Text and booleans are left out, and metrics that are never finite (losses stay)."""
    found: dict[str, Series] = {}
    for row in rows:
        for key, value in row.items():
            if key != "step" and (value is None or is_number(value)):
                series = found.setdefault(key, Series())
                series.steps.append(row["step"])
                # MetricsFile writes null; other writers put NaN and Infinity into their lines
                series.values.append(float(value) if value is not None and abs(value) < LARGEST else None)
    return {key: series for key, series in found.items() if series.last() is not None or key.startswith("loss")}

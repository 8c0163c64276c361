"""Reads the JSON Lines files of a run: metrics, layer weights, mixed inputs, weight histograms.

A damaged line or a record of another shape is left out and counted; a file that cannot be read counts as damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elc_composer.common.errors import DataError
from elc_composer.common.json_files import read_json_lines

Record = dict[str, Any]


@dataclass
class StepRecords:
    """The records of one file in the order of their steps, and what is wrong with the file."""

    file: str
    rows: list[Record] = field(default_factory=list)
    damaged: int = 0
    """Lines that are not a JSON object with a step, and records of another shape."""
    torn: bool = False
    """The last line is damaged: it is being written, or the file was cut off."""
    jumps: list[tuple[int, int]] = field(default_factory=list)
    """(step before, step after) at each point where the steps go back because a resumed run appended to the file."""
    problem: str = ""
    """Why the file cannot be read; empty if it can, or if there is none."""


def read_step_records(path: Path) -> StepRecords:
    """Read a file of records with a `step`. A record that steps back replaces all records from its step on."""
    found = StepRecords(path.name)
    if not path.exists():
        return found
    try:
        for record in read_json_lines(path):
            found.torn = record is None or not is_step(record.get("step"))
            if record is None or found.torn:
                found.damaged += 1
            else:
                _append(found, record)
    except DataError as error:
        found.problem = str(error)
    return found


def keep_shape(records: StepRecords, key: str, fits: Callable[[Any], bool]) -> list[Record]:
    """The rows whose `key` holds a non-empty mapping of entries that fit; the others count as damaged."""
    kept = []
    for row in records.rows:
        entries = row.get(key)
        if isinstance(entries, dict) and entries and all(fits(entry) for entry in entries.values()):
            kept.append(row)
        else:
            records.damaged += 1
    return kept


def is_step(value: Any) -> bool:
    """True for an optimizer step that a browser can represent (JavaScript numbers are exact below 2**53)."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def is_number(value: Any) -> bool:
    """True for an integer or a float, NaN and infinity included."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_share_list(entry: Any) -> bool:
    """True for a layer's shares: a non-empty list of numbers or nulls."""
    return isinstance(entry, list) and bool(entry) and all(value is None or is_number(value) for value in entry)


def is_mixed_input(entry: Any) -> bool:
    """True for a layer's entry in `mixed_inputs.jsonl`."""
    return isinstance(entry, dict) and is_share_list(entry.get("contributions"))


def is_histogram(entry: Any) -> bool:
    """True for a unit's entry in `weight_histograms.jsonl`: finite ends and counts that are not negative."""
    if not isinstance(entry, dict) or not _all_finite([entry.get("low"), entry.get("high")]):
        return False
    counts = entry.get("counts")
    return isinstance(counts, list) and bool(counts) and _all_finite(counts) and min(counts) >= 0


def _all_finite(values: Iterable[Any]) -> bool:
    return all(is_number(value) and abs(value) < float("inf") for value in values)


def _append(found: StepRecords, record: Record) -> None:
    rows, step = found.rows, record["step"]
    if rows and step < rows[-1]["step"]:
        found.jumps.append((rows[-1]["step"], step))
        while rows and rows[-1]["step"] >= step:
            rows.pop()
    if rows and rows[-1]["step"] == step:
        rows[-1].update(record)
    else:
        rows.append(record)

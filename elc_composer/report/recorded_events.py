"""Reads `events.jsonl`, in which a run records what happens to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elc_composer.common.errors import DataError
from elc_composer.common.json_files import read_json_lines
from elc_composer.report.step_records import Record, StepRecords, is_step


@dataclass(frozen=True)
class RecordedEvent:
    """One line of `events.jsonl`."""

    step: int
    name: str
    """started, resumed, fell_back, stage, saved, preempted, bad_loss, rolled_back, stopped, finished, or unknown."""
    text: str
    time: str
    """ISO 8601 in UTC; empty if the line has none."""


def read_events(path: Path) -> tuple[list[RecordedEvent], StepRecords]:
    """The events of `events.jsonl` in the order in which they were written, and the damage in the file."""
    file, events = StepRecords(path.name), []
    if not path.exists():
        return [], file
    try:
        for record in read_json_lines(path):
            event = _as_event(record) if record is not None else None
            file.torn = event is None
            if event is None:
                file.damaged += 1
            else:
                events.append(event)
    except DataError as error:
        file.problem = str(error)
    return events, file


def _as_event(record: Record) -> RecordedEvent | None:
    name, text, time = record.get("event"), record.get("text", ""), record.get("time", "")
    if not is_step(record.get("step")) or not all(isinstance(value, str) for value in (name, text, time)):
        return None
    return RecordedEvent(record["step"], str(name), text, time)

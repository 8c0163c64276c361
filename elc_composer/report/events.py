"""Lists a run's events: stages, restarts, faults and checkpoints.

Restarts, faults and the end come from `events.jsonl`. Overwritten steps of the metrics are noted beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from elc_composer.report.recorded_events import RecordedEvent
from elc_composer.report.run_reader import RunFolder
from elc_composer.report.series import Series
from elc_composer.report.step_records import StepRecords, is_number, is_step

MICROBATCH = "trainer/device_train_microbatch_size"
MAX_CHECKPOINTS = 12
"""Checkpoints that are listed by step, the newest ones."""
MARKED_KINDS = ("stage", "restart", "fault")
"""Kinds of events that are marked in the charts."""
KIND_OF = {
    "started": "restart",
    "resumed": "restart",
    "preempted": "restart",
    "fell_back": "fault",
    "bad_loss": "fault",
    "rolled_back": "fault",
    "stopped": "fault",
}
"""Name in `events.jsonl` -> kind; all other names are notes."""
LISTED_ELSEWHERE = ("saved", "stage")
"""Saved checkpoints share one line; stages come from the config, which also has their batch size."""


@dataclass(frozen=True)
class Event:
    """One event; `kind` is stage, restart, fault, note or checkpoint."""

    step: int
    kind: str
    text: str


def find_events(run: RunFolder) -> list[Event]:
    """All events of a run in the order of their steps."""
    stages = list(_stages(run))
    found = [*stages, *_steps_back(run), *_recorded(run), *_not_finite(run)]
    found += _smaller_microbatches(run, {event.step for event in stages})
    found += _checkpoints(run)
    found += [event for file in run.files for event in _damage(file, run.step)]
    found += [Event(run.step, "fault", f"in the log: {line}") for line in run.log]
    return sorted(found, key=lambda event: event.step)


def _stages(run: RunFolder) -> Iterator[Event]:
    """The stages that the run has reached, from its config; none if `stages` is another project's."""
    stages, steps = run.get("stages"), run.get("max_steps")
    if not isinstance(stages, list) or not is_step(steps):
        return
    planned: list[tuple[dict[str, Any], float]] = []
    for stage in stages:
        fraction = stage.get("fraction") if isinstance(stage, dict) else None
        if fraction is None or not is_number(fraction) or not 0 <= fraction <= 1:
            return
        planned.append((stage, float(fraction)))
    reached = 0.0
    for number, (stage, fraction) in enumerate(planned, start=1):
        first = round(reached * steps)
        reached += fraction
        if first <= run.step:
            length, batch = stage.get("seq_length"), stage.get("global_train_batch_size")
            text = f"stage {number} begins: {length} tokens per sequence, {batch} sequences per step"
            yield Event(first, "stage", text)


def _recorded(run: RunFolder) -> Iterator[Event]:
    for number, event in enumerate(run.events):
        if event.name in LISTED_ELSEWHERE:
            continue
        kind = KIND_OF.get(event.name, "note")
        if number == 0 and event.name == "started":
            kind = "note"  # the first start is not a restart
        name = event.name.replace("_", " ") + (":" if kind == "fault" else "")
        yield Event(event.step, kind, f"{name} {event.text}{_when(event)}")


def _checkpoints(run: RunFolder) -> Iterator[Event]:
    if run.checkpoints:
        steps = ", ".join(f"{step:,}" for step in run.checkpoints[-MAX_CHECKPOINTS:])
        yield Event(run.checkpoints[-1], "checkpoint", f"newest checkpoint on disk (all on disk: {steps})")
    saved = [event for event in run.events if event.name == "saved"]
    if saved:
        text = f"{len(saved):,} saved by now, the newest: {saved[-1].text}{_when(saved[-1])}"
        yield Event(saved[-1].step, "checkpoint", text)


def _when(event: RecordedEvent) -> str:
    return f" ({event.time[:16].replace('T', ' ')} UTC)" if event.time else ""


def _steps_back(run: RunFolder) -> Iterator[Event]:
    """One event for each point where metrics.jsonl goes back: a resumed run appended to it without cutting it."""
    for file in run.files[:1]:
        for before, after in file.jumps:
            text = f"{file.file} steps back from {before:,} to {after:,}; the overwritten steps are not shown"
            yield Event(after, "restart", text)


def _not_finite(run: RunFolder) -> Iterator[Event]:
    for name, series in run.metrics.items():
        if name.startswith("loss/"):
            bad = [step for step, value in zip(series.steps, series.values) if value is None]
        elif name.endswith(("/grad_nonfinite", "/nonfinite")):
            bad = [step for step, value in zip(series.steps, series.values) if value]
        else:
            continue
        if bad:
            yield Event(bad[0], "fault", f"{name}: not finite at {len(bad):,} of {len(series.steps):,} logged steps")


def _damage(file: StepRecords, step: int) -> Iterator[Event]:
    if file.problem:
        yield Event(step, "fault", file.problem)
    elif file.torn and file.damaged == 1:
        yield Event(step, "note", f"the last line of {file.file} is incomplete: it is being written, or was cut off")
    elif file.damaged:
        yield Event(step, "fault", f"{file.file}: {file.damaged:,} damaged record(s) left out")


def _smaller_microbatches(run: RunFolder, stage_starts: set[int]) -> Iterator[Event]:
    """Composer reduces an automatic microbatch when memory runs out; a new stage changes it as planned."""
    series = run.metrics.get(MICROBATCH, Series())
    for step, before, after in zip(series.steps[1:], series.values, series.values[1:]):
        if before and after and after < before and not stage_starts & {step - 1, step, step + 1}:
            yield Event(step, "fault", f"microbatch cut from {before:g} to {after:g} sequences: memory ran out")

"""What happened to a run besides training: stages, restarts, faults, as far as its files tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from elc_composer.report.files import RunFolder, Series

RATE = "throughput/batches_per_sec"
LOSS = "loss/train/total"
MICROBATCH = "trainer/device_train_microbatch_size"


@dataclass(frozen=True)
class Event:
    """One event; `kind` is stage, restart, fault, note or checkpoint."""

    step: int
    kind: str
    text: str


def find_events(run: RunFolder) -> list[Event]:
    """A run's events in the order of their steps."""
    borders = list(_stages(run))
    # What the run noted itself is better than what its rates hint at.
    restarts = _noted(run) if run.events else _empty_windows(run)
    found = [*borders, *_jumps(run), *restarts, *_faults(run)]
    found += _microbatches(run, {event.step for event in borders})
    if run.checkpoints:
        steps = ", ".join(f"{step:,}" for step in run.checkpoints[-12:])
        found.append(Event(run.checkpoints[-1], "checkpoint", f"newest checkpoint on disk (there are: {steps})"))
    if saved := [line for line in run.events if line["event"] == "saved"]:
        text = f"{len(saved):,} saved by now, the newest: {saved[-1].get('text', '')}{_when(saved[-1])}"
        found.append(Event(saved[-1]["step"], "checkpoint", text))
    found += [Event(run.step, "fault", f"in the log: {line}") for line in run.log]
    return sorted(found, key=lambda event: event.step)


def _stages(run: RunFolder) -> Iterator[Event]:
    stages, steps = run.get("stages"), run.get("max_steps")
    if not isinstance(stages, list) or not isinstance(steps, int) or not all(isinstance(s, dict) for s in stages):
        return
    if not all(isinstance(stage.get("fraction", 0), (int, float)) for stage in stages):
        return  # another project's stages
    reached = 0.0
    for number, stage in enumerate(stages, start=1):
        first = round(reached * steps)
        reached += stage.get("fraction", 0)
        if first <= run.step:
            length, batch = stage.get("seq_length"), stage.get("global_train_batch_size")
            yield Event(first, "stage", f"stage {number} begins: {length} tokens a sequence, {batch} sequences a step")


NOTED = {
    "started": "restart",
    "resumed": "restart",
    "preempted": "restart",
    "fell_back": "fault",
    "bad_loss": "fault",
    "rolled_back": "fault",
    "stopped": "fault",
    "finished": "note",
}
"""What `events.jsonl` calls it, and the kind that it is here; anything else is a note."""
ELSEWHERE = ("saved", "stage")
"""Checkpoints have one line for all of them, and the config tells more of stages."""


def _noted(run: RunFolder) -> Iterator[Event]:
    for number, line in enumerate(run.events):
        if line["event"] in ELSEWHERE:
            continue
        kind = NOTED.get(line["event"], "note")
        if number == 0 and line["event"] == "started":
            kind = "note"
        what = line["event"].replace("_", " ") + (":" if kind == "fault" else "")
        yield Event(line["step"], kind, f"{what} {line.get('text', '')}{_when(line)}")


def _when(line: Mapping[str, Any]) -> str:
    return f" ({str(line['time'])[:16].replace('T', ' ')} UTC)" if line.get("time") else ""


def _jumps(run: RunFolder) -> Iterator[Event]:
    """Files that were appended to; what the metrics had between is not shown, which must not go without a word."""
    for before, after in run.jumps:
        yield Event(after, "restart", f"metrics go back from step {before:,}: the run went on from a checkpoint here")


def _empty_windows(run: RunFolder) -> Iterator[Event]:
    """A process that starts has no rate before its window of batches is full; a gap in the rates tells of a restart."""
    rates, loss = run.metrics.get(RATE, Series()), run.metrics.get(LOSS, Series())
    if not rates.steps:
        return
    known, gap, back = set(rates.steps), 0, {after for _, after in run.jumps}
    trained = [step for step in loss.steps if step > rates.steps[0]]
    for step, following in pairwise(trained):
        # a rate is logged when its batch ends, perhaps under the next step: one missing line proves nothing
        missing = step not in known and following not in known
        if missing and not gap and step not in back:
            yield Event(step, "restart", "a new process took over here (it had no throughput yet)")
        gap = gap + 1 if missing else 0


def _faults(run: RunFolder) -> Iterator[Event]:
    for name, series in run.metrics.items():
        if name.startswith("loss/"):
            bad = [step for step, value in zip(series.steps, series.values) if value is None]
        elif name.endswith(("/grad_nonfinite", "/nonfinite")):
            bad = [step for step, value in zip(series.steps, series.values) if value]
        else:
            continue
        if bad:
            yield Event(bad[0], "fault", f"{name}: not finite at {len(bad):,} of {len(series.steps):,} logged steps")
    if run.unreadable > 1:
        yield Event(run.step, "fault", f"{run.unreadable:,} lines of metrics.jsonl cannot be read")
    elif run.unreadable:
        yield Event(run.step, "note", "one line of metrics.jsonl is not whole: it was being written, or cut off")


def _microbatches(run: RunFolder, borders: set[int]) -> Iterator[Event]:
    series = run.metrics.get(MICROBATCH, Series())
    for step, before, after in zip(series.steps[1:], series.values, series.values[1:]):
        if before and after and after < before and not borders & {step - 1, step, step + 1}:
            yield Event(step, "fault", f"microbatch cut from {before:g} to {after:g} sequences: memory ran out")

"""What happens to a run besides training, in `events.jsonl`: starts, resumptions, faults, checkpoints, its end."""

from __future__ import annotations

import json
import warnings
from datetime import datetime, timezone
from pathlib import Path

from composer.utils import dist

FILE = "events.jsonl"


class EventLog:
    """Adds to `events.jsonl` in the run folder, on rank 0; the history of all the run's processes, never cut back.

    A line is `{"time", "event", "step", "ranks", "text"}`: time in UTC, `event` one of started, resumed, fell_back,
    stage, saved, preempted, bad_loss, rolled_back, stopped and finished, `step` the optimizer steps that were done.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def note(self, event: str, step: int, text: str) -> None:
        """Add one event; a disk that is full costs the line, not the run."""
        if dist.get_global_rank() != 0:
            return
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        line = {"time": now, "event": event, "step": step, "ranks": dist.get_world_size(), "text": text}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            warnings.warn(f"{self.path} cannot be written, the run goes on without it: {error}", stacklevel=2)

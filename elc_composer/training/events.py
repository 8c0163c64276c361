"""Appends what happens to a run to `events.jsonl`: starts, resumptions, faults, checkpoints, end."""

from __future__ import annotations

import json
import warnings
from datetime import datetime, timezone
from pathlib import Path

from composer.utils import dist

from elc_composer.common.run_folder import EVENTS


class EventLog:
    """Appends to `events.jsonl` in the run folder, on rank 0. The file holds all processes of the run, never truncated.

    A line is `{"time", "event", "step", "ranks", "text"}`: `time` in UTC; `event` one of started, resumed, fell_back,
    stage, saved, preempted, bad_loss, rolled_back, stopped, finished; `step` the number of completed optimizer steps.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / EVENTS

    def note(self, event: str, step: int, text: str) -> None:
        """Append one event; if the file cannot be written, the run continues with a warning."""
        if dist.get_global_rank() != 0:
            return
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        # A path with bytes that are not UTF-8 holds lone surrogates, which readers of JSON refuse.
        text = text.encode(errors="replace").decode()
        line = {"time": now, "event": event, "step": step, "ranks": dist.get_world_size(), "text": text}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            warnings.warn(f"{self.path} cannot be written, the run continues without it: {error}", stacklevel=2)

"""What monitors leave in the run folder: one JSON object a line, cut back when a run resumes from an earlier step."""

from __future__ import annotations

import json
import math
import os
import warnings
from pathlib import Path
from typing import Any

from composer.core import State
from composer.utils import dist, format_name_with_dist


def run_path(path: str | None, state: State) -> Path | None:
    """`path` with Composer's placeholders (`{run_name}`, ...) filled in; None on ranks that write nothing."""
    if path is None or dist.get_global_rank() != 0:
        return None
    return Path(format_name_with_dist(path, run_name=str(state.run_name)))


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: what is not a finite number becomes null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_records(path: Path) -> list[dict[str, Any]]:
    """All whole records of a file; what a crash tore or garbled is left out. Empty where there is no file."""
    records = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                records.append(record)
    return records


class Records:
    """Appends to `path` (None: writes nothing). A full or missing disk costs the records, not the run: one warning."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._warned = False

    def forget(self, step: int) -> None:
        """For a run that writes no such records: drop what another one left beyond `step`, if anything."""
        if self.path is not None and self.path.exists():
            self.cut(step)

    def cut(self, step: int) -> list[dict[str, Any]]:
        """Drop what lies beyond `step` and return the rest; step 0 is a new run and starts an empty file."""
        if self.path is None:
            return []
        kept = [record for record in read_records(self.path) if 0 < step >= record["step"]]
        self.replace(kept)
        return kept

    def replace(self, records: list[dict[str, Any]]) -> None:
        """Make these the file's records, at once or not at all."""
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_name(self.path.name + ".part")
            partial.write_text("".join(json.dumps(plain(record)) + "\n" for record in records), encoding="utf-8")
            os.replace(partial, self.path)
        except OSError as error:
            self.warn(error)

    def append(self, record: dict[str, Any]) -> None:
        """Add one record, which holds its `step`."""
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(plain(record)) + "\n")
        except OSError as error:
            self.warn(error)

    def warn(self, error: OSError) -> None:
        """Say once that the disk failed."""
        if not self._warned:
            warnings.warn(f"{self.path} cannot be written, the run goes on without it: {error}", stacklevel=3)
        self._warned = True

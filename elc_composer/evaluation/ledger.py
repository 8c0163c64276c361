"""What an interrupted evaluation had already computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

Done = dict[int, NDArray[np.float64]]


class Ledger:
    """A folder with one append-only file a rank: `{"batch": 7, "log_probs": [...]}` a line, exact to the last bit.

    The files open with a fingerprint of everything that the numbers depend on; those of another evaluation are ignored,
    and dropped when this one begins to write. A line that an interruption cut short is ignored.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.file: TextIO | None = None

    def read(self) -> Done:
        """Results of each finished batch, from all ranks' files that this machine sees."""
        done: Done = {}
        for path in sorted(self.folder.glob("rank*.jsonl")):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            if lines and lines[0] == self._head():
                done.update(_whole_entries(lines[1:]))
        return done

    def start(self, rank: int, done: Done) -> None:
        """Begin to append; what was done stays in the file, so that a further interruption loses nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"rank{rank}.jsonl"
        partial = path.with_suffix(".part")
        with partial.open("w") as file:
            file.write(self._head() + "\n")
            file.writelines(_entry(batch, values) for batch, values in done.items())
        partial.replace(path)
        self.file = path.open("a")

    def add(self, batch: int, values: NDArray[np.float64]) -> None:
        """Note a finished batch."""
        assert self.file is not None
        self.file.write(_entry(batch, values))
        self.file.flush()

    def close(self) -> None:
        """Stop writing; the folder stays until its contents are safe elsewhere."""
        if self.file is not None:
            self.file.close()

    def _head(self) -> str:
        return json.dumps({"fingerprint": self.fingerprint})


def _entry(batch: int, values: NDArray[np.float64]) -> str:
    return json.dumps({"batch": batch, "log_probs": values.tolist()}) + "\n"


def _whole_entries(lines: list[str]) -> Done:
    entries: Done = {}
    for line in lines:
        try:
            entry = json.loads(line)
            entries[entry["batch"]] = np.array(entry["log_probs"], np.float64)
        except (ValueError, KeyError, TypeError):
            break
    return entries

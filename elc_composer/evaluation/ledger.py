"""Stores finished batches of an evaluation, so that an interrupted evaluation can be resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from elc_composer.common.errors import DataError
from elc_composer.common.files import atomic_file
from elc_composer.common.json_files import read_json_lines

Done = dict[int, NDArray[np.float64]]
"""Batch number -> log-probabilities of its targets."""


class Ledger:
    """A folder with one append-only file per rank: a line `{"batch": 7, "log_probs": [...]}` per finished batch.

    Floats are written such that they are read back exactly. The first line is a fingerprint of everything that the
    numbers depend on; files with another fingerprint are ignored, and replaced by `start`. Damaged lines are ignored.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.file: TextIO | None = None

    def read(self) -> Done:
        """Results of the finished batches, from all ranks' files on this machine."""
        done: Done = {}
        for path in sorted(self.folder.glob("rank*.jsonl")):
            try:
                lines = list(read_json_lines(path))
            except DataError:
                continue
            if lines and lines[0] == self._head():
                done.update(entry for line in lines[1:] if (entry := _entry(line)) is not None)
        return done

    def start(self, rank: int, done: Done) -> None:
        """Begin this rank's file with the results so far, so that a second interruption does not lose them."""
        path = self.folder / f"rank{rank}.jsonl"
        with atomic_file(path) as file:
            file.write(_line(self._head()).encode())
            file.writelines(_batch_line(batch, values).encode() for batch, values in done.items())
        self.file = path.open("a", encoding="utf-8")

    def add(self, batch: int, values: NDArray[np.float64]) -> None:
        """Append a finished batch."""
        assert self.file is not None
        self.file.write(_batch_line(batch, values))
        self.file.flush()

    def close(self) -> None:
        """Close the file. The folder stays; delete it once the results are stored elsewhere."""
        if self.file is not None:
            self.file.close()

    def _head(self) -> dict[str, str]:
        return {"fingerprint": self.fingerprint}


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value) + "\n"


def _batch_line(batch: int, values: NDArray[np.float64]) -> str:
    return _line({"batch": batch, "log_probs": values.tolist()})


def _entry(line: dict[str, Any] | None) -> tuple[int, NDArray[np.float64]] | None:
    """Batch number and values of a line; None if it is damaged."""
    batch, values = (line or {}).get("batch"), (line or {}).get("log_probs")
    if type(batch) is not int or not isinstance(values, list) or any(type(value) is not float for value in values):
        return None
    return batch, np.array(values, np.float64)

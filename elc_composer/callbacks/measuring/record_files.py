"""Files of a run folder with one JSON object a line: append, read, and cut back when a run resumes."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from composer.core import State
from composer.utils import dist, format_name_with_dist

from elc_composer.common.errors import DataError, one_line
from elc_composer.common.files import write_text
from elc_composer.common.json_files import MAX_DIGITS, read_json_lines


def run_path(path: str | None, state: State) -> Path | None:
    """`path` with Composer's placeholders (`{run_name}`, ...) replaced; None on ranks that do not write (not 0)."""
    if path is None or dist.get_global_rank() != 0:
        return None
    return Path(format_name_with_dist(path, run_name=str(state.run_name)))


def plain(value: Any) -> Any:
    """`value` in a form that `read_json_lines` reads back.

    NaN and infinity become null, integers beyond int64 floats, and lone surrogates (bytes of a file name that are not
    UTF-8) question marks. Without this, one such value makes its whole record unreadable.
    """
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
        return plain(float(value)) if value.bit_length() < 1024 else None
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_record_file(path: Path) -> list[dict[str, Any]]:
    """The records of a file: JSON objects with an integer `step`; other lines are damaged and left out.

    Returns:
        The records in order; none if there is no file.

    Raises:
        DataError: the path is a directory or cannot be read.
    """
    if not path.exists():
        return []
    records = (record for record in read_json_lines(path) if record is not None)
    return [record for record in records if type(record.get("step")) is int]


class RecordFile:
    """Appends records to `path`; writes nothing if it is None.

    A file that cannot be written or read costs the records, not the run: the user gets one warning. A file that cannot
    be read is left as it is.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._warned = False

    def forget(self, step: int) -> None:
        """Cut a file that an earlier run left, for a run that writes no records itself."""
        if self.path is not None and self.path.exists():
            self.cut(step)

    def cut(self, step: int) -> list[dict[str, Any]]:
        """Remove the records after `step` and return the others; step 0 is a new run, which starts an empty file."""
        if self.path is None:
            return []
        try:
            kept = [record for record in read_record_file(self.path) if 0 < step >= record["step"]]
        except DataError as error:
            self.warn(error)
            self.path = None
            return []
        self.replace(kept)
        return kept

    def replace(self, records: list[dict[str, Any]]) -> None:
        """Make these the file's records, atomically."""
        if self.path is None:
            return
        try:
            write_text(self.path, "".join(json.dumps(plain(record)) + "\n" for record in records))
        except OSError as error:
            self.warn(error)

    def append(self, record: dict[str, Any]) -> bool:
        """Add one record, which must have a `step`; False if it was not written."""
        if self.path is None:
            return False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(plain(record)) + "\n")
        except OSError as error:
            self.warn(error)
            return False
        return True

    def warn(self, error: Exception) -> None:
        """Warn at the first failure only."""
        if not self._warned:
            warnings.warn(f"the run continues without {self.path}: {one_line(error)}", stacklevel=3)
        self._warned = True

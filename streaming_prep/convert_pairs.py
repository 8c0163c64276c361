"""Convert minimal pairs to MDS, so that an evaluation can read them from the place of the training shards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from streaming import MDSWriter

from elc_composer.common.errors import DataError
from elc_composer.common.files import fsync_folder, place
from elc_composer.evaluation.minimal_pairs import MinimalPair, read_minimal_pairs
from streaming_prep.transfer import Upload, is_remote

COLUMNS = {column.name: "str" for column in fields(MinimalPair)}
_INDEX = "index.json"
_UNFINISHED = ".unfinished"


def write_minimal_pairs(pairs: Iterable[MinimalPair], out: str | Path) -> int:
    """Write pairs to the MDS folder or URL `out` as str columns, zstd-compressed; returns their number.

    Replaces an MDS folder: removes the old index first and writes the new one last, so that an interrupted write never
    looks complete.

    Raises:
        DataError: the folder holds other files.
        ConfigError: the bucket does not exist or cannot be written.
    """
    if is_remote(out):
        with tempfile.TemporaryDirectory() as temporary:
            local = Path(temporary) / "mds"
            upload = Upload(local, str(out), Path(temporary) / "uploaded", last=_INDEX)
            count = _write(pairs, local)
            for _ in upload.send_all([*sorted(path.name for path in local.glob("*.mds*")), _INDEX]):
                pass
        return count
    folder = Path(out)
    old = _old_files(folder)
    unfinished = folder / _UNFINISHED
    try:
        count = _write(pairs, unfinished)
        for path in [folder / _INDEX, *old]:
            path.unlink(missing_ok=True)
        for path in [*sorted(unfinished.glob("*.mds*")), unfinished / _INDEX]:
            place(path, folder / path.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    fsync_folder(folder)
    return count


def _write(pairs: Iterable[MinimalPair], folder: Path) -> int:
    shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted conversion
    count = 0
    # If writing fails, MDSWriter still writes an index of what it has. So it must not write to the final place.
    with MDSWriter(out=str(folder), columns=COLUMNS, compression="zstd") as writer:
        for pair in pairs:
            writer.write(asdict(pair))
            count += 1
    return count


def convert_minimal_pairs(source: str | Path, out: str | Path) -> dict[str, int]:
    """Convert `source` (JSONL file or folder) to MDS at `out`; returns the number of pairs by paradigm.

    Reads and checks everything before it writes. Raises the errors of `read_minimal_pairs` and `write_minimal_pairs`.
    """
    pairs = read_minimal_pairs(source)
    write_minimal_pairs(pairs, out)
    counts: dict[str, int] = {}
    for pair in pairs:
        counts[pair.paradigm] = counts.get(pair.paradigm, 0) + 1
    return counts


def _old_files(folder: Path) -> list[Path]:
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; give --out a folder")
    there = [path for path in folder.iterdir() if path.name != _UNFINISHED]
    if not all(path.name == _INDEX or ".mds" in path.suffixes for path in there):
        raise DataError(f"{folder} holds other files; give --out an empty folder")
    return there

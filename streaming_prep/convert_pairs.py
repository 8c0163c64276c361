"""Minimal pairs written as MDS, so that an evaluation reads them from where the training shards lie."""

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
    """Write pairs to the MDS folder `out` (`scheme://` too): str columns, zstd; returns how many.

    An MDS folder that is there already is replaced, its index first to go and the new one last to come, so that what
    an interruption leaves never looks whole. Raises `DataError` for a folder that holds anything else, `ConfigError`
    for a bucket that is not there.
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
    shutil.rmtree(folder, ignore_errors=True)  # an interrupted conversion's
    count = 0
    # Where writing fails, MDSWriter still ends with an index over what it has; so it never writes to the place itself.
    with MDSWriter(out=str(folder), columns=COLUMNS, compression="zstd") as writer:
        for pair in pairs:
            writer.write(asdict(pair))
            count += 1
    return count


def convert_minimal_pairs(source: str | Path, out: str | Path) -> dict[str, int]:
    """Read `source` (JSONL file or folder), write it to `out` as MDS; pairs a paradigm, in the order met.

    Everything is read and checked before anything is written. Raises as `read_minimal_pairs` and
    `write_minimal_pairs` do.
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
        raise DataError(f"{folder} is a file: give a folder to write minimal pairs to")
    there = [path for path in folder.iterdir() if path.name != _UNFINISHED]
    if not all(path.name == _INDEX or ".mds" in path.suffixes for path in there):
        raise DataError(f"{folder} holds other files: give an empty folder to write minimal pairs to")
    return there

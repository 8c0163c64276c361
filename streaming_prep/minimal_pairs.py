"""Minimal pairs written as MDS, so that an evaluation reads them from where the training shards lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from streaming import MDSWriter

from elc_composer.errors import DataError
from elc_composer.evaluation.pairs import MinimalPair, read_minimal_pairs

COLUMNS = {column.name: "str" for column in fields(MinimalPair)}


def write_minimal_pairs(pairs: Iterable[MinimalPair], out: str | Path) -> int:
    """Write pairs to the MDS folder `out` (`scheme://` too): str columns, zstd; returns how many.

    An MDS folder that is there already is replaced. Raises `DataError` for a folder that holds anything else.
    """
    _clear(out)
    count = 0
    with MDSWriter(out=str(out), columns=COLUMNS, compression="zstd", exist_ok=True) as writer:
        for pair in pairs:
            writer.write(asdict(pair))
            count += 1
    return count


def convert_minimal_pairs(source: str | Path, out: str | Path) -> dict[str, int]:
    """Read `source` (JSONL file or folder), write it to `out` as MDS; pairs a paradigm, in the order met.

    Everything is read and checked before anything is written. Raises `DataError` as `read_minimal_pairs` does.
    """
    pairs = read_minimal_pairs(source)
    write_minimal_pairs(pairs, out)
    counts: dict[str, int] = {}
    for pair in pairs:
        counts[pair.paradigm] = counts.get(pair.paradigm, 0) + 1
    return counts


def _clear(out: str | Path) -> None:
    folder = Path(out)
    if "://" in str(out) or not folder.exists():
        return
    if not folder.is_dir():
        raise DataError(f"{folder} is a file: give a folder to write minimal pairs to")
    old = [path for path in folder.iterdir() if path.name == "index.json" or ".mds" in path.suffixes]
    if len(old) != len(list(folder.iterdir())):
        raise DataError(f"{folder} holds other files: give an empty folder to write minimal pairs to")
    # The index goes first, so that what is left after an interruption does not look whole.
    for path in sorted(old):
        path.unlink()

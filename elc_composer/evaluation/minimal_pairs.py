"""Reads minimal pairs from JSONL files (BLiMP, BabyLM's filtered BLiMP, its supplement, other sets) or from MDS."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from elc_composer.common.addresses import parse_optional_address
from elc_composer.common.errors import DataError, one_line
from elc_composer.common.json_files import parse_json
from elc_composer.evaluation.blimp import BLIMP_PHENOMENA, SUPPLEMENT_PARADIGMS, phenomenon_of
from elc_composer.prepared.index_safety import read_shards

EXPECTED = "expected JSONL with sentence_good and sentence_bad"


@dataclass(frozen=True)
class MinimalPair:
    """An acceptable and an unacceptable sentence; a line break within a sentence separates turns of a dialogue."""

    sentence_good: str
    sentence_bad: str
    paradigm: str
    """BLiMP's UID, or the file's stem if the line has no UID."""
    phenomenon: str
    """One of BLiMP's 12 phenomena, the name of the supplement task, or the line's `linguistics_term`."""
    field: str
    """morphology, semantics, syntax, syntax_semantics; supplement for the supplement; empty if the line has none."""
    pair_id: str
    """Unique within its paradigm; the line number (from 1) if the line has no id."""
    source: str
    """`file:line`, relative to the folder that was read."""


def read_minimal_pairs(location: str | Path) -> list[MinimalPair]:
    """Read all minimal pairs of a JSONL file, a folder with JSONL files at any depth, or an MDS folder.

    Files are read in the order of their paths. Names that begin with a dot and `__MACOSX` are skipped: file managers,
    archives and notebooks leave such files and folders.

    Args:
        location: path, or address of a remote MDS folder (`s3://...`).

    Raises:
        DataError: with file and line: invalid JSON, a missing key, an empty sentence, a pair id that occurs twice in a
            paradigm, an unknown paradigm without a `linguistics_term`, a `.jsonl` entry that is not a file.
    """
    if parse_optional_address(location, "minimal pairs") is not None:
        with tempfile.TemporaryDirectory(prefix="minimal_pairs_") as folder:
            return _checked(_from_mds(Path(folder), remote=str(location)), str(location))
    path = Path(location)
    if not str(location) or not _exists(path):
        raise DataError(
            f"{str(location) or 'an empty path'} does not exist: give a JSONL file, a folder with JSONL files or an "
            "MDS folder"
        )
    if (path / "index.json").exists():
        return _checked(_from_mds(path), str(path))
    files = [path] if path.is_file() else _jsonl_files(path)
    return _checked((pair for file in files for pair in _from_jsonl(file, path)), str(path))


def _jsonl_files(root: Path) -> list[Path]:
    found: list[Path] = []
    entered: set[tuple[int, int]] = set()
    # Path.rglob silently skips linked folders.
    for place, folders, names in os.walk(root, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in entered:  # a link to a folder that contains it
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        entries = [Path(place, name) for name in [*folders, *names] if name.lower().endswith(".jsonl")]
        found += [entry for entry in entries if not _is_hidden(entry.relative_to(root))]
    found.sort()
    for file in found:
        if not file.is_file():
            kind = "a directory" if file.is_dir() else "a link without a target or a special file"
            raise DataError(f"{file} is {kind}; {EXPECTED}: remove or rename it")
    return found


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _checked(found: Iterable[MinimalPair], where: str) -> list[MinimalPair]:
    pairs = list(_unique(found))
    if not pairs:
        raise DataError(f"{where} holds no minimal pairs: {EXPECTED}")
    return pairs


def _from_jsonl(file: Path, root: Path) -> Iterator[MinimalPair]:
    name = file.name if file == root else file.relative_to(root).as_posix()
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse(_decoded(line, file, number), file, number, f"{name}:{number}")
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or one_line(error)})") from None


def _decoded(line: bytes, file: Path, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}:{number} is not UTF-8 (byte {error.start} of the line)") from None


def _parse(line: str, file: Path, number: int, source: str) -> MinimalPair:
    where = f"{file}:{number}"
    row = parse_json(line, where)
    if not isinstance(row, dict):
        raise DataError(f"{where} is not a JSON object; {EXPECTED}")
    sentences = [_sentence(row, key, where) for key in ("sentence_good", "sentence_bad")]
    paradigm = row.get("UID", file.stem)
    if not isinstance(paradigm, str) or not paradigm:
        raise DataError(f"{where}: UID is {paradigm!r}, expected the paradigm's name")
    stated = row.get("linguistics_term") or row.get("phenomenon")
    phenomenon = phenomenon_of(paradigm, None if stated is None else str(stated))
    if phenomenon is None:
        known = sorted(SUPPLEMENT_PARADIGMS.union(BLIMP_PHENOMENA))
        nearest = difflib.get_close_matches(paradigm, known, n=1, cutoff=0.0)[0]
        raise DataError(
            f"{where}: {paradigm!r} is not a paradigm of BLiMP or of the supplement (nearest: {nearest}); "
            "for a paradigm of your own, add a linguistics_term to the line"
        )
    field = row.get("field") or ("supplement" if paradigm in SUPPLEMENT_PARADIGMS else "")
    return MinimalPair(
        sentence_good=sentences[0],
        sentence_bad=sentences[1],
        paradigm=paradigm,
        phenomenon=phenomenon,
        field=str(field).replace("/", "_"),
        pair_id=_pair_id(row, number),
        source=source,
    )


def _sentence(row: dict[str, Any], key: str, where: str) -> str:
    if key not in row:
        raise DataError(f"{where} has no {key!r} (it has {', '.join(map(repr, row)) or 'no keys'})")
    if not isinstance(row[key], str) or not row[key].strip():
        raise DataError(f"{where}: {key} is {row[key]!r}, expected a sentence")
    return row[key]


def _pair_id(row: dict[str, Any], number: int) -> str:
    # BLiMP spells the key pairID, the filtered files pair_id. The supplement's pair_ID and row count templates and
    # repeat, so they do not identify a pair.
    for key in ("pair_id", "pairID"):
        if row.get(key) is not None:
            return str(row[key])
    return str(number)


def _unique(pairs: Iterable[MinimalPair]) -> Iterator[MinimalPair]:
    seen: dict[tuple[str, str], str] = {}
    for pair in pairs:
        first = seen.setdefault((pair.paradigm, pair.pair_id), pair.source)
        if first is not pair.source:
            raise DataError(f"{pair.source}: pair id {pair.pair_id} of {pair.paradigm} is already at {first}")
        yield pair


def _from_mds(folder: Path, remote: str | None = None) -> Iterator[MinimalPair]:
    # Streaming is imported here because scoring JSONL does not need it. Its shard reader is used directly: a
    # StreamingDataset takes shared memory, and shuffles or repeats samples to give every rank equally many.
    from streaming.base.compression import decompress
    from streaming.base.format import reader_from_json

    from elc_composer.common.storage import fetch

    def read(name: str) -> bytes:
        return fetch(f"{remote.rstrip('/')}/{name}") if remote else (folder / name).read_bytes()

    columns = [column.name for column in fields(MinimalPair)]
    source = remote or str(folder)
    try:
        index = read("index.json")
    except Exception as error:  # each storage service has its own exceptions for a missing bucket or file
        raise DataError(f"no MDS folder of minimal pairs at {source} ({one_line(error)})") from None
    shards = read_shards(source, index)
    with tempfile.TemporaryDirectory(prefix="minimal_pairs_") as unpacked:
        for shard in shards:
            missing = set(columns).difference(shard["column_names"])
            if missing:
                raise DataError(
                    f"{source} holds no minimal pairs: its shards lack the columns {', '.join(sorted(missing))}"
                )
            stored = shard.get("zip_data") or shard["raw_data"]
            try:
                data = read(stored["basename"])
                raw = decompress(shard["compression"], data) if shard.get("zip_data") else data
                (Path(unpacked) / shard["raw_data"]["basename"]).write_bytes(raw)
                samples = list(reader_from_json(unpacked, None, shard))
            except Exception as error:  # storage services and compressions have their own exceptions
                raise DataError(f"{source}: shard {stored['basename']} cannot be read ({one_line(error)})") from None
            for sample in samples:
                yield MinimalPair(**{name: _text(sample[name], name, source) for name in columns})


def _text(value: Any, column: str, source: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{source}: column {column} holds a {type(value).__name__}, must hold text")
    return value

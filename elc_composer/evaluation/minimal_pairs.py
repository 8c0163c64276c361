"""Minimal pairs from JSONL (BLiMP as published, as BabyLM filters it, the BabyLM supplement, one's own) or from MDS."""

from __future__ import annotations

import difflib
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from elc_composer.common.addresses import parse_optional_address
from elc_composer.common.errors import DataError
from elc_composer.evaluation.blimp import BLIMP_PHENOMENA, SUPPLEMENT_PARADIGMS, phenomenon_of
from elc_composer.prepared.index_safety import check_shards


@dataclass(frozen=True)
class MinimalPair:
    """Two sentences of which speakers accept the first; a line break in a sentence parts the turns of a dialogue."""

    sentence_good: str
    sentence_bad: str
    paradigm: str
    """BLiMP's UID; the file's stem where a line has none."""
    phenomenon: str
    """One of BLiMP's 12, the supplement task's own name, or what the line states."""
    field: str
    """morphology, semantics, syntax, syntax_semantics; supplement for the supplement; empty where not stated."""
    pair_id: str
    """Unique within its paradigm; the line's number (from 1) where the file gives none."""
    source: str
    """`file:line`, relative to the folder that was read."""


def read_minimal_pairs(location: str | Path) -> list[MinimalPair]:
    """All minimal pairs of a JSONL file, a folder with JSONL files at any depth, or an MDS folder (`scheme://` too).

    Files are read in the order of their paths. Raises `DataError` naming file and line: bad JSON, a missing key, an
    empty sentence, a pair id that a paradigm has twice, a paradigm that is neither known nor explained by its line.
    """
    if parse_optional_address(location, "minimal pairs") is not None:
        with tempfile.TemporaryDirectory(prefix="minimal_pairs_") as folder:
            return _checked(_from_mds(Path(folder), remote=str(location)), str(location))
    path = Path(location)
    if not str(location) or not path.exists():
        raise DataError(
            f"{str(location) or 'an empty path'} does not exist: give a JSONL file, a folder with JSONL files or an "
            "MDS folder"
        )
    if (path / "index.json").exists():
        return _checked(_from_mds(path), str(path))
    files = [path] if path.is_file() else sorted(path.rglob("*.jsonl"))
    return _checked((pair for file in files for pair in _from_jsonl(file, path)), str(path))


def _checked(found: Iterable[MinimalPair], where: str) -> list[MinimalPair]:
    pairs = list(_unique(found))
    if not pairs:
        raise DataError(f"{where} holds no minimal pairs: expected JSONL with sentence_good and sentence_bad")
    return pairs


def _from_jsonl(file: Path, root: Path) -> Iterator[MinimalPair]:
    name = file.name if file == root else file.relative_to(root).as_posix()
    with file.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{file}:{number} is not UTF-8 (byte {error.start} of the line)") from None
            if line.strip():
                yield _parse(line, file, number, f"{name}:{number}")


def _parse(line: str, file: Path, number: int, source: str) -> MinimalPair:
    where = f"{file}:{number}"
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON ({error.msg}, column {error.colno})") from None
    except (RecursionError, ValueError):  # nested too deep; a number with too many digits
        raise DataError(f"{where} is not a JSON object with sentence_good and sentence_bad") from None
    if not isinstance(row, dict):
        raise DataError(f"{where} is not a JSON object with sentence_good and sentence_bad")
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
            f"{where}: {paradigm!r} is no paradigm of BLiMP or of the supplement (nearest: {nearest}); "
            f"give the line a linguistics_term if it is your own"
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
    if any("\ud800" <= character <= "\udfff" for character in row[key]):
        raise DataError(f"{where}: {key} is {row[key]!r}, with half a surrogate pair, which is no character")
    return row[key]


def _pair_id(row: dict[str, Any], number: int) -> str:
    # BLiMP as published spells it pairID, the filtered files pair_id; the supplement's pair_ID and row number templates
    # and repeat, so they name no pair.
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
    # Streaming is imported here so that scoring JSONL does without it. A plain reader serves better than a
    # StreamingDataset, which would take shared memory and shuffle or repeat samples to fill its ranks.
    from streaming.base.compression import decompress
    from streaming.base.format import reader_from_json

    from elc_composer.common.storage import fetch

    def read(name: str) -> bytes:
        return fetch(f"{remote.rstrip('/')}/{name}") if remote else (folder / name).read_bytes()

    columns = [column.name for column in fields(MinimalPair)]
    try:
        shards = json.loads(read("index.json"))["shards"]
    except Exception as error:  # every store has errors of its own for a bucket or file that is not there
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"no MDS folder of minimal pairs at {remote or folder} ({reason})") from None
    check_shards(str(remote or folder), shards)
    with tempfile.TemporaryDirectory(prefix="minimal_pairs_") as unpacked:
        for shard in shards:
            missing = set(columns).difference(shard["column_names"])
            if missing:
                lacking = ", ".join(sorted(missing))
                raise DataError(f"{remote or folder} holds no minimal pairs: its shards lack the columns {lacking}")
            stored = shard["zip_data"] or shard["raw_data"]
            try:
                data = read(stored["basename"])
                raw = decompress(shard["compression"], data) if shard["zip_data"] else data
                (Path(unpacked) / shard["raw_data"]["basename"]).write_bytes(raw)
                samples = list(reader_from_json(unpacked, None, shard))
            except Exception as error:  # stores and compressions have errors of their own
                reason = str(error).strip().split("\n")[0] or type(error).__name__
                raise DataError(f"{remote or folder}: shard {stored['basename']} cannot be read ({reason})") from None
            for sample in samples:
                yield MinimalPair(**{name: sample[name] for name in columns})

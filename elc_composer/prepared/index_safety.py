"""Safety checks for an MDS `index.json`, run before any shard that it names is opened.

The index is part of the data, so its author is as trusted as the data's. Two kinds of entries are dangerous: a column
encoding that unpickles runs code, and a file name with a path in it writes outside the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from elc_composer.common.errors import DataError
from elc_composer.common.json_files import parse_json

SAFE_ENCODINGS = frozenset(
    [
        "bytes",
        "str",
        "int",
        "ndarray",
        *(f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)),
        *(f"float{bits}" for bits in (16, 32, 64)),
        *("str_int", "str_float", "str_decimal", "json"),
    ]
)
"""Encodings of text and numbers. Pickles (`pkl`), pictures and encodings of later Streaming versions are refused."""


def read_shards(source: str, index: bytes | str) -> list[dict[str, Any]]:
    """Parse an index.json and check its shards.

    Args:
        source: folder or address, for the error message.
        index: content of index.json.

    Returns:
        Its shard entries. Each has `column_names` (list of str) and `raw_data` (object with a `basename`).

    Raises:
        DataError: invalid JSON, missing or wrongly typed entries, or an unsafe shard; see `check_shards`.
    """
    content = parse_json(index, f"{source}: index.json")
    shards = content.get("shards") if isinstance(content, dict) else None
    if not isinstance(shards, list):
        raise DataError(f"{source}: index.json is damaged: it has no list of shards; write the data again")
    check_shards(source, shards)
    for number, shard in enumerate(shards):
        names = shard.get("column_names")
        if not isinstance(names, list) or not shard.get("raw_data"):
            raise DataError(
                f"{source}: index.json is damaged: shard {number} lacks column_names or raw_data; write the data again"
            )
    return shards


def check_shards(source: str, shards: Iterable[Mapping[str, Any]]) -> None:
    """Refuse an index whose shards could run code or write outside the cache.

    Args:
        source: folder or address, for the error message.
        shards: entries of index.json.

    Raises:
        DataError: with the column or file; also for entries of the wrong type.
    """
    for number, shard in enumerate(shards):
        if not isinstance(shard, Mapping):
            raise DataError(f"{source}: index.json is damaged: shard {number} is {shard!r}, must be an object")
        names, encodings = shard.get("column_names") or [], shard.get("column_encodings") or []
        if not (isinstance(names, list) and isinstance(encodings, list) and len(names) == len(encodings)):
            raise DataError(
                f"{source}: index.json is damaged: shard {number} must have as many column_encodings as column_names"
            )
        for name, encoding in zip(names, encodings):
            if not isinstance(encoding, str) or encoding.split(":")[0] not in SAFE_ENCODINGS:
                raise DataError(
                    f"{source}: column {name!r} is encoded as {encoding!r}, which can run code when it is read; "
                    "write the data again without this column"
                )
        for part in (shard.get("raw_data"), shard.get("zip_data")):
            if part and not isinstance(part, Mapping):
                raise DataError(f"{source}: index.json is damaged: shard {number} names its file as {part!r}")
            file = part.get("basename") if part else None
            if part and (not isinstance(file, str) or file in ("", ".", "..") or "/" in file or "\\" in file):
                raise DataError(
                    f"{source}: index.json names a shard {file!r}, which is not a plain file name; write the data again"
                )

"""What an MDS index may say before anything that it names is read.

An index comes with the data, so whoever wrote the data wrote it. Two of its entries could do harm: a column that only
unpickling can read runs its writer's code, and a file name with a path in it would be written outside the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from elc_composer.common.errors import DataError

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
"""Encodings of text and numbers; pickles (`pkl`), pictures and whatever a later version brings are not among them."""


def check_shards(source: str, shards: Iterable[Mapping[str, Any]]) -> None:
    """Refuse an index whose shards could run code or write elsewhere.

    Args:
        source: the folder or address that a message names.
        shards: the entries of index.json.

    Raises:
        DataError: naming the column or file.
    """
    for shard in shards:
        for name, encoding in zip(shard.get("column_names") or [], shard.get("column_encodings") or []):
            if not isinstance(encoding, str) or encoding.split(":")[0] not in SAFE_ENCODINGS:
                raise DataError(
                    f"{source}: column {name!r} is encoded as {encoding!r}, which can run code when it is read; "
                    "it is refused. Write the data anew without it."
                )
        for part in (shard.get("raw_data"), shard.get("zip_data")):
            file = part.get("basename") if part else None
            if part and (not isinstance(file, str) or file in ("", ".", "..") or "/" in file or "\\" in file):
                raise DataError(
                    f"{source}: its index.json names a shard {file!r}, which is no plain file name; it is refused."
                )

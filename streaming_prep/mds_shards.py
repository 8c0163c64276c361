"""Write and read single MDS shards, and write the index that joins them into a dataset."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from elc_composer.common.errors import DataError, one_line
from elc_composer.common.files import atomic_file, fsync_folder, temporary_name
from elc_composer.common.json_files import read_json

COLUMN = "input_ids"
COMPRESSION = "zstd"
HASHES = ["sha256"]
_SAMPLE_HEAD_BYTES = 4 + 4 + 1 + 2  # offset and size of the sample, ndim and shape of the array


def column_encoding(vocab_size: int) -> str:
    """MDS encoding of token ids below `vocab_size`: uint16 up to 65,536 entries, else uint32."""
    return "ndarray:uint16" if vocab_size <= 1 << 16 else "ndarray:uint32"


def dtype_of(encoding: str) -> str:
    """The numpy dtype of an encoding: `uint16` of `ndarray:uint16`."""
    return encoding.split(":")[1]


def samples_per_shard(shard_bytes: int, seq_length: int, encoding: str) -> int:
    """Number of full segments that fit into `shard_bytes` before compression; at least one."""
    item = np.dtype(dtype_of(encoding)).itemsize
    return max(1, shard_bytes // (_SAMPLE_HEAD_BYTES + item * (seq_length - 2)))


def write_shard(segments: Iterable[np.ndarray], encoding: str, path: Path) -> dict[str, Any]:
    """Write int [tokens] segments to one zstd-compressed shard; returns its entry for Streaming's index."""
    # Importing Streaming imports torch, which takes seconds and memory; only this stage should pay for it.
    from streaming import MDSWriter

    folder = temporary_name(path)
    try:
        with MDSWriter(
            out=str(folder), columns={COLUMN: encoding}, compression=COMPRESSION, hashes=HASHES, size_limit=None
        ) as writer:
            for segment in segments:
                writer.write({COLUMN: segment})
        entry = read_json(folder / "index.json")["shards"][0]
        part = folder / entry["zip_data"]["basename"]
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        fsync_folder(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return entry


def name_shard(entry: dict[str, Any], number: int) -> dict[str, Any]:
    """A copy of an index entry, with the file names of shard `number` of a dataset."""
    named = copy.deepcopy(entry)
    named["raw_data"]["basename"] = f"shard.{number:05}.mds"
    named["zip_data"]["basename"] = f"shard.{number:05}.mds.{COMPRESSION}"
    return named


def write_index(entries: list[dict[str, Any]], path: Path) -> None:
    """Write Streaming's index.json of these shards atomically."""
    with atomic_file(path) as file:
        file.write(json.dumps({"version": 2, "shards": entries}, sort_keys=True).encode())


def read_shard(data: bytes, entry: dict[str, Any]) -> list[np.ndarray]:
    """All segments of a shard, int [tokens] each, from its file's bytes and its index entry.

    Raises:
        DataError: the bytes are not such a shard.
    """
    from streaming.base.compression import decompress
    from streaming.base.format.mds.encodings import mds_decode

    name = entry["zip_data"]["basename"]
    try:
        raw = decompress(entry["compression"], data)
        count = int(np.frombuffer(raw, np.uint32, 1)[0])
        offsets = np.frombuffer(raw, np.uint32, count + 1, 4)
        encoding = entry["column_encodings"][entry["column_names"].index(COLUMN)]
        # Each sample is the size of its only column (4 bytes), then the column's bytes.
        segments = [mds_decode(encoding, raw[begin + 4 : end]) for begin, end in pairwise(offsets)]
    except Exception as error:  # decompressors and decoders raise anything for damaged bytes
        raise DataError(f"{name} cannot be read as an MDS shard ({one_line(error)})") from None
    if count != entry["samples"]:
        raise DataError(f"{name} holds {count} samples, its index says {entry['samples']}")
    return segments

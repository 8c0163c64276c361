"""Checks prepared data before anything is built: index, columns and first samples of each stream."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from composer.utils import dist
from streaming.base.world import World

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.storage import START_PATIENCE, describe, retry
from elc_composer.data.config import DataConfig
from elc_composer.data.paths import StreamPlace, resolve_all
from elc_composer.data.samples import problem_of
from elc_composer.data.streaming.checked_stream import CheckedStream
from elc_composer.data.streaming.index_file import read_index
from elc_composer.prepared.index_safety import check_shards

SAMPLES_READ = 64
"""Samples read from the first shard of each stream."""


def check_data(config: DataConfig, *, seq_lengths: Iterable[int], splits: Iterable[str], vocab_size: int) -> None:
    """Read the index and some samples of each stream, for all sequence lengths and splits of the run.

    Only the first rank of each node reads; an error on one rank is raised on all.

    Raises:
        ConfigError: for streams without a folder.
        DataError: for a missing folder, sequence length or split; for an index without `input_ids`, or with a column
            that only unpickling could read; for an invalid sample (see `problem_of`).
    """
    found = None
    if dist.get_local_rank() == 0:
        try:
            for seq_length in sorted(set(seq_lengths)):
                for split in dict.fromkeys(splits):
                    for place in resolve_all(config, seq_length, split):
                        _check_place(place, seq_length, vocab_size, config)
        except (ConfigError, DataError) as error:
            found = (type(error), str(error))
    for problem in dist.all_gather_object(found):
        if problem is not None:
            raise problem[0](problem[1])


def _check_place(place: StreamPlace, seq_length: int, vocab_size: int, config: DataConfig) -> None:
    try:
        index = read_index(place, config)
        shards = index.get("shards") or []
        check_shards(place.source, shards)
        if not sum(shard.get("samples", 0) for shard in shards):
            raise DataError(f"{place.source} has no samples; prepare it from text that is not empty")
        for shard in shards:
            _check_columns(place, shard, config.validate_hash)
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise DataError(f"{place.source}: index.json is damaged ({error}); prepare the data again") from error
    name = (shards[0].get("zip_data") or shards[0]["raw_data"])["basename"]
    for number, ids in enumerate(_first_samples(place, shards[0], config)):
        problem = problem_of(ids, vocab_size, seq_length)
        if problem is not None:
            raise DataError(f"{place.source}: shard {name}: sample {number} {problem}")


def _check_columns(place: StreamPlace, shard: dict[str, Any], validate_hash: str | None) -> None:
    names, encodings = shard.get("column_names") or [], shard.get("column_encodings") or []
    columns = dict(zip(names, encodings))
    encoding = columns.get("input_ids", "")
    if not re.fullmatch(r"ndarray:(uint16|uint32|int32|int64)", encoding):
        held = ", ".join(f"{name}: {kind}" for name, kind in columns.items()) or "nothing"
        raise DataError(
            f"{place.source} has the columns {held}; a column `input_ids: ndarray:uint16` (or uint32, int32, int64) is "
            "needed; prepare the data with streaming_prep"
        )
    for part in (shard.get("zip_data") or shard.get("raw_data") or {},):
        if validate_hash and validate_hash not in part.get("hashes", {}):
            raise DataError(
                f"{place.source} was written without {validate_hash} hashes, but with "
                f"{', '.join(part.get('hashes', {})) or 'none'}; set data.validate_hash to one of these, or to null"
            )


def _first_samples(place: StreamPlace, shard_info: dict[str, Any], config: DataConfig) -> list[Any]:
    compressed = (
        shard_info.get("zip_data")
        and not (Path(place.local) / place.split / shard_info["raw_data"]["basename"]).is_file()
    )
    if place.remote is None and compressed and not os.access(Path(place.local) / place.split, os.W_OK):
        raise DataError(
            f"{place.source} has compressed shards and no write permission to decompress them; set the folder as "
            "remote and a cache folder as local"
        )
    stream = CheckedStream(remote=place.remote, local=place.local, split=place.split)
    stream.apply_default(
        {
            "split": None,
            "download_retry": config.download_retry,
            "download_timeout": config.download_timeout,
            "validate_hash": config.validate_hash,
            "keep_zip": config.keep_zip,
        }
    )
    world = World(num_nodes=1, ranks_per_node=1, workers_per_rank=1, worker=0)
    try:
        shard = stream.get_shards(world, False)[0]
        retry(lambda: stream.prepare_shard(shard), START_PATIENCE)
        return [shard[i]["input_ids"] for i in range(min(len(shard), SAMPLES_READ))]
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{place.source} cannot be read ({describe(error)}); prepare it again") from error

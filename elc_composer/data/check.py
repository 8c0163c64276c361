"""Before anything is built: are the prepared data there, and do they fit the run?"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from composer.utils import dist
from streaming.base.world import World

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.storage import START_PATIENCE, describe, retry
from elc_composer.data.config import DataConfig
from elc_composer.data.paths import StreamPlace, resolve_all
from elc_composer.data.streaming.checked_stream import CheckedStream
from elc_composer.data.streaming.index_file import read_index
from elc_composer.prepared.index_safety import check_shards

SAMPLES_READ = 64
"""Samples of every stream's first shard that are looked at."""


def check_data(config: DataConfig, *, seq_lengths: Iterable[int], splits: Iterable[str], vocab_size: int) -> None:
    """Read the index and some samples of every stream, for every sequence length and split that the run will use.

    Only the first rank of each node reads; all ranks raise what one of them found.

    Raises:
        ConfigError: for streams that name no folder.
        DataError: a folder, sequence length or split that is not there; an index without `input_ids`, or with a column
            that only unpickling could read; a token id outside the vocabulary; a segment too long for its length.
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
            raise DataError(f"{place.source} holds no samples: prepare it with text.")
        for shard in shards:
            _check_columns(place, shard, config.validate_hash)
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise DataError(f"{place.source}: its index.json is damaged ({error}): prepare the data again.") from error
    for number, ids in enumerate(_first_samples(place, shards[0], config)):
        if len(ids) > seq_length - 2:
            raise DataError(
                f"{place.source}: sample {number} has {len(ids)} tokens, but {seq_length} leave room for "
                f"{seq_length - 2} beside [CLS] and [SEP]: prepare the data for that sequence length."
            )
        if ids.size and int(ids.max()) >= vocab_size:
            raise DataError(
                f"{place.source}: sample {number} holds token id {int(ids.max())}, but the model's vocabulary has "
                f"{vocab_size} entries: the data were prepared with another tokenizer."
            )


def _check_columns(place: StreamPlace, shard: dict[str, Any], validate_hash: str | None) -> None:
    names, encodings = shard.get("column_names") or [], shard.get("column_encodings") or []
    columns = dict(zip(names, encodings))
    encoding = columns.get("input_ids", "")
    if not re.fullmatch(r"ndarray:(uint16|uint32|int32|int64)", encoding):
        held = ", ".join(f"{name}: {kind}" for name, kind in columns.items()) or "nothing"
        raise DataError(
            f"{place.source} holds {held}; a column `input_ids: ndarray:uint16` (or uint32) is needed: "
            "prepare the data with streaming_prep."
        )
    for part in (shard.get("zip_data") or shard.get("raw_data") or {},):
        if validate_hash and validate_hash not in part.get("hashes", {}):
            raise DataError(
                f"{place.source} was written without {validate_hash} hashes, but with "
                f"{', '.join(part.get('hashes', {})) or 'none'}: set data.validate_hash to one that it has, or to null."
            )


def _first_samples(place: StreamPlace, shard_info: dict[str, Any], config: DataConfig) -> list[np.ndarray]:
    compressed = (
        shard_info.get("zip_data")
        and not (Path(place.local) / place.split / shard_info["raw_data"]["basename"]).is_file()
    )
    if place.remote is None and compressed and not os.access(Path(place.local) / place.split, os.W_OK):
        raise DataError(
            f"{place.source} holds compressed shards and cannot be written to: give the folder as remote and a cache "
            "as local."
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
        return [np.asarray(shard[i]["input_ids"]) for i in range(min(len(shard), SAMPLES_READ))]
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{place.source} cannot be read ({describe(error)}): prepare it again.") from error

"""Checks that a cache limit can hold the shards in use; a smaller cache downloads the same shards over and over."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from streaming.base.world import World

from elc_composer.common.errors import ConfigError

ONE_BY_ONE = {"py1br", "py1e"}
"""Shuffle algorithms that mix the shards of one block of samples at a time; the others mix all shards."""
SMALLEST = 4
"""Shards that any limit must hold."""


def shards_in_use(dataset: Any, processes: int) -> int:
    """The number of shards that the loaders of one node may need at the same time.

    A prefetched shard must survive until its first sample is read. In that time as many shards again are prefetched
    behind it, and none of them may evict it.
    """
    ahead = 2 * processes * (dataset.predownload + 2 * dataset.batch_size)
    nodes = World.detect().num_nodes
    groups = dataset.num_canonical_nodes or nodes
    if not dataset.shuffle:
        mixed = ahead / float(np.mean(dataset.samples_per_shard)) + 2 * groups
    elif dataset.shuffle_algo in ONE_BY_ONE:
        block = dataset.shuffle_block_size or max(4_000_000 // groups, 1 << 18)
        mixed = (block + ahead) / float(np.mean(dataset.samples_per_shard)) + 2 * math.ceil(groups / nodes)
    else:
        mixed = math.inf
    return int(min(dataset.num_shards, ahead, mixed))


def check_cache_limit(dataset: Any, workers: int) -> None:
    """Refuse a limit that cannot hold the shards in use and one more for each process, which it downloads meanwhile.

    Args:
        dataset: a StreamingDataset with a `cache_limit` in bytes.
        workers: loader processes of each rank; 0: the rank itself.

    Raises:
        ConfigError: with the smallest limit that works.
    """
    limit: Any = dataset.cache_limit
    owners = (dataset.streams[owner] for owner in dataset.stream_per_shard)
    # Shards that are read in place are not in the cache.
    sizes = [shard.get_max_size() for shard, owner in zip(dataset.shards, owners) if not owner.in_place]
    if not sizes:
        return
    largest = max(sizes)
    index = sum(stream.get_index_size() for stream in dataset.streams)
    everything = index + sum(sizes)
    processes = World.detect().ranks_per_node * max(workers, 1)
    used = shards_in_use(dataset, processes)
    least = min(everything, index + largest * max(SMALLEST, used + processes))
    if limit < least:
        raise ConfigError(
            f"data.cache_limit is {limit:,} bytes, but {processes} loader processes use up to {used} shards of up to "
            f"{largest:,} bytes at once: set at least {least:,} bytes, or lower data.predownload or "
            "data.shuffle_block_size."
        )

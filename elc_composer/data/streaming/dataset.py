"""Dataset of token segments in MDS shards: sample ids, epochs and steps, whole batches, downloads that fail loudly.

Differences from StreamingDataset (mosaicml-streaming 0.13.0):

**Position.** A masking schedule needs the step of each sample, and a worker process works ahead of the run. The order
of samples is fixed: worker w of W yields every W-th batch, starting at the w-th batch after the position of resumption.
So a worker counts its samples and knows the batch of each one without communication.

**Epochs of whole batches.** An epoch ends with the last batch that every rank can fill with samples that no other
batch of the epoch has. The samples left over come in another epoch, since the order changes. StreamingDataset repeats
samples instead, to give ranks and canonical nodes equally many.

**Failed downloads.** StreamingDataset downloads in background threads. A thread that raises ends the epoch as if it
were complete, or hangs the other workers. Here a failed background download is only noted. The shard is downloaded
again in the foreground when its first sample is due, with retries for transient failures. A lasting failure is raised
in the training loop.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from streaming import StreamingDataset
from streaming.base.constant import TICK
from streaming.base.dataset import _ShardState
from streaming.base.world import World

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.storage import LONGEST_PAUSE, Unreachable, retry
from elc_composer.data.collate import Segment
from elc_composer.data.samples import problem_of
from elc_composer.data.streaming.cache_limit import check_cache_limit
from elc_composer.data.streaming.checked_stream import CheckedStream
from elc_composer.data.streaming.shared_prefix import CacheFolders, random_prefixes, remove_lock_files

log = logging.getLogger(__name__)


REPORTED_SHARE = 0.01
"""Share of an epoch's samples above which those left out are reported."""


class SegmentDataset(StreamingDataset):
    """StreamingDataset of one `input_ids` column; iterating yields `Segment`s, in whole batches.

    Private methods that are overridden, with the bugs of mosaicml-streaming 0.13.0 they avoid:

    - `_ready_thread` (bug: it waits without end for a shard that is evicted between its download and its turn).
    - `_evict_coldest_shard` (bug: with a cache limit it deletes shards of streams that are read in place).
    - `_evict_shard` (no bug: it knows only the name of a checked shard).

    Args:
        streams: the streams, of one sequence length.
        batch_size: samples of a batch on one device.
        workers: loader processes of a rank; 0: the rank itself.
        vocab_size: entries of the tokenizer; samples with other ids are an error.
        seq_length: tokens of a sequence, [CLS] and [SEP] included; longer samples are an error.
        outage_tolerance: seconds for which the download of a shard that is due is retried.
        options: StreamingDataset's own.

    Raises:
        ConfigError: a cache limit that cannot hold the shards in use.
        DataError: another run uses the cache.
    """

    streams: list[CheckedStream]

    def __init__(
        self,
        *,
        streams: list[CheckedStream],
        batch_size: int,
        workers: int = 0,
        outage_tolerance: float = 0.0,
        vocab_size: int,
        seq_length: int,
        **options: Any,
    ) -> None:
        cached = [os.path.join(stream.local, stream.split) for stream in streams if not stream.in_place]
        self._cache_folders = CacheFolders(cached)
        try:
            with random_prefixes():
                super().__init__(streams=streams, batch_size=batch_size, **options)
            if in_place := sum(stream.bytes_in_place for stream in streams):
                self.cache_usage -= in_place
            if self.num_canonical_nodes is None:
                # Streaming's own default. 0.13.0 sets it when the first epoch begins; the length is needed before.
                per_node = 64 if self.shuffle_algo in ("py1s", "py2s") else 1
                self.num_canonical_nodes = per_node * World.detect().num_nodes
            if self.cache_limit:
                check_cache_limit(self, workers)
        except BaseException as error:
            self._cache_folders.release()
            is_own_error = isinstance(error, (ConfigError, DataError))
            # Streaming 0.13.0: "Minimum cache usage (... bytes) is larger than the cache limit (... bytes)".
            if isinstance(error, ValueError) and not is_own_error and "cache limit" in str(error).lower():
                raise ConfigError(f"data.cache_limit is too small: {error}") from error
            raise
        self.device_batch_size = batch_size
        self.outage_tolerance = outage_tolerance
        self._vocab_size, self._seq_length = vocab_size, seq_length
        self.world = World.detect()
        self._prepared: set[int] = set()
        self._checked: set[int] = set()
        self._failed: dict[int, tuple[float, Exception]] = {}

    @property
    def names(self) -> str:
        """The streams' locations, for messages."""
        return "stream " + ", ".join(stream.source for stream in self.streams)

    @property
    def global_batch_size(self) -> int:
        """Samples of a batch over all ranks."""
        return self.device_batch_size * self.world.num_ranks

    @property
    def batches_per_epoch(self) -> int:
        """Batches of every rank in an epoch, whatever the number of workers."""
        return self._unrepeated_samples // self.global_batch_size

    @property
    def _unrepeated_samples(self) -> int:
        # The order takes one sample of each canonical node in turn. Nodes differ by one sample at most, and Streaming
        # repeats samples to make them equal: only the last turn can hold repeated ones.
        nodes = self.num_canonical_nodes or 1
        return self.epoch_size // nodes * nodes

    def check_epoch(self) -> None:
        """Report the samples that an epoch leaves out, if they are more than 1 %; log it on the first rank.

        Raises:
            DataError: an epoch without a whole batch.
        """
        batch, size, whole = self.global_batch_size, self.epoch_size, self._unrepeated_samples
        if size < batch:
            raise DataError(
                f"{self.names} give {size} samples an epoch, fewer than the global batch of {batch}: lower the batch "
                "size or repeat the streams (data.streams: repeat)."
            )
        rounding = f"data.num_canonical_nodes is {self.num_canonical_nodes}, and each node needs equally many"
        if whole < batch:
            nodes = self.num_canonical_nodes or 1
            fitting = max(count for count in range(1, nodes + 1) if size // count * count >= batch)
            raise DataError(
                f"{self.names} give {size} samples an epoch, of which {whole} can be used ({rounding}), fewer than the "
                f"global batch of {batch}: set data.num_canonical_nodes to {fitting}, or lower the batch size."
            )
        used = self.batches_per_epoch * batch
        if size - used > REPORTED_SHARE * size and self.world.is_leader:
            reasons = [f"{whole - used} fill no global batch of {batch}"] * (used < whole)
            reasons += [f"{size - whole} because {rounding}"] * (whole < size)
            share = f"{size - used:,} ({(size - used) / size:.1%})"
            log.warning(
                f"{self.names}: an epoch uses {used:,} of its {size:,} samples and leaves out {share}, "
                f"{'other ones' if self.shuffle else 'the same ones'} each time: {' and '.join(reasons)}"
            )

    def __len__(self) -> int:
        """Samples of this rank in an epoch."""
        return self.batches_per_epoch * self.device_batch_size

    def release(self) -> None:
        """Stop the download threads and release the cache folders, so that another dataset may use them."""
        self._stop_threads()
        self._cache_folders.release()
        if self.world.ranks_per_node == 1:
            remove_lock_files(self._shm_prefix_int)

    def _stop_threads(self) -> None:
        if hasattr(self, "_iterator"):
            self._iterator.non_blocking_exit()

    def load_state_dict(self, obj: dict[str, Any]) -> None:
        """Resume where the state was saved, with its number of canonical nodes."""
        super().load_state_dict(obj)
        self.num_canonical_nodes = obj["num_canonical_nodes"]

    def get_item(self, sample_id: int, retry: int = 7) -> Any:
        """The sample with that id: `input_ids` and `sample_id`; waits for its shard.

        Raises:
            DataError: naming the shard, and the sample where its content is invalid.
        """
        shard_id, index = self.spanner[sample_id]
        try:
            self._check_once(shard_id)
            ids = super().get_item(sample_id, retry)["input_ids"]
            problem = problem_of(ids, self._vocab_size, self._seq_length)
            if problem is not None:
                name = self.streams[self.stream_per_shard[shard_id]].name_of(self.shards[shard_id])
                raise DataError(f"{name}: sample {index} {problem}")
        except DataError:
            # At exit a process waits for its threads, which would try to download all remaining shards.
            self._stop_threads()
            raise
        return {"input_ids": ids, "sample_id": int(sample_id)}

    def _check_once(self, shard_id: int) -> None:
        if shard_id not in self._checked:
            self.streams[self.stream_per_shard[shard_id]].check_in_place(self.shards[shard_id])
            self._checked.add(shard_id)

    def position(self) -> tuple[int, int]:
        """The current epoch, and the number of its batches before the position of resumption."""
        state = self.state_dict(num_samples=0, from_beginning=False)
        return state["epoch"], state["sample_in_epoch"] // self.global_batch_size

    def __iter__(self) -> Iterator[Segment]:  # type: ignore[override]
        """This worker's share of the rest of the epoch."""
        samples = super().__iter__()
        first = next(samples, None)
        if first is None:
            return
        # Before the first sample, the workers have not agreed on the epoch.
        epoch, done = self.position()
        worker = World.detect()
        batches = self.batches_per_epoch
        try:
            for index, sample in enumerate(chain([first], samples)):
                batch = done + index // self.device_batch_size * worker.workers_per_rank + worker.worker_of_rank
                if batch >= batches:
                    return
                yield Segment(
                    input_ids=sample["input_ids"],
                    sample_id=sample["sample_id"],
                    epoch=epoch,
                    step=epoch * batches + batch,
                )
        finally:
            # Otherwise the threads continue to download shards of an epoch that nobody reads.
            self._stop_threads()

    def prepare_shard(self, shard_id: int, blocking: bool = True) -> None:
        """Download a shard. A failure is raised only if the caller waits for it (`blocking`), else noted.

        Raises:
            DataError: with the name of the shard.
        """
        if blocking:
            retry(lambda: self._prepare_now(shard_id), self.outage_tolerance)
            self._prepared.add(shard_id)
            return
        # The prefetch thread calls this once per sample and takes a file lock each time; skip shards that are local.
        if shard_id in self._prepared and self._shard_states[shard_id] == _ShardState.LOCAL:
            return
        failed = self._failed.get(shard_id)
        if failed is not None and time.monotonic() < failed[0] + LONGEST_PAUSE:
            return
        try:
            self._prepare_or_reset(shard_id, blocking=False)
            self._prepared.add(shard_id)
        except Exception as error:
            self._failed[shard_id] = time.monotonic(), error
            log.warning("prefetch failed, will be retried when needed: %s", error)

    def _prepare_now(self, shard_id: int) -> None:
        self._prepare_or_reset(shard_id, blocking=True)
        stream = self.streams[self.stream_per_shard[shard_id]]
        if stream.is_here(self.shards[shard_id]):
            return
        # Another thread or process tried to download this shard and failed; its log has the reason.
        _, error = self._failed.pop(shard_id, (0.0, None))
        if isinstance(error, DataError):
            raise error
        raise Unreachable(f"{stream.name_of(self.shards[shard_id])} cannot be downloaded: another process failed to")

    def _prepare_or_reset(self, shard_id: int, blocking: bool) -> None:
        try:
            super().prepare_shard(shard_id, blocking)
        except Exception:
            while self._cache_filelock.is_locked:
                self._cache_filelock.release()
            # Streaming 0.13.0 leaves the state at "preparing", for which others wait without end. With "local" they
            # read the shard, find it missing and download it in the foreground.
            self._shard_states[shard_id] = _ShardState.LOCAL
            raise

    def _ready_thread(self, it: Any) -> None:
        # A shard that was evicted between its download and its turn counts as ready; `get_item` downloads it again.
        while not (it.should_exit() or it.ready_index == it.total or self._event.is_set()):
            if it.ready_index >= it.prepare_index or self._is_downloading(it.sample_ids[it.ready_index]):
                time.sleep(TICK)
            else:
                it.ready_index += 1
        it.on_exit()

    def _is_downloading(self, sample_id: int) -> bool:
        return bool(sample_id != -1 and self._shard_states[self.spanner[sample_id][0]] == _ShardState.PREPARING)

    def _evict_coldest_shard(self) -> None:
        # Streams that are read in place are not in the cache: evicting their shards would delete the data themselves.
        cached = np.array([not stream.in_place for stream in self.streams])[self.stream_per_shard]
        states, times = self._shard_states.numpy(), self._shard_access_times.numpy()
        (candidates,) = np.nonzero(cached & (states == _ShardState.LOCAL))
        if not candidates.size:
            raise DataError(f"{self.names}: no shard in the cache can be evicted; raise data.cache_limit.")
        self._evict_shard(int(candidates[np.argmin(times[candidates])]))

    def _evict_shard(self, shard_id: int) -> None:
        self.streams[self.stream_per_shard[shard_id]].restore(self.shards[shard_id])
        super()._evict_shard(shard_id)

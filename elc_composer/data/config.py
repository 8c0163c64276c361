"""The `data` section of a run config: streams, sample order, downloads and loader."""

from __future__ import annotations

from dataclasses import dataclass, field

from streaming.base.hashing import is_hash
from streaming.base.shuffle import algos
from streaming.base.util import bytes_to_int

from elc_composer.common.errors import ConfigError


@dataclass
class StreamConfig:
    """One prepared folder (what `streaming_prep build --out` wrote), and how much of it to use."""

    remote: str | None = None
    """Root of the prepared data: a folder or an `s3://...` prefix; its `seq_<length>/<split>` is read."""
    local: str | None = None
    """Cache folder for `remote`; without `remote`, the prepared folder itself, read in place."""
    split: str | None = None
    """Split to read in place of `train_split` or `eval_split`; null: the loader's own."""
    proportion: float | None = None
    """Share of the epoch's samples from this stream; set it for all streams or for none."""
    repeat: float | None = None
    """Alternative to `proportion`: passes over the stream's samples in an epoch (0.5: half of them, 2: twice)."""
    choose: int | None = None
    """Alternative to `proportion`: number of the stream's samples in an epoch."""

    def __post_init__(self) -> None:
        if self.local is not None and "://" in self.local:
            raise ConfigError(f"data.streams: local is {self.local!r}, an address: give it as remote.")
        if sum(weight is not None for weight in (self.proportion, self.repeat, self.choose)) > 1:
            raise ConfigError("data.streams: give at most one of proportion, repeat and choose.")
        for key in ("proportion", "repeat", "choose"):
            weight = getattr(self, key)
            if weight is not None and weight <= 0:
                raise ConfigError(f"data.streams: {key} is {weight} for {self.name}: it must be above 0.")

    @property
    def name(self) -> str:
        """What messages call the stream."""
        return self.remote or self.local or "(no folder)"


@dataclass
class DataConfig:
    """Data streams, sample order, and download settings."""

    streams: list[StreamConfig] = field(default_factory=list)
    """The prepared folders to read; at least one."""
    train_split: str = "train"
    """Split to train on."""
    eval_split: str = "dev"
    """Split of the dev loss."""
    short_p: float = 0.1
    """Share of the training segments that are cut to a random length, as published."""
    pad_to: str = "seq_length"
    """`seq_length`: pad every batch to the stage's length; `longest`: pad to the longest segment of the batch."""
    shuffle: bool = True
    """Shuffle the training samples, in another order in each epoch."""
    shuffle_algo: str = "py1e"
    """Shuffling algorithm of StreamingDataset: `naive`, `py1br`, `py1e`, `py1s` or `py2s`."""
    shuffle_seed: int | None = None
    """Seed of the sample order; null: the run's seed."""
    shuffle_block_size: int | None = None
    """Samples that are shuffled together by the algorithm; null: StreamingDataset's default."""
    num_canonical_nodes: int | None = None
    """Node count that decides the sample order; set it for runs that may resume on another number of nodes."""
    epoch_size: int | None = None
    """Samples of an epoch, divided by the streams' proportions (or sizes); null: all samples of the streams."""
    predownload: int | None = None
    """Samples that each worker downloads ahead; null: eight batches."""
    cache_limit: str | None = None
    """Largest size of the local cache, such as `20gb`; null: no limit."""
    keep_zip: bool = False
    """Keep the compressed shards in the cache beside the decompressed ones."""
    validate_hash: str | None = "sha256"
    """Hash to check every shard with, after its download, in the cache, and before it is read in place; the index must
    contain it (streaming_prep writes sha256). null: check sizes only."""
    download_retry: int = 2
    """Download attempts in a row, seconds apart."""
    download_timeout: float = 30.0
    """Seconds without a byte after which a connection is closed."""
    outage_tolerance: float = 300.0
    """Seconds for which the download of a needed shard is retried while storage answers 5xx or does not answer."""
    num_workers: int = 2
    """Worker processes of each rank's DataLoader; 0 loads in the training process."""
    prefetch_factor: int = 2
    """Batches that each worker prepares ahead."""
    batch_timeout: float = 900.0
    """Seconds without a batch from the workers after which training stops with an error."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.short_p <= 1.0:
            raise ConfigError(f"data.short_p is {self.short_p}: it is a share between 0 and 1.")
        if self.pad_to not in ("seq_length", "longest"):
            raise ConfigError(f"data.pad_to is {self.pad_to!r}: use 'seq_length' or 'longest'.")
        if self.num_workers < 0 or self.prefetch_factor < 1:
            raise ConfigError(
                f"data.num_workers is {self.num_workers} and data.prefetch_factor {self.prefetch_factor}: "
                "they must be at least 0 and 1."
            )
        weighted = [stream.proportion is not None for stream in self.streams]
        if any(weighted) and not all(weighted):
            raise ConfigError("data.streams: either every stream has a proportion or none has.")
        self._check_order()
        self._check_transport()

    def _check_order(self) -> None:
        if self.shuffle_algo not in algos:
            raise ConfigError(f"data.shuffle_algo is {self.shuffle_algo!r}: use one of {', '.join(sorted(algos))}.")
        _at_least(0, shuffle_seed=self.shuffle_seed)
        _at_least(
            1,
            shuffle_block_size=self.shuffle_block_size,
            num_canonical_nodes=self.num_canonical_nodes,
            epoch_size=self.epoch_size,
            predownload=self.predownload,
            download_retry=self.download_retry,
        )
        counted = [stream.name for stream in self.streams if stream.repeat is not None or stream.choose is not None]
        if self.epoch_size is not None and counted:
            raise ConfigError(
                f"data.epoch_size is {self.epoch_size}, but {counted[0]} says by repeat or choose how much of it comes "
                "in an epoch: drop the one, or give proportions."
            )

    def _check_transport(self) -> None:
        if self.validate_hash is not None and not is_hash(self.validate_hash):
            raise ConfigError(f"data.validate_hash is {self.validate_hash!r}, which is no hash: use sha256.")
        for name in ("download_timeout", "batch_timeout"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"data.{name} is {getattr(self, name)}: it must be above 0 seconds.")
        if not 0 <= self.outage_tolerance < self.batch_timeout:
            raise ConfigError(
                f"data.outage_tolerance is {self.outage_tolerance} and data.batch_timeout {self.batch_timeout}: the "
                "first must be at least 0 and below the second, or waiting for storage counts as a hanging worker."
            )
        if self.cache_limit is not None:
            try:
                size = bytes_to_int(self.cache_limit)
            except (ValueError, AttributeError) as error:
                raise ConfigError(f"data.cache_limit is {self.cache_limit!r}: give a size such as 20gb.") from error
            if size <= 0:
                raise ConfigError(f"data.cache_limit is {self.cache_limit!r}: give a size above 0, or null for none.")


def _at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise ConfigError(f"data.{name} is {value}: it must be at least {least}.")

"""Settings of the data section: streams, sample order and downloads."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from streaming.base.hashing import is_hash
from streaming.base.shuffle import algos
from streaming.base.util import bytes_to_int

from elc_composer.common.addresses import is_address, parse_optional_address
from elc_composer.common.errors import ConfigError

_SIZE = re.compile(r"(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,9})?(?:b|kb|mb|gb|tb|pb)", re.IGNORECASE)


@dataclass
class StreamConfig:
    """A prepared folder (the `--out` of `streaming_prep build`) and the share of it to use."""

    remote: str | None = None
    """Root of the prepared data: a folder or an `s3://...` prefix; its `seq_<length>/<split>` is read."""
    local: str | None = None
    """Cache folder for `remote`; without `remote`, the prepared folder itself, read in place."""
    split: str | None = None
    """Split to read; null: the loader's own (`data.train_split` or `data.eval_split`)."""
    proportion: float | None = None
    """Share of an epoch that comes from this stream; set it for all streams or none."""
    repeat: float | None = None
    """Alternative to `proportion`: repetitions of the stream per epoch (0.5: half of its samples, 2: each twice)."""
    choose: int | None = None
    """Alternative to `proportion`: number of its samples per epoch."""

    def __post_init__(self) -> None:
        if self.local is not None and (is_address(self.local) or "://" in self.local):
            parse_optional_address(self.local, "data.streams: local")
            raise ConfigError(f"data.streams: local is {self.local!r}, an address; set it as remote")
        if self.remote is not None:
            parse_optional_address(self.remote, "data.streams: remote")
        if sum(weight is not None for weight in (self.proportion, self.repeat, self.choose)) > 1:
            raise ConfigError(
                f"data.streams: {self.name} sets more than one of proportion, repeat and choose; keep one"
            )
        for key in ("proportion", "repeat", "choose"):
            weight = getattr(self, key)
            if weight is not None and weight <= 0:
                raise ConfigError(f"data.streams: {key} is {weight} for {self.name}; it must be above 0")

    @property
    def name(self) -> str:
        """The name of the stream in messages."""
        return self.remote or self.local or "(no folder)"


@dataclass
class DataConfig:
    """Data streams, sample order, and download settings."""

    streams: list[StreamConfig] = field(default_factory=list)
    """The prepared folders that training mixes."""
    train_split: str = "train"
    """Split that training reads."""
    eval_split: str = "dev"
    """Split of the dev loss."""
    short_p: float = 0.1
    """Share of the training segments cut to a random length, as published."""
    pad_to: str = "seq_length"
    """`seq_length`: every batch has the length of the stage; `longest`: a batch is as long as its longest segment."""
    shuffle: bool = True
    """Shuffle the training samples; each epoch has another order."""
    shuffle_algo: str = "py1e"
    """Shuffling algorithm of StreamingDataset."""
    shuffle_seed: int | None = None
    """Seed of the sample order; null: the seed of the run."""
    shuffle_block_size: int | None = None
    """Samples within which StreamingDataset shuffles; null: its default."""
    num_canonical_nodes: int | None = None
    """Number of nodes that the sample order is made for; set it for runs that may resume on another number of nodes. An
    epoch leaves out up to this many samples, since all canonical nodes get equally many. null: the number of nodes,
    times 64 for the algorithms `py1s` and `py2s`."""
    epoch_size: int | None = None
    """Samples of an epoch, divided by the proportions (or sizes) of the streams; null: all samples."""
    predownload: int | None = None
    """Samples that each worker downloads ahead; null: eight batches."""
    cache_limit: str | None = None
    """Largest size of the local cache, such as `20gb`; null: no limit. It is enforced at each download."""
    keep_zip: bool = False
    """Keep compressed shards in the cache after decompression."""
    validate_hash: str | None = "sha256"
    """Hash algorithm that checks every shard after a download, in the cache, and before it is read in place; the index
    must hold this hash (that of streaming_prep does). null: check sizes only."""
    download_retry: int = 2
    """Attempts in a row to download a shard, seconds apart."""
    download_timeout: float = 30.0
    """Seconds without a byte after which a connection is closed."""
    outage_tolerance: float = 300.0
    """Seconds of retries for a shard that is due, while storage answers 5xx, closes connections or times out."""
    num_workers: int = 2
    """Loader processes per rank; 0: the rank itself."""
    prefetch_factor: int = 2
    """Batches that each worker prepares ahead."""
    batch_timeout: float = 900.0
    """Seconds after which a missing batch is an error (with workers)."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.short_p <= 1.0:
            raise ConfigError(f"data.short_p is {self.short_p}; it must be from 0 to 1")
        if self.pad_to not in ("seq_length", "longest"):
            raise ConfigError(f"data.pad_to is {self.pad_to!r}; use 'seq_length' or 'longest'")
        if self.num_workers < 0 or self.prefetch_factor < 1:
            raise ConfigError(
                f"data.num_workers is {self.num_workers} and data.prefetch_factor {self.prefetch_factor}; they must be "
                "at least 0 and 1"
            )
        weighted = [stream.proportion is not None for stream in self.streams]
        if any(weighted) and not all(weighted):
            raise ConfigError("data.streams: some streams have a proportion and some have none; set it for all or none")
        self._check_order()
        self._check_transport()

    def _check_order(self) -> None:
        if self.shuffle_algo not in algos:
            raise ConfigError(f"data.shuffle_algo is {self.shuffle_algo!r}; use one of {', '.join(sorted(algos))}")
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
                f"data.epoch_size is {self.epoch_size}; it cannot be combined with repeat or choose (stream "
                f"{counted[0]}); drop one of them or use proportion"
            )

    def _check_transport(self) -> None:
        if self.validate_hash is not None and not is_hash(self.validate_hash):
            raise ConfigError(f"data.validate_hash is {self.validate_hash!r}, an unknown hash; use sha256")
        for name in ("download_timeout", "batch_timeout"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"data.{name} is {getattr(self, name)}; it must be above 0 seconds")
        if not 0 <= self.outage_tolerance < self.batch_timeout:
            raise ConfigError(
                f"data.outage_tolerance is {self.outage_tolerance} and data.batch_timeout {self.batch_timeout}; the "
                "first must be at least 0 and below the second, or retries of storage count as a hanging worker"
            )
        if self.cache_limit is not None:
            if _SIZE.fullmatch(self.cache_limit) is None:
                raise ConfigError(f"data.cache_limit is {self.cache_limit!r}; use a size such as 20gb")
            if bytes_to_int(self.cache_limit) <= 0:
                raise ConfigError(f"data.cache_limit is {self.cache_limit!r}; use a size above 0, or null for no limit")


def _at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise ConfigError(f"data.{name} is {value}; it must be at least {least}")

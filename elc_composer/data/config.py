"""What the data section of a run config holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from streaming.base.hashing import is_hash
from streaming.base.shuffle import algos
from streaming.base.util import bytes_to_int

from elc_composer.common.addresses import is_address, parse_optional_address
from elc_composer.common.errors import ConfigError


@dataclass
class StreamConfig:
    """One prepared folder (what `streaming_prep build --out` wrote), and how much of it to use."""

    remote: str | None = None
    """Root of the prepared data: a folder or an `s3://...` prefix; its `seq_<length>/<split>` is read."""
    local: str | None = None
    """Cache folder for `remote`; without `remote`, the prepared folder itself, read in place."""
    split: str | None = None
    """Another split than the one the loader is for."""
    proportion: float | None = None
    """Share of the epoch that comes from this stream; all streams or none say this."""
    repeat: float | None = None
    """Or: how often its samples come in an epoch (0.5: half of them, 2: twice)."""
    choose: int | None = None
    """Or: how many of its samples come in an epoch."""

    def __post_init__(self) -> None:
        if self.local is not None and (is_address(self.local) or "://" in self.local):
            parse_optional_address(self.local, "data.streams: local")
            raise ConfigError(f"data.streams: local is {self.local!r}, an address: give it as remote.")
        if self.remote is not None:
            parse_optional_address(self.remote, "data.streams: remote")
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
    """Streams of prepared segments, their order, and how they travel.

    Fields without a word here are StreamingDataset's or DataLoader's own, by the same name.
    """

    streams: list[StreamConfig] = field(default_factory=list)
    train_split: str = "train"
    eval_split: str = "dev"
    short_p: float = 0.1
    """Share of the training segments cut to a random length, as published."""
    pad_to: str = "seq_length"
    """`seq_length`: every batch has the stage's length; `longest`: a batch is as long as its longest segment."""
    shuffle: bool = True
    shuffle_algo: str = "py1e"
    shuffle_seed: int | None = None
    """None: the run's seed."""
    shuffle_block_size: int | None = None
    num_canonical_nodes: int | None = None
    """The order of samples depends on it: set it for runs that may resume on another number of nodes. An epoch leaves
    out up to this many samples, since every canonical node needs equally many; null: the number of nodes, times 64
    for `py1s` and `py2s`."""
    epoch_size: int | None = None
    """Samples of an epoch, shared out by the streams' proportions (or sizes)."""
    predownload: int | None = None
    """Samples that every worker downloads ahead; None: eight batches."""
    cache_limit: str | None = None
    """Largest size of the local cache, such as `20gb`; None keeps everything."""
    keep_zip: bool = False
    validate_hash: str | None = "sha256"
    """Check every shard by this hash when it is downloaded, when it is found in the cache, and before it is read in
    place; the index must hold it (streaming_prep's does). None checks sizes only."""
    download_retry: int = 2
    """Attempts in a row, with a pause of seconds."""
    download_timeout: float = 30.0
    """Seconds without a byte after which a connection is given up."""
    outage_tolerance: float = 300.0
    """Seconds for which a shard that is due is asked for again while storage answers 5xx, hangs up or times out."""
    num_workers: int = 2
    prefetch_factor: int = 2
    batch_timeout: float = 900.0
    """Seconds after which a batch that does not come is an error (with workers)."""

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

"""What the data section of a run config holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from elc_composer.errors import ConfigError


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
        if self.local is not None and "://" in self.local:
            raise ConfigError(f"data.streams: local is {self.local!r}, an address: give it as remote.")
        if sum(weight is not None for weight in (self.proportion, self.repeat, self.choose)) > 1:
            raise ConfigError("data.streams: give at most one of proportion, repeat and choose.")

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
    """Set it for runs that may resume on another number of nodes: the order of samples hangs on it."""
    epoch_size: int | None = None
    predownload: int | None = None
    cache_limit: str | None = None
    """Largest size of the local cache, such as `20gb`; None keeps everything."""
    keep_zip: bool = False
    validate_hash: str | None = None
    """Check every downloaded shard by this hash, such as `sha256`; the index must hold it (streaming_prep's does)."""
    download_retry: int = 2
    download_timeout: float = 60.0
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

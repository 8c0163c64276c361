"""Locates the MDS folder of one sequence length and split of each stream in a run config."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from elc_composer.common.addresses import local_path, parse_optional_address
from elc_composer.common.errors import ConfigError
from elc_composer.data.config import DataConfig, StreamConfig
from elc_composer.prepared.layout import length_folder


@dataclass(frozen=True)
class StreamPlace:
    """The location of an MDS folder: `remote/split` with its cache `local/split`.

    With remote None it is `local/split` itself, read in place.
    """

    remote: str | None
    local: str
    split: str

    @property
    def source(self) -> str:
        """The folder or address for error messages."""
        return f"{self.remote or self.local}/{self.split}"


def resolve(stream: StreamConfig, seq_length: int, split: str) -> StreamPlace:
    """Locate a stream's segments of `seq_length`.

    A folder without a cache is read in place. Object storage without a cache gets one in the temporary folder, named
    by its address, so that the next run finds it again.

    Raises:
        ConfigError: a stream without a folder, or with an invalid address.
    """
    folder, split = length_folder(seq_length), stream.split or split
    root = stream.remote or stream.local
    if root is None:
        raise ConfigError("data.streams: a stream needs remote or local, the folder that streaming_prep wrote.")
    address = parse_optional_address(root, "data.streams: remote")
    root = local_path(root).rstrip("/") if address is None else str(address)
    if stream.remote is None or (stream.local is None and address is None):
        return StreamPlace(None, str(Path(root).resolve() / folder), split)
    cache = stream.local or str(
        Path(tempfile.gettempdir()) / "elc_composer_cache" / hashlib.sha256(root.encode()).hexdigest()[:16]
    )
    return StreamPlace(f"{root}/{folder}", str(Path(cache).resolve() / folder), split)


def resolve_all(config: DataConfig, seq_length: int, split: str) -> list[StreamPlace]:
    """`resolve` for every stream of the config.

    Raises:
        ConfigError: no stream, two streams with one cache, or as `resolve`.
    """
    if not config.streams:
        raise ConfigError("data.streams is empty: set at least one folder that streaming_prep wrote.")
    places = [resolve(stream, seq_length, split) for stream in config.streams]
    caches = [f"{place.local}/{place.split}" for place in places if place.remote is not None]
    for cache in caches:
        if caches.count(cache) > 1:
            raise ConfigError(f"data.streams: two streams have the cache {cache}: set a local folder for each.")
    return places

"""From a stream of the config to the MDS folder of one sequence length and split."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from elc_composer.common.addresses import local_path, parse_optional_address
from elc_composer.common.errors import ConfigError
from elc_composer.data.config import DataConfig, StreamConfig


@dataclass(frozen=True)
class StreamPlace:
    """Where one MDS folder is: `remote/split` with its cache `local/split`; remote None: the folder itself is local."""

    remote: str | None
    local: str
    split: str

    @property
    def source(self) -> str:
        """The folder or address that a message names."""
        return f"{self.remote or self.local}/{self.split}"


def resolve(stream: StreamConfig, seq_length: int, split: str) -> StreamPlace:
    """The place of a stream's segments of `seq_length`.

    A folder without a cache is read in place. Object storage without a cache gets one under the temporary folder, named
    by its address, so that the next run finds it again.

    Raises:
        ConfigError: for a stream that names no folder.
    """
    folder, split = f"seq_{seq_length}", stream.split or split
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
    """`resolve` for every stream of the config, of which there must be one."""
    if not config.streams:
        raise ConfigError("data.streams is empty: name at least one folder that streaming_prep wrote.")
    places = [resolve(stream, seq_length, split) for stream in config.streams]
    caches = [f"{place.local}/{place.split}" for place in places if place.remote is not None]
    for cache in caches:
        if caches.count(cache) > 1:
            raise ConfigError(f"data.streams: two streams have the cache {cache}: name a local folder for each.")
    return places

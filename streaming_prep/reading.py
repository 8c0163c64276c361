"""Read a prepared folder, local or remote: manifest, indexes, shards and tokenizer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from elc_composer.common.errors import ConfigError, DataError, one_line
from elc_composer.common.json_files import parse_json
from elc_composer.prepared.index_safety import check_shards
from elc_composer.prepared.layout import MANIFEST
from streaming_prep.manifest import Manifest
from streaming_prep.manifest_reading import parse_manifest, read_manifest
from streaming_prep.mds_shards import read_shard
from streaming_prep.transfer import Download, is_remote


@dataclass
class Prepared:
    """One prepared folder."""

    place: str
    """Its path or URL."""
    manifest: Manifest
    cache: Path
    """Files of a URL are downloaded to it, one at a time."""
    download: Download | None = None
    _indexes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def read(self, file: str) -> bytes:
        """The bytes of a file, given by its path in the folder. Raises `DataError` if it cannot be read."""
        path = self.download.fetch(file, self.cache / "file") if self.download else Path(self.place) / file
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise DataError(f"{path} is missing") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or one_line(error)})") from None

    def index(self, output: str) -> list[dict[str, Any]]:
        """Streaming's index entries of the shards of an output such as `seq_128/train`. Raises `DataError`."""
        if output not in self._indexes:
            self._indexes[output] = _parse_index(self.read(f"{output}/index.json"), f"{self.place}/{output}")
        return self._indexes[output]

    def segments(self, output: str) -> Iterator[list[np.ndarray]]:
        """The segments of each shard, in order; int [tokens] each."""
        for number in range(len(self.index(output))):
            yield self.shard(output, number)

    def shard(self, output: str, number: int) -> list[np.ndarray]:
        """The segments of one shard, int [tokens] each."""
        entry = self.index(output)[number]
        return read_shard(self.read(f"{output}/{entry['zip_data']['basename']}"), entry)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the segments. Raises `DataError`."""
        file = self.manifest.tokenizer.file
        data = self.read(file)
        try:
            return Tokenizer.from_str(data.decode())
        except Exception as error:  # tokenizers raises bare Exception
            raise DataError(f"{file} is damaged ({one_line(error)}); rebuild the folder") from None

    def choose(self, output: str | None) -> str:
        """`output`, by default the first one. Raises `ConfigError` if there is no such output."""
        there = sorted(self.manifest.outputs)
        if output is not None and output not in there:
            raise ConfigError(f"{self.place} holds no {output}; give --output one of {', '.join(there)}")
        return output or there[0]


@contextmanager
def open_prepared(place: str) -> Iterator[Prepared]:
    """Open the prepared folder at a path or URL. Raises `DataError` if there is none or its manifest is damaged."""
    with tempfile.TemporaryDirectory() as temporary:
        cache = Path(temporary)
        if is_remote(place):
            download = Download(place)
            content = download.fetch(MANIFEST, cache / MANIFEST).read_bytes()
            place = place.rstrip("/")
            yield Prepared(place, parse_manifest(content, f"{place}/{MANIFEST}"), cache, download)
        else:
            yield Prepared(place, read_manifest(Path(place)), cache)


def _parse_index(content: bytes, source: str) -> list[dict[str, Any]]:
    damaged = DataError(f"{source}/index.json is damaged; rebuild or upload the folder again")
    index = parse_json(content, f"{source}/index.json")
    shards = index.get("shards") if isinstance(index, dict) else None
    if not isinstance(shards, list) or not all(_is_entry(entry) for entry in shards):
        raise damaged
    check_shards(source, shards)
    return shards


def _is_entry(entry: Any) -> bool:
    """True if a value has the types of an index entry of a compressed MDS shard, as far as they are used here."""
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("zip_data"), dict)
        and isinstance(entry.get("raw_data"), dict)
        and isinstance(entry.get("compression"), str)
        and isinstance(entry.get("column_names"), list)
        and isinstance(entry.get("column_encodings"), list)
        and isinstance(entry.get("samples"), int)
        and not isinstance(entry["samples"], bool)
    )

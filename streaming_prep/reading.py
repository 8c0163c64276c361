"""A prepared folder opened for reading, wherever it lies: its manifest, its shards' bytes, its tokenizer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.prepared.index_safety import check_shards
from streaming_prep.manifest import MANIFEST, Manifest, read_manifest
from streaming_prep.mds_shards import read_shard
from streaming_prep.transfer import Download, is_remote


@dataclass
class Prepared:
    """One prepared folder; `place` is a folder or URL, files of a URL pass through `cache` one at a time."""

    place: str
    manifest: Manifest
    cache: Path
    download: Download | None = None
    _indexes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def read(self, file: str) -> bytes:
        """The bytes of a file given by its path in the folder. Raises `DataError` where it is not there."""
        path = self.download.fetch(file, self.cache / "file") if self.download else Path(self.place) / file
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise DataError(f"{path} is not there") from None

    def index(self, output: str) -> list[dict[str, Any]]:
        """Streaming's description of each shard of an output such as `seq_128/train`."""
        if output not in self._indexes:
            try:
                shards = json.loads(self.read(f"{output}/index.json"))["shards"]
                check_shards(f"{self.place}/{output}", shards)
                for entry in shards:
                    entry["zip_data"]["basename"], entry["raw_data"]["basename"], entry["samples"] + 0
                self._indexes[output] = shards
            except (AttributeError, ValueError, KeyError, TypeError) as error:
                if isinstance(error, DataError):
                    raise
                raise DataError(f"{output}/index.json is damaged") from None
        return self._indexes[output]

    def segments(self, output: str) -> Iterator[list[np.ndarray]]:
        """The segments of each shard, in order."""
        for number in range(len(self.index(output))):
            yield self.shard(output, number)

    def shard(self, output: str, number: int) -> list[np.ndarray]:
        """The segments of one shard, int [tokens] each."""
        entry = self.index(output)[number]
        return read_shard(self.read(f"{output}/{entry['zip_data']['basename']}"), entry)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the segments were made with."""
        file = self.manifest["tokenizer"]["file"]
        data = self.read(file)
        try:
            return Tokenizer.from_str(data.decode())
        except Exception as error:  # tokenizers raises bare Exception
            raise DataError(f"{file} is damaged ({error}); build the folder anew") from None

    def choose(self, output: str | None) -> str:
        """`output`, or the first there is. Raises `ConfigError` naming what there is."""
        there = sorted(self.manifest["outputs"])
        if output is not None and output not in there:
            raise ConfigError(f"{self.place} holds no {output}; there is {', '.join(there)}")
        return output or there[0]


@contextmanager
def open_prepared(place: str) -> Iterator[Prepared]:
    """The prepared folder at a path or URL. Raises `DataError` where no whole one is."""
    with tempfile.TemporaryDirectory() as temporary:
        cache = Path(temporary)
        if is_remote(place):
            download = Download(place)
            download.fetch(MANIFEST, cache / MANIFEST)
            yield Prepared(place.rstrip("/"), read_manifest(cache), cache, download)
        else:
            yield Prepared(place, read_manifest(Path(place)), cache)

"""One stream of MDS shards, whose failures say which shard and whether trying again can help."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming import Stream
from streaming.base.compression import decompress
from streaming.base.format import FileInfo, Reader, get_index_basename
from streaming.base.hashing import get_hash
from streaming.base.world import World

from elc_composer.common.errors import DataError
from elc_composer.common.storage import Unreachable, describe, downloader_for, is_disk_full, is_transient
from elc_composer.prepared.index_safety import check_shards

log = logging.getLogger(__name__)

DOWNLOADS = 3
"""Times that a shard is fetched whose bytes are not those that were written."""
MEND = "; copy it anew, or prepare the data again"
"""What to do about a shard that is read where it lies."""
_UNCHECKED = ".unchecked"


class _Damaged(Exception):
    """Bytes that are not those that were written."""


class CheckedStream(Stream):
    """A stream that names the shard that fails, fetches a damaged one again, and trusts nothing that it finds.

    A shard that an earlier run left in the cache counts as unchecked until its first use, when its hash is compared:
    it waits under another name, so that whoever reads it first goes through `prepare_shard`.
    """

    def __init__(self, *, remote: str | None, local: str, **options: Any) -> None:
        super().__init__(remote=remote, local=local, **options)
        self._downloader = downloader_for(remote)
        self.bytes_in_place = 0
        """Of shards that are no cache, though Streaming counts them as one; known to the rank that set them up."""

    @property
    def in_place(self) -> bool:
        """Whether shards are read where they lie, without a cache."""
        return self.remote is None or os.path.abspath(self.remote) == os.path.abspath(self.local)

    @property
    def source(self) -> str:
        """The folder or address that a message names."""
        return f"{self.remote or self.local}/{self.split}"

    def get_shards(self, world: World, allow_unsafe_types: bool) -> list[Reader]:
        """The readers of the stream's shards, its index fetched where the cache has none.

        Raises:
            DataError: where the index cannot be had, or names what must not be read.
        """
        # Ours is stricter than Streaming's check, and like it runs before anything is read.
        shards = super().get_shards(world, allow_unsafe_types=True)
        check_shards(self.source, json.loads(Path(self.local, self.split, get_index_basename()).read_text())["shards"])
        return shards

    def set_up_local(self, shards: list[Reader], cache_usage_per_shard: NDArray[np.int64]) -> None:
        """Tidy what earlier runs left in the cache, and note what is there; called by one rank of a node."""
        if not self.in_place:
            self._tidy(shards)
        super().set_up_local(shards, cache_usage_per_shard)
        if self.in_place:
            self.bytes_in_place = int(cache_usage_per_shard.sum())
        elif self.validate_hash:
            for shard in shards:
                raw = self._path(shard.file_pairs[0][0])
                if raw.is_file():
                    raw.rename(_aside(raw))

    def prepare_shard(self, shard: Reader) -> int:
        """Have the shard's files present, decompressed and checked; returns the change in cache usage, in bytes.

        A shard that is read in place changes none.

        Raises:
            Unreachable: where the storage does not answer as it should.
            DataError: where the shard cannot be had at all.
        """
        delta = 0 if self.in_place else self._check_found(shard)
        for number in range(DOWNLOADS):
            try:
                change = super().prepare_shard(shard)
                return 0 if self.in_place else delta + change
            except (Unreachable, DataError):
                self._discard(shard)
                raise
            except Exception as error:
                self._discard(shard)
                if is_disk_full(error):
                    raise self._no_space() from error
                complaint = f"{self.name_of(shard)} cannot be read: {describe(error)}"
                if self.in_place or number == DOWNLOADS - 1:
                    way_out = MEND if self.in_place else f"; {DOWNLOADS} downloads gave the same: upload it again"
                    raise DataError(complaint + way_out) from error
                log.warning("%s; fetching it again", complaint)
        raise AssertionError

    def check_in_place(self, shard: Reader) -> None:
        """Compare the hash of a shard that is read where it lies; if packed, its unpacking checks it.

        Raises:
            DataError: where its bytes are not those that were written.
        """
        info, _ = shard.file_pairs[0]
        if self.in_place and self.validate_hash and self.is_here(shard):
            try:
                self._check_hash(info, self._path(info).read_bytes())
            except _Damaged as error:
                complaint = f"stream {self.source}: shard {info.basename} cannot be read: {error}"
                raise DataError(complaint + MEND) from error

    def restore(self, shard: Reader) -> None:
        """Give a shard that is still unchecked its name back, for eviction."""
        raw = self._path(shard.file_pairs[0][0])
        with suppress(FileNotFoundError):
            _aside(raw).rename(raw)

    def is_here(self, shard: Reader) -> bool:
        """Whether the shard can be read."""
        return self._path(shard.file_pairs[0][0]).is_file()

    def name_of(self, shard: Reader) -> str:
        """What a message calls a shard."""
        raw, packed = shard.file_pairs[0]
        return f"stream {self.source}: shard {(packed or raw).basename}"

    def _download_file(self, from_basename: str, to_basename: str | None = None) -> str:
        if self.remote is None:
            raise DataError(f"stream {self.source}: shard {from_basename} cannot be read: it is not there{MEND}")
        try:
            return super()._download_file(from_basename, to_basename)
        except Exception as error:
            if is_disk_full(error):
                raise self._no_space() from error
            kind = Unreachable if is_transient(error) else DataError
            raise kind(f"stream {self.source}: shard {from_basename} cannot be fetched: {describe(error)}") from error

    def _prepare_shard_part(
        self, raw_info: FileInfo, zip_info: FileInfo | None = None, compression: str | None = None
    ) -> int:
        delta = super()._prepare_shard_part(raw_info, zip_info, compression)
        size = self._path(raw_info).stat().st_size
        if size != raw_info.bytes:
            raise _Damaged(f"{raw_info.basename} has {size} bytes of {raw_info.bytes}")
        return delta

    def _decompress_shard_part(
        self, zip_info: FileInfo, zip_filename: str, raw_filename: str, compression: str | None
    ) -> None:
        data = Path(zip_filename).read_bytes()
        self._check_hash(zip_info, data)
        # A name of its own: another run may be decompressing the same shard of a folder that both read in place.
        temporary = Path(f"{raw_filename}.{secrets.token_hex(4)}.tmp")
        try:
            temporary.write_bytes(decompress(compression, data))
            temporary.rename(raw_filename)
        finally:
            temporary.unlink(missing_ok=True)
        if not self.safe_keep_zip:
            os.remove(zip_filename)

    def _check_hash(self, info: FileInfo, data: bytes) -> None:
        if self.validate_hash and get_hash(self.validate_hash, data) != info.hashes.get(self.validate_hash):
            raise _Damaged(f"Checksum failure: its {self.validate_hash} is not the index's")

    def _check_found(self, shard: Reader) -> int:
        """Take a shard that is in the cache if it is whole; the change in cache usage."""
        info, _ = shard.file_pairs[0]
        raw = self._path(info)
        aside = _aside(raw)
        found = next((path for path in (aside, raw) if path.is_file()), None)
        if found is None:
            return 0
        try:
            if self.validate_hash:
                self._check_hash(info, found.read_bytes())
        except _Damaged as error:
            log.warning("%s in the cache is damaged: %s; fetching it again", self.name_of(shard), error)
            found.unlink()
            return -info.bytes
        found.rename(raw)
        return 0

    def _tidy(self, shards: list[Reader]) -> None:
        folder = Path(self.local, self.split)
        known = {info.basename: info for shard in shards for pair in shard.file_pairs for info in pair if info}
        for path in list(folder.iterdir()) if folder.is_dir() else []:
            if path.name.endswith(_UNCHECKED):
                path = path.rename(path.with_name(path.name.removesuffix(_UNCHECKED)))
            if (info := known.get(path.name)) is not None:
                if path.stat().st_size != info.bytes:
                    log.warning("stream %s: shard %s in the cache is cut short; it is removed", self.source, path.name)
                    path.unlink()
            # Downloads and decompressions that a killed run did not finish.
            elif re.search(r"\.mds(\.\w+)?(\.[0-9A-Fa-f]{8}|\.tmp)$", path.name):
                path.unlink()
        for shard in shards:
            raw, packed = (self._path(info) if info else None for info in shard.file_pairs[0])
            if not self.safe_keep_zip and packed is not None and raw is not None and raw.is_file():
                packed.unlink(missing_ok=True)

    def _discard(self, shard: Reader) -> None:
        # What failed its check must not be found by the next attempt, nor by the next run; a source is left alone.
        for raw, packed in shard.file_pairs:
            if packed or not self.in_place:
                self._path(raw).unlink(missing_ok=True)
            if packed and not self.in_place:
                self._path(packed).unlink(missing_ok=True)

    def _no_space(self) -> DataError:
        return DataError(
            f"no space is left in {Path(self.local, self.split)} for shards of {self.source}: free some, or set "
            "data.cache_limit; the same command continues from the newest checkpoint"
        )

    def _path(self, info: FileInfo) -> Path:
        return Path(self.local, self.split, info.basename)


def _aside(raw: Path) -> Path:
    return raw.with_name(raw.name + _UNCHECKED)

"""Stream of MDS shards with checked downloads: errors name the shard and tell whether a retry may help."""

from __future__ import annotations

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
from elc_composer.common.storage import (
    START_PATIENCE,
    Unreachable,
    describe,
    downloader_for,
    is_disk_full,
    is_transient,
    retry,
)
from elc_composer.prepared.index_safety import read_shards

log = logging.getLogger(__name__)

DOWNLOADS = 3
"""Downloads of a shard whose bytes are wrong."""
COPY_AGAIN = "; copy it again, or prepare the data again"
"""Remedy for a damaged shard that is read in place."""
_UNCHECKED = ".unchecked"


class _Damaged(Exception):
    """A file whose hash or size is not the index's."""


class CheckedStream(Stream):
    """A stream whose errors name the shard, which downloads a damaged shard again and checks shards of earlier runs.

    A shard that an earlier run left in the cache gets another name until its first use, so that its first reader calls
    `prepare_shard`, which compares its hash.

    Private methods of `Stream` that are overridden, with the bugs of mosaicml-streaming 0.13.0 they avoid:

    - `_download_file` (bug: a download error names the exception of the provider, not the shard): error messages.
    - `_prepare_shard_part` (bug: a shard's size is not compared): a shard cut short is accepted.
    - `_decompress_shard_part` (bug: two runs that read one folder in place write to the same temporary file).
    """

    def __init__(self, *, remote: str | None, local: str, **options: Any) -> None:
        super().__init__(remote=remote, local=local, **options)
        self._downloader = downloader_for(remote)
        self.bytes_in_place = 0
        """Bytes of shards read in place, which Streaming wrongly counts as cache usage; set on local leaders only."""

    @property
    def in_place(self) -> bool:
        """Whether shards are read from their folder, without a cache."""
        return self.remote is None or os.path.abspath(self.remote) == os.path.abspath(self.local)

    @property
    def source(self) -> str:
        """The folder or address for error messages."""
        return f"{self.remote or self.local}/{self.split}"

    def get_shards(self, world: World, allow_unsafe_types: bool) -> list[Reader]:
        """The readers of the stream's shards; downloads the index where the cache has none.

        Raises:
            Unreachable: a transient storage failure.
            DataError: a missing index, or one with unsafe columns or file names.
        """
        # True turns Streaming's own check off; ours is stricter and also runs before a shard is opened.
        shards = retry(lambda: super(CheckedStream, self).get_shards(world, True), START_PATIENCE)
        index = Path(self.local, self.split, get_index_basename())
        read_shards(self.source, index.read_bytes())
        return shards

    def set_up_local(self, shards: list[Reader], cache_usage_per_shard: NDArray[np.int64]) -> None:
        """Clean the cache of what earlier runs left and count its shards; called on the local leader only."""
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
        """Download, decompress and check a shard; returns the change in cache usage in bytes, 0 if read in place.

        Raises:
            Unreachable: a transient storage failure.
            DataError: a shard that is missing or damaged, or a full disk.
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
                    same = f"; {DOWNLOADS} downloads gave the same: upload it again"
                    raise DataError(complaint + (COPY_AGAIN if self.in_place else same)) from error
                log.warning("%s; downloading it again", complaint)
        raise AssertionError

    def check_in_place(self, shard: Reader) -> None:
        """Compare the hash of an uncompressed shard that is read in place; decompression checks the others.

        Raises:
            DataError: a hash that is not the index's.
        """
        info, _ = shard.file_pairs[0]
        if self.in_place and self.validate_hash and self.is_here(shard):
            try:
                self._check_hash(info, self._path(info).read_bytes())
            except _Damaged as error:
                complaint = f"stream {self.source}: shard {info.basename} cannot be read: {error}"
                raise DataError(complaint + COPY_AGAIN) from error

    def restore(self, shard: Reader) -> None:
        """Rename an unchecked shard back, for eviction."""
        raw = self._path(shard.file_pairs[0][0])
        with suppress(FileNotFoundError):
            _aside(raw).rename(raw)

    def is_here(self, shard: Reader) -> bool:
        """Whether the shard is present and checked."""
        return self._path(shard.file_pairs[0][0]).is_file()

    def name_of(self, shard: Reader) -> str:
        """The name of a shard in messages."""
        raw, packed = shard.file_pairs[0]
        return f"stream {self.source}: shard {(packed or raw).basename}"

    def _download_file(self, from_basename: str, to_basename: str | None = None) -> str:
        if self.remote is None:
            raise DataError(
                f"stream {self.source}: shard {from_basename} cannot be read: it does not exist{COPY_AGAIN}"
            )
        try:
            return super()._download_file(from_basename, to_basename)
        except Exception as error:
            if is_disk_full(error):
                raise self._no_space() from error
            kind = Unreachable if is_transient(error) else DataError
            raise kind(
                f"stream {self.source}: shard {from_basename} cannot be downloaded: {describe(error)}"
            ) from error

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
        # A unique name: another run may be decompressing the same shard of a folder that both read in place.
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
        """Accept a shard of an earlier run in the cache if its hash is right, else delete it; the change in usage."""
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
            log.warning("%s in the cache is damaged: %s; downloading it again", self.name_of(shard), error)
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
            # Unfinished downloads and decompressions of a killed run.
            elif re.search(r"\.mds(\.\w+)?(\.[0-9A-Fa-f]{8}|\.tmp)$", path.name):
                path.unlink()
        # Streaming 0.13.0 removes the unpacked shard where both are present; the packed one is not needed any more.
        for shard in shards:
            raw, packed = (self._path(info) if info else None for info in shard.file_pairs[0])
            if not self.safe_keep_zip and packed is not None and raw is not None and raw.is_file():
                packed.unlink(missing_ok=True)

    def _discard(self, shard: Reader) -> None:
        # Neither the next attempt nor the next run may find a file that failed its check. A source is not touched.
        for raw, packed in shard.file_pairs:
            if packed or not self.in_place:
                self._path(raw).unlink(missing_ok=True)
            if packed and not self.in_place:
                self._path(packed).unlink(missing_ok=True)

    def _no_space(self) -> DataError:
        return DataError(
            f"no space is left in {Path(self.local, self.split)} for shards of {self.source}: free some, or set "
            "data.cache_limit; rerun the same command to resume from the newest checkpoint"
        )

    def _path(self, info: FileInfo) -> Path:
        return Path(self.local, self.split, info.basename)


def _aside(raw: Path) -> Path:
    return raw.with_name(raw.name + _UNCHECKED)

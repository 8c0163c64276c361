"""Upload and download of prepared folders: S3 with our own client, other object storage with Streaming's classes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from elc_composer.common.addresses import Address, parse_address, parse_optional_address, refuse_addresses
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.files import digest, sha256_file, write_json
from elc_composer.common.json_files import read_json
from elc_composer.common.s3 import ATTEMPTS, S3Prefix
from elc_composer.common.storage import describe, downloader_for
from elc_composer.prepared.layout import MANIFEST


def is_remote(place: str | Path, name: str = "folder") -> bool:
    """Whether `place` is an address of object storage, rather than a local path.

    Raises:
        ConfigError: an address that is invalid, or `file://`; the message begins with `name`.
    """
    if parse_optional_address(place, name) is not None:
        return True
    refuse_addresses({name: place})
    return False


class Target(Protocol):
    """Where files are uploaded to."""

    def send(self, file: str) -> None:
        """Upload a file, given by its path within the folder."""

    def has(self, file: str, size: int) -> bool:
        """Whether a file of that many bytes exists there, if the storage can report it."""

    def remove(self, file: str) -> None:
        """Delete a file, where that is supported."""


class S3Target:
    """A prefix in S3. Raises an error of boto3 where the bucket does not exist or is not accessible."""

    def __init__(self, folder: Path, address: Address) -> None:
        self._folder = folder
        self._objects = S3Prefix(address, threads=True)
        self._objects.check_bucket()

    def send(self, file: str) -> None:
        """Upload a file."""
        self._objects.upload(self._folder / file, file)

    def has(self, file: str, size: int) -> bool:
        """Whether the object exists and has that size."""
        try:
            return self._objects.size(file) == size
        except Exception:  # missing or unreadable: uploading it again does no harm
            return False

    def remove(self, file: str) -> None:
        """Delete an object."""
        self._objects.delete(file)


class StreamingTarget:
    """Other object storage, by the uploaders of mosaicml-streaming, which neither look nor delete."""

    def __init__(self, folder: Path, address: Address) -> None:
        from streaming.base.storage.upload import CloudUploader

        self._uploader: Any = CloudUploader.get((str(folder), str(address)), keep_local=True, exist_ok=True)

    def send(self, file: str) -> None:
        """Upload a file."""
        self._uploader.upload_file(file)

    def has(self, file: str, size: int) -> bool:
        """Unknown here; the upload record decides."""
        return True

    def remove(self, file: str) -> None:
        """Not supported."""


class Upload:
    """Uploads files of a local folder, `last` as the last one; files that have arrived are not uploaded again."""

    def __init__(self, folder: Path, url: str, done: Path, last: str = MANIFEST) -> None:
        """Check the address and the bucket.

        Args:
            folder: the local folder.
            url: such as `s3://bucket/prefix`.
            done: a folder for notes on what has arrived.
            last: the file without which nothing at the address looks complete.

        Raises:
            ConfigError: an invalid address, or a bucket that does not exist or is not accessible.
        """
        address = parse_address(url, "--out")
        self.url = str(address)
        self._folder = folder
        self._done = done
        self._last = last
        with _config_errors(self.url):
            target = S3Target if address.scheme == "s3" else StreamingTarget
            self._target: Target = target(folder, address)

    def send_all(self, files: Sequence[str]) -> Iterator[str]:
        """Upload the files that are not there yet, in this order; yields each file's path within the folder.

        An earlier `last` is deleted first (in S3), so that shards of two builds never look like one complete build.
        """
        sha256 = {file: sha256_file(self._folder / file) for file in files}
        missing = {file for file in files if not self._has(file, sha256[file])}
        if missing:
            with _config_errors(self.url):
                self._target.remove(self._last)
            missing.add(self._last)
        for file in files:
            if file in missing:
                self._note(file).unlink(missing_ok=True)
                with _config_errors(self.url):
                    self._target.send(file)
                write_json(self._note(file), sha256[file])
            yield file

    def _note(self, file: str) -> Path:
        return self._done / digest([self.url, file])

    def _has(self, file: str, sha256: str) -> bool:
        """Whether the last upload of the file had these bytes, and it still has its size there (in S3)."""
        try:
            uploaded = read_json(self._note(file))
        except DataError:
            return False
        return uploaded == sha256 and self._target.has(file, (self._folder / file).stat().st_size)


class Download:
    """Downloads files below an address, with one client for all of them."""

    def __init__(self, url: str) -> None:
        """Raises `ConfigError` for an address that is invalid or needs a package that is not installed."""
        self.url = str(parse_address(url, "folder"))
        try:
            self._downloader: Any = downloader_for(self.url, ATTEMPTS)
        except Exception as error:  # each provider has its own exceptions
            raise ConfigError(f"cannot read from {self.url} ({describe(error)})") from None

    def fetch(self, file: str, target: Path) -> Path:
        """Download `file`, a path below the address, to `target`. Raises `DataError` where it cannot be read."""
        target.unlink(missing_ok=True)
        remote = f"{self.url}/{file}"
        try:
            self._downloader.download(remote, str(target))
        except ConfigError:
            raise
        except Exception as error:  # each provider has its own exceptions
            raise DataError(f"{remote} cannot be read ({describe(error)})") from None
        return target


@contextmanager
def _config_errors(url: str) -> Iterator[None]:
    try:
        yield
    except ConfigError:
        raise
    except ImportError as error:
        raise ConfigError(f"writing to {url} needs a package that is missing: {describe(error)}") from None
    except Exception as error:  # each provider has its own exceptions
        endpoint = os.environ.get("S3_ENDPOINT_URL")
        at = f" at {endpoint}" if endpoint and url.startswith("s3://") else ""
        raise ConfigError(
            f"cannot write to {url}{at} ({describe(error)}); check that the bucket exists and the credentials fit"
        ) from None

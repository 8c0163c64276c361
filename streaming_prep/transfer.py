"""Prepared folders in object storage, through Streaming's uploader and downloader (S3_ENDPOINT_URL and so on)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.files import digest, sha256_file, write_json
from elc_composer.prepared.layout import MANIFEST


def is_remote(place: str | Path) -> bool:
    """Whether `place` is a URL such as s3://bucket/prefix, or dbfs:/Volumes/... as Streaming has it."""
    return "://" in str(place) or str(place).startswith("dbfs:/")


class Upload:
    """Copies files of a local folder to a URL, `last` last; what has arrived is not sent again."""

    def __init__(self, folder: Path, url: str, done: Path, last: str = MANIFEST) -> None:
        """Raises `ConfigError` where the bucket is not there or not open to us.

        Args:
            done: a folder that notes what has arrived.
            last: the file without which nothing there looks whole.
        """
        from streaming.base.storage.upload import CloudUploader

        self.url = url.rstrip("/")
        self._folder = folder
        self._done = done
        self._last = last
        with _clear_errors(self.url):
            self._uploader: Any = CloudUploader.get((str(folder), self.url), keep_local=True, exist_ok=True)

    def send_all(self, files: Sequence[str]) -> Iterator[str]:
        """Copy the files, paths within the folder, in this order, all but those that are there; yields each one.

        An earlier `last` is taken away first (on s3), so that shards of two builds never look like one whole.
        """
        sha256 = {file: sha256_file(self._folder / file) for file in files}
        missing = {file for file in files if not self._has(file, sha256[file])}
        if missing:
            self._withdraw_last()
            missing.add(self._last)
        for file in files:
            if file in missing:
                self._note(file).unlink(missing_ok=True)
                with _clear_errors(self.url):
                    self._uploader.upload_file(file)
                write_json(self._note(file), sha256[file])
            yield file

    def _note(self, file: str) -> Path:
        return self._done / digest([self.url, file])

    def _has(self, file: str, sha256: str) -> bool:
        """Whether these very bytes were the last that went there, and (on s3) something of their size still is."""
        try:
            if json.loads(self._note(file).read_bytes()) != sha256:
                return False
        except (FileNotFoundError, ValueError):
            return False
        if not self.url.startswith("s3://"):
            return True
        try:
            found = self._uploader.s3.head_object(**self._place(file))
        except Exception:  # not there, or not to be seen: sending it again does no harm
            return False
        return found["ContentLength"] == (self._folder / file).stat().st_size

    def _withdraw_last(self) -> None:
        if self.url.startswith("s3://"):
            with _clear_errors(self.url):
                self._uploader.s3.delete_object(**self._place(self._last))

    def _place(self, file: str) -> dict[str, str]:
        parsed = urlparse(self.url)
        return {"Bucket": parsed.netloc, "Key": f"{parsed.path.lstrip('/')}/{file}".lstrip("/")}


class Download:
    """Fetches files below a URL, with one client for all of them."""

    def __init__(self, url: str) -> None:
        from streaming.base.storage.download import CloudDownloader

        self.url = url.rstrip("/")
        try:
            self._downloader: Any = CloudDownloader.get(self.url)
        except Exception as error:  # every provider has its own
            raise ConfigError(f"cannot read from {url} ({_first_line(error)})") from None

    def fetch(self, file: str, target: Path) -> Path:
        """Download `file`, a path below the URL, to `target`. Raises `DataError` where it is not there."""
        target.unlink(missing_ok=True)
        remote = f"{self.url}/{file}"
        try:
            self._downloader.download(remote, str(target))
        except Exception as error:  # every provider has its own
            raise DataError(f"{remote} cannot be read ({_first_line(error)})") from None
        return target


@contextmanager
def _clear_errors(url: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"writing to {url} needs a package that is missing: {error}") from None
    except Exception as error:  # every provider has its own
        endpoint = os.environ.get("S3_ENDPOINT_URL")
        at = f" at {endpoint}" if endpoint and url.startswith("s3://") else ""
        raise ConfigError(
            f"cannot write to {url}{at} ({_first_line(error)}); see that the bucket is there and the credentials fit"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

"""Fetching from object storage: how long a connection may be silent, and which failures are worth waiting for."""

from __future__ import annotations

import errno
import logging
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from streaming.base.storage.download import CloudDownloader, S3Downloader

from elc_composer.common.errors import DataError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

CONNECT_SECONDS = 10.0
"""To open a connection: a server that is there takes milliseconds."""
START_PATIENCE = 30.0
"""Seconds for which a run that starts waits for storage: a wrong address should not take minutes to be told."""
LONGEST_PAUSE = 15.0
"""Seconds between two attempts, at most."""
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError"}
_NOT_THERE = {"400", "401", "403", "404", "AccessDenied", "InvalidAccessKeyId", "NoSuchBucket", "NoSuchKey"}


class Unreachable(DataError):
    """Storage that does not answer as it should, though it may later."""


class PatientS3Downloader(S3Downloader):
    """Streaming's S3 downloader, with a client that gives a silent connection up after `timeout` seconds.

    A process that was forked makes its own client: two that read from one inherited connection get each other's bytes.
    """

    _process: int | None = None

    def _download_file_impl(self, remote: str, local: str, timeout: float) -> None:
        if self._process != os.getpid():
            self._s3_client, self._process = None, os.getpid()
        super()._download_file_impl(remote, local, timeout)

    def _create_s3_client(self, unsigned: bool = False, timeout: float = 60.0) -> Any:
        from boto3.session import Session
        from botocore import UNSIGNED
        from botocore.config import Config

        if unsigned and self._s3_client is not None and self._s3_client.meta.config.signature_version is UNSIGNED:
            # Streaming asks anew without credentials where the answer is 400, and would do so for ever.
            raise PermissionError("the server answers 400 (Bad Request), with credentials and without")
        session = Session()
        # A public bucket needs no credentials; where there are none, boto would refuse before it asks.
        unsigned = unsigned or session.get_credentials() is None
        config = Config(
            connect_timeout=min(timeout, CONNECT_SECONDS),
            read_timeout=timeout,
            retries={"mode": "standard", "total_max_attempts": 2},
            **({"signature_version": UNSIGNED} if unsigned else {}),
        )
        self._s3_client = session.client("s3", config=config, endpoint_url=os.environ.get("S3_ENDPOINT_URL"))


def downloader_for(remote: str | None) -> CloudDownloader:
    """Streaming's downloader for an address, ours for S3."""
    return PatientS3Downloader() if remote is not None and remote.startswith("s3://") else CloudDownloader.get(remote)


def reason_of(error: BaseException) -> str:
    """An exception in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def is_disk_full(error: BaseException) -> bool:
    """Whether what went wrong, or what led to it, is a full disk or quota here."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        found = found.__cause__ or found.__context__
    return False


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later: not where the answer is that there is nothing, or not for us."""
    if isinstance(error, (FileNotFoundError, PermissionError, ImportError, ValueError)):
        return False
    if type(error).__name__ in _NO_CREDENTIALS:
        return False
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):
        return str(answer.get("Error", {}).get("Code")) not in _NOT_THERE
    return True


def patiently(attempt: Callable[[], Result], seconds: float) -> Result:
    """The result of `attempt`, begun again with growing pauses while it raises `Unreachable`, for `seconds` at most.

    Raises:
        Unreachable: what the last attempt raised.
    """
    began, pause = time.monotonic(), 0.5
    while True:
        try:
            return attempt()
        except Unreachable as error:
            left = began + seconds - time.monotonic()
            if left <= 0:
                raise Unreachable(f"{error} (tried for {time.monotonic() - began:.0f} s)") from error
            log.warning("%s; trying again for %.0f s", error, left)
            # Ranks and workers that failed together do not come back together.
            time.sleep(min(pause * random.uniform(0.7, 1.3), left))
            pause = min(2 * pause, LONGEST_PAUSE)


def fetch(address: str, *, timeout: float = 30.0, patience: float = START_PATIENCE) -> bytes:
    """A small file of object storage.

    Args:
        address: such as `s3://bucket/prefix/index.json`.
        timeout: seconds without a byte after which a connection is given up.
        patience: seconds for which storage that does not answer as it should is asked again.

    Raises:
        Unreachable: where it does not answer.
        DataError: where it answers that there is no such file, or not for us.
    """

    def attempt() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "file")
            try:
                downloader_for(address).download(address, str(path), timeout)
                return path.read_bytes()
            except Exception as error:
                kind = Unreachable if may_pass(error) else DataError
                raise kind(reason_of(error)) from error

    return patiently(attempt, patience)

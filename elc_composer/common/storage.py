"""Reading from object storage: which failures may be retried, for how long, and the downloader for each scheme.

Retries happen at two levels. boto3 repeats single requests (common/s3.py). `retry` repeats a whole operation for
minutes: training waits for a shard for `data.outage_tolerance` seconds, longer than boto3's backoff can last, since a
run on many machines should survive an outage of the storage. A download that `retry` repeats gives boto3 two attempts.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError, NoCredentialsError, ParamValidationError, PartialCredentialsError
from streaming.base.storage.download import CloudDownloader, S3Downloader

from elc_composer.common.addresses import parse_address
from elc_composer.common.errors import DataError, one_line
from elc_composer.common.redaction import hide_logins
from elc_composer.common.s3 import s3_client

log = logging.getLogger(__name__)

Result = TypeVar("Result")

START_PATIENCE = 30.0
"""Seconds for which a starting run retries; short, so that a wrong address is reported soon."""
LONGEST_PAUSE = 15.0
"""Seconds between two attempts, at most."""
_PERMANENT = (
    FileNotFoundError,
    PermissionError,
    ImportError,
    ValueError,
    NoCredentialsError,
    PartialCredentialsError,
    ParamValidationError,
)
_TRANSIENT_STATUS = (408, 429)
_TRANSIENT_CODES = ("RequestTimeout", "SlowDown", "Throttling", "ThrottlingException")
_NOT_FOUND = ("404", "NoSuchBucket", "NoSuchKey")
_DENIED = ("401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch")


class Unreachable(DataError):
    """A transient storage failure; retrying may help."""


class OneTryS3Downloader(S3Downloader):
    """Streaming's S3 downloader with our client; `Stream` and `retry` repeat what fails.

    Replaces `_download_file_impl` of mosaicml-streaming 0.13.0, which keeps one client across a fork (two processes
    then read each other's bytes from the inherited connection), repeats a request without end where the answer is 400
    with and without credentials, waits for a connection without a time limit, and cuts a key at `#` or `?`.

    Args:
        attempts: attempts of each request by boto3.
    """

    def __init__(self, attempts: int) -> None:
        super().__init__()
        self._attempts = attempts
        self._process: int | None = None

    def _download_file_impl(self, remote: str, local: str, timeout: float, signed: bool = True) -> None:
        address = parse_address(remote, "remote")
        if self._process != os.getpid() or self._s3_client is None:
            self._s3_client = s3_client(timeout=timeout, attempts=self._attempts, read_only=True, signed=signed)
            self._process = os.getpid()
        payer = {"RequestPayer": "requester"} if address.bucket in self._requester_pays_buckets else {}
        config = TransferConfig(use_threads=False)
        try:
            self._s3_client.download_file(address.bucket, address.prefix, local, ExtraArgs=payer, Config=config)
        except ClientError as error:
            code = _code(error)
            if code == "400" and signed:
                # A public bucket refuses credentials that are out of date.
                self._s3_client = None
                self._download_file_impl(remote, local, timeout, signed=False)
            elif code == "400":
                raise PermissionError("the server answers 400 (Bad Request), with credentials and without") from error
            elif code in _NOT_FOUND:
                raise FileNotFoundError(f"{remote} not found ({code})") from error
            elif code in _DENIED:
                raise PermissionError(f"{remote} not found or access denied ({code})") from error
            else:
                raise


def downloader_for(remote: str | None, attempts: int = 2) -> CloudDownloader:
    """The downloader for an address: ours for S3, else Streaming's; None or a folder: one that copies files.

    Args:
        remote: the address.
        attempts: attempts of each S3 request by boto3; the default suits callers that retry.
    """
    is_s3 = remote is not None and remote.startswith("s3://")
    return OneTryS3Downloader(attempts) if is_s3 else CloudDownloader.get(remote)


def describe(error: BaseException) -> str:
    """An exception in one line, without user names or passwords of addresses."""
    return hide_logins(one_line(error))


def is_disk_full(error: BaseException) -> bool:
    """Whether a full local disk or quota is the cause of the error."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        found = found.__cause__ or found.__context__
    return False


def is_transient(error: BaseException) -> bool:
    """Whether a retry may help. Not for 'not found', 'access denied', invalid requests or a full local disk."""
    if isinstance(error, _PERMANENT) or is_disk_full(error):
        return False
    if isinstance(error, Boto3Error) and (cause := error.__cause__ or error.__context__) is not None:
        # boto3's upload_file raises S3UploadFailedError while it handles the server's answer.
        return is_transient(cause)
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or status in _TRANSIENT_STATUS or _code(error) in _TRANSIENT_CODES
    return True


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code"))


def retry(attempt: Callable[[], Result], seconds: float) -> Result:
    """The result of `attempt`, repeated with growing pauses while it raises `Unreachable`, for `seconds` at most.

    Raises:
        Unreachable: by the last attempt.
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
            # Jitter, so that ranks and workers do not retry at the same moment.
            time.sleep(min(pause * random.uniform(0.7, 1.3), left))
            pause = min(2 * pause, LONGEST_PAUSE)


def fetch(address: str, *, timeout: float = 30.0, patience: float = START_PATIENCE) -> bytes:
    """The content of a small file in object storage.

    Args:
        address: such as `s3://bucket/prefix/index.json`.
        timeout: seconds without a byte after which a connection is closed.
        patience: seconds for which a transient failure is retried.

    Raises:
        ConfigError: an address that is invalid.
        Unreachable: a transient failure that lasted.
        DataError: no such file, or no access to it.
    """
    parse_address(address, "remote")

    def attempt() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "file")
            try:
                downloader_for(address).download(address, str(path), timeout)
                return path.read_bytes()
            except Exception as error:
                kind = Unreachable if is_transient(error) else DataError
                raise kind(describe(error)) from error

    return retry(attempt, patience)

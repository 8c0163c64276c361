"""The S3 client and the retry policy: which failures are retried, by whom, and how a client is made."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore import UNSIGNED
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)

from elc_composer.common import storage
from elc_composer.common.addresses import Address
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.s3 import S3Prefix, s3_client
from elc_composer.common.storage import Unreachable, describe, fetch, is_transient, retry


def answer(status: int, code: str) -> ClientError:
    response = {"Error": {"Code": code, "Message": "x"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "GetObject")  # type: ignore[arg-type]


def upload_failure(cause: Exception) -> Exception:
    """As boto3 raises it: while it handles the answer, without `from`."""
    try:
        try:
            raise cause
        except Exception:
            raise S3UploadFailedError("Failed to upload a to b: c")  # noqa: B904
    except S3UploadFailedError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        answer(500, "InternalError"),
        answer(503, "SlowDown"),
        answer(503, "503"),
        answer(429, "TooManyRequests"),
        answer(400, "RequestTimeout"),
        EndpointConnectionError(endpoint_url="http://x"),
        ConnectTimeoutError(endpoint_url="http://x"),
        ReadTimeoutError(endpoint_url="http://x"),
        ConnectionResetError(),
        upload_failure(answer(503, "SlowDown")),
        RuntimeError("another provider's own"),
    ],
)
def test_transient_failures(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        answer(404, "NoSuchKey"),
        answer(404, "404"),
        answer(403, "AccessDenied"),
        answer(403, "SignatureDoesNotMatch"),
        answer(400, "400"),
        answer(400, "InvalidBucketName"),
        answer(301, "PermanentRedirect"),
        NoCredentialsError(),
        FileNotFoundError(),
        PermissionError(),
        OSError(errno.ENOSPC, "No space left on device"),
        upload_failure(answer(403, "AccessDenied")),
        upload_failure(OSError(errno.ENOSPC, "No space left on device")),
        ConfigError("an invalid address"),
    ],
)
def test_lasting_failures(error: Exception) -> None:
    assert not is_transient(error)


@pytest.fixture
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials, neither in the environment nor in files, nor from an instance."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("S3_ENDPOINT_URL", raising=False)


def test_a_client(no_account: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:1")
    client = s3_client(timeout=3.0, attempts=5)
    assert client.meta.endpoint_url == "http://127.0.0.1:1"
    config = client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (3.0, 3.0)
    assert config.retries == {"mode": "standard", "total_max_attempts": 5}
    assert s3_client(timeout=60.0).meta.config.connect_timeout == 10.0


def test_reading_needs_no_credentials_and_writing_does(no_account: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert s3_client(read_only=True).meta.config.signature_version is UNSIGNED
    assert s3_client().meta.config.signature_version is not UNSIGNED
    with pytest.raises(NoCredentialsError):
        S3Prefix(Address("s3", "bucket", "")).check_bucket()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert s3_client(read_only=True).meta.config.signature_version is not UNSIGNED


def test_retry_lasts_as_long_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(storage.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(storage.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    def attempt() -> str:
        if now[0] < back:
            raise Unreachable("no answer")
        return "found"

    back = 99.0
    assert retry(attempt, 100.0) == "found"
    now[0], back = 0.0, 1000.0
    with pytest.raises(Unreachable, match=r"^no answer \(tried for 100 s\)$"):
        retry(attempt, 100.0)


def test_messages_hold_no_password() -> None:
    error = EndpointConnectionError(endpoint_url="http://user:hunter2@host/x")
    assert "hunter2" not in describe(error)


def test_fetch_tells_a_missing_file_from_a_failing_server(
    no_account: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(Unreachable, match="Could not connect"):
        fetch("s3://bucket/x", patience=0.0)
    with pytest.raises(ConfigError, match="contains '#'"):
        fetch("s3://bucket/x#1")
    assert issubclass(Unreachable, DataError)

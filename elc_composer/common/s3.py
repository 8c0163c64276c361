"""Access to S3 with boto3: the one place that makes a client, and the objects below one prefix.

`S3_ENDPOINT_URL` names another server than Amazon's; credentials and region are found by boto3 (environment, `~/.aws`,
instance role). boto3's "standard" mode retries each request that fails with a connection error, a timeout, a 5xx or a
throttling answer, with exponential backoff of at most 20 seconds. `common/storage.py` retries for longer.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from boto3.session import Session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from elc_composer.common.addresses import Address
from elc_composer.common.errors import ConfigError, one_line
from elc_composer.common.redaction import hide_logins

CONNECT_SECONDS = 10.0
"""Time limit for opening a connection; a server that is up takes milliseconds."""
ATTEMPTS = 8
"""Attempts of each request: about half a minute of failures before it counts as failed."""
S3_ERRORS = (BotoCoreError, ClientError, Boto3Error, OSError)
"""Everything that a method of `S3Prefix` raises."""


def s3_client(*, timeout: float = 60.0, attempts: int = ATTEMPTS, read_only: bool = False, signed: bool = True) -> Any:
    """A boto3 client for S3.

    Args:
        timeout: seconds without a byte after which a connection is closed.
        attempts: attempts of each request, by boto3.
        read_only: read without credentials where there are none, as from a public bucket; without this, boto3 raises.
        signed: False ignores credentials.

    Raises:
        ConfigError: an endpoint or a boto3 configuration that is invalid.
    """
    endpoint = os.environ.get("S3_ENDPOINT_URL") or None
    if endpoint is not None and (hide_logins(endpoint) != endpoint or not endpoint.startswith(("http://", "https://"))):
        raise ConfigError(
            "S3_ENDPOINT_URL must be http://host:port or https://host:port, without a user name or password; give "
            "credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    try:
        session = Session()
        if read_only and session.get_credentials() is None:
            signed = False
        config = Config(
            connect_timeout=min(timeout, CONNECT_SECONDS),
            read_timeout=timeout,
            retries={"mode": "standard", "total_max_attempts": attempts},
            **({} if signed else {"signature_version": UNSIGNED}),
        )
        return session.client("s3", config=config, endpoint_url=endpoint)
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(
            f"no S3 client can be made ({hide_logins(one_line(error))}); check S3_ENDPOINT_URL, AWS_DEFAULT_REGION "
            "and ~/.aws"
        ) from error


class S3Prefix:
    """The objects below one prefix of a bucket, named relative to it. Methods raise `S3_ERRORS`.

    Args:
        address: bucket and prefix.
        threads: transfer the parts of a large file at the same time; without this, one core at most is busy.
    """

    def __init__(self, address: Address, *, threads: bool = False) -> None:
        self.address = address
        self.client = s3_client()
        self._transfer = TransferConfig(use_threads=threads)

    def check_bucket(self) -> None:
        """Raise a ClientError where the bucket does not exist or is not accessible."""
        self.client.head_bucket(Bucket=self.address.bucket)

    def sizes(self) -> dict[str, int]:
        """The size in bytes of every object below the prefix, by name."""
        prefix = self.address.key("")
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.address.bucket, Prefix=prefix)
        entries = [entry for page in pages for entry in page.get("Contents", [])]
        return {entry["Key"].removeprefix(prefix): entry["Size"] for entry in entries}

    def size(self, name: str) -> int:
        """The size in bytes of one object; a ClientError where it does not exist."""
        found = self.client.head_object(Bucket=self.address.bucket, Key=self.address.key(name))
        return int(found["ContentLength"])

    def download(self, name: str, file: Path) -> None:
        """Copy an object to a file, which appears when it is complete."""
        self.client.download_file(self.address.bucket, self.address.key(name), str(file), Config=self._transfer)

    def upload(self, file: Path, name: str) -> None:
        """Copy a file to an object; the environment variable `S3_CANNED_ACL` gives it an ACL, as in Streaming."""
        acl = os.environ.get("S3_CANNED_ACL")
        options = {"ExtraArgs": {"ACL": acl}} if acl else {}
        key = self.address.key(name)
        self.client.upload_file(str(file), self.address.bucket, key, Config=self._transfer, **options)

    def delete(self, name: str) -> None:
        """Delete an object; no error where it does not exist."""
        self.client.delete_object(Bucket=self.address.bucket, Key=self.address.key(name))

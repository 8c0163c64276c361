"""S3 on this machine: a moto server on the loopback, with a new bucket for each `local_s3()`.

moto has one in-memory backend per process that all its servers share, so tests must not share bucket names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
from moto.server import ThreadedMotoServer

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class LocalS3:
    """A running moto server with one bucket of its own, reached directly (not through a proxy)."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.bucket = f"bucket-{uuid4().hex}"
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            region_name="us-east-1",
        )
        self.client.create_bucket(Bucket=self.bucket)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a process finds the server."""
        return {**CREDENTIALS, "S3_ENDPOINT_URL": self.url}

    def address(self, prefix: str) -> str:
        return f"s3://{self.bucket}/{prefix}"

    def upload(self, folder: Path, prefix: str) -> str:
        """Copy every file of a folder; the `s3://` address of the copy."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.write(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return self.address(prefix)

    def read(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def write(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def keys(self, prefix: str) -> list[str]:
        listed = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return sorted(entry["Key"] for entry in listed.get("Contents", []))


@contextmanager
def local_s3() -> Iterator[LocalS3]:
    """A moto server on a free port of 127.0.0.1 while the context lasts."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield LocalS3(*server.get_host_and_port())
    finally:
        server.stop()

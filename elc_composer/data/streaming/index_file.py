"""A stream's index.json: fetched, held against manifest and cache, or why it is not there."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from streaming.base.format import get_index_basename

from elc_composer.common.addresses import is_address
from elc_composer.common.errors import DataError
from elc_composer.common.storage import Unreachable, fetch
from elc_composer.data.config import DataConfig
from elc_composer.data.paths import StreamPlace


def read_index(place: StreamPlace, config: DataConfig) -> dict[str, Any]:
    """What index.json holds.

    Raises:
        DataError: where it is not there, is damaged, or the cache was filled from another version of the data.
    """
    name = get_index_basename()
    if place.remote is None or not is_address(place.remote):
        folder = Path(place.remote or place.local)
        path = folder / place.split / name
        if not path.is_file():
            raise DataError(_what_is_missing(place, folder))
        content = path.read_bytes()
    else:
        try:
            content = fetch(f"{place.remote}/{place.split}/{name}", timeout=config.download_timeout)
        except DataError as error:
            kind = Unreachable if isinstance(error, Unreachable) else DataError
            raise kind(_what_is_missing_remotely(place, error, config.download_timeout)) from error
    try:
        index = json.loads(content)
    except ValueError as error:
        raise DataError(f"{place.source}/{name} is not JSON ({error}): prepare the data again.") from error
    if not isinstance(index, dict):
        raise DataError(f"{place.source}/{name} is not an index of shards: prepare the data again.")
    _check_against_manifest(place, content, config)
    cached = Path(place.local, place.split, name)
    if place.remote is not None and cached.is_file() and cached.read_bytes() != content:
        raise DataError(
            f"the cache {cached.parent} was filled from another version of {place.source}: delete it, or name another "
            "folder in data.streams: local."
        )
    return index


def _check_against_manifest(place: StreamPlace, content: bytes, config: DataConfig) -> None:
    root, _, folder = (place.remote or place.local).rpartition("/")
    output = _manifest_outputs(root, config.download_timeout).get(f"{folder}/{place.split}")
    expected = output.get("index_sha256") if isinstance(output, dict) else None
    if expected is not None and hashlib.sha256(content).hexdigest() != expected:
        raise DataError(
            f"{place.source}/index.json is damaged: its sha256 is not the manifest's. Upload or prepare the data again."
        )


def _manifest_outputs(root: str, timeout: float) -> dict[str, Any]:
    """What a manifest says was written, nothing where there is none: data may be prepared by other means."""
    try:
        if is_address(root):
            content = fetch(f"{root}/manifest.json", timeout=timeout)
        else:
            content = Path(root, "manifest.json").read_bytes()
        outputs = json.loads(content)["outputs"]
    except Unreachable:
        raise
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return outputs if isinstance(outputs, dict) else {}


def _what_is_missing(place: StreamPlace, folder: Path) -> str:
    root = folder.parent
    if not root.is_dir():
        return f"the data folder {root} does not exist: write it with `python -m streaming_prep build --out {root}`."
    if not folder.is_dir():
        there = sorted(int(m[1]) for path in root.glob("seq_*") if (m := re.fullmatch(r"seq_(\d+)", path.name)))
        return _not_prepared(str(root), folder.name, there)
    splits = sorted(path.parent.name for path in folder.glob("*/" + get_index_basename()))
    return f"{folder} has no split {place.split!r}, but {', '.join(splits) or 'none'}: prepare it, or name another."


def _what_is_missing_remotely(place: StreamPlace, reason: Exception, timeout: float) -> str:
    root, _, folder = (place.remote or "").rpartition("/")
    outputs = {} if isinstance(reason, Unreachable) else _manifest_outputs(root, timeout)
    if not outputs:
        return f"cannot read {place.source} ({reason}): check address, credentials and S3_ENDPOINT_URL."
    there = sorted({int(m[1]) for name in outputs if (m := re.fullmatch(r"seq_(\d+)/.*", name))})
    if f"{folder}/{place.split}" in outputs:
        return f"{root}/manifest.json names {folder}/{place.split}, but it cannot be read ({reason}): upload it again."
    if any(name.startswith(folder + "/") for name in outputs):
        return f"{place.remote} has no split {place.split!r}: prepare it, or name another."
    return _not_prepared(root, folder, there)


def _not_prepared(root: str, folder: str, there: list[int]) -> str:
    length = folder.removeprefix("seq_")
    names = ", ".join(map(str, there)) or "none"
    return (
        f"{root} is not prepared for a sequence length of {length}, but for {names}: "
        f"run streaming_prep with `--seq-length {length}`, or change the stages."
    )

"""Reads the `index.json` of a stream and checks it against the manifest and the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from streaming.base.format import get_index_basename

from elc_composer.common.addresses import is_address
from elc_composer.common.errors import DataError, one_line
from elc_composer.common.json_files import parse_json, read_json
from elc_composer.common.storage import Unreachable, fetch
from elc_composer.data.config import DataConfig
from elc_composer.data.paths import StreamPlace
from elc_composer.prepared.layout import MANIFEST, parse_length_folder, sequence_lengths


def read_index(place: StreamPlace, config: DataConfig) -> dict[str, Any]:
    """The content of index.json.

    Raises:
        Unreachable: a transient storage failure.
        DataError: a missing or damaged index, or a cache that was filled from another version of the data.
    """
    name = get_index_basename()
    content = _read_remote(place, config) if _is_in_storage(place) else _read_local(place)
    index = parse_json(content, f"{place.source}/{name}")
    if not isinstance(index, dict):
        raise DataError(f"{place.source}/{name} is not an index of shards: prepare the data again.")
    _check_against_manifest(place, content, config)
    cached = Path(place.local, place.split, name)
    if place.remote is not None and cached.is_file() and cached.read_bytes() != content:
        raise DataError(
            f"the cache {cached.parent} was filled from another version of {place.source}: delete it, or set another "
            "folder in data.streams: local."
        )
    return index


def _is_in_storage(place: StreamPlace) -> bool:
    return place.remote is not None and is_address(place.remote)


def _read_local(place: StreamPlace) -> bytes:
    folder = Path(place.remote or place.local)
    path = folder / place.split / get_index_basename()
    if not path.exists():
        raise DataError(_missing_locally(place, folder))
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or one_line(error)})") from None


def _read_remote(place: StreamPlace, config: DataConfig) -> bytes:
    try:
        return fetch(f"{place.source}/{get_index_basename()}", timeout=config.download_timeout)
    except DataError as error:
        kind = Unreachable if isinstance(error, Unreachable) else DataError
        raise kind(_missing_remotely(place, error, config.download_timeout)) from error


def _check_against_manifest(place: StreamPlace, content: bytes, config: DataConfig) -> None:
    root, _, folder = (place.remote or place.local).rpartition("/")
    output = _manifest_outputs(root, config.download_timeout).get(f"{folder}/{place.split}")
    expected = output.get("index_sha256") if isinstance(output, dict) else None
    if expected is not None and hashlib.sha256(content).hexdigest() != expected:
        raise DataError(
            f"{place.source}/index.json is damaged: its sha256 is not the manifest's. Upload or prepare the data again."
        )


def _manifest_outputs(root: str, timeout: float) -> dict[str, Any]:
    """The outputs that a manifest lists; empty without a readable one, since data may be prepared by other means."""
    try:
        if is_address(root):
            address = f"{root}/{MANIFEST}"
            manifest = parse_json(fetch(address, timeout=timeout), address)
        else:
            manifest = read_json(Path(root, MANIFEST))
    except Unreachable:
        raise
    except DataError:
        return {}
    outputs = manifest.get("outputs") if isinstance(manifest, dict) else None
    return outputs if isinstance(outputs, dict) else {}


def _missing_locally(place: StreamPlace, folder: Path) -> str:
    root = folder.parent
    if not root.is_dir():
        return f"the data folder {root} does not exist: write it with `python -m streaming_prep build --out {root}`."
    if not folder.is_dir():
        names = [f"{path.name}/-" for path in root.iterdir()]
        return _not_prepared(str(root), folder.name, sequence_lengths(names))
    splits = sorted(path.parent.name for path in folder.glob("*/" + get_index_basename()))
    return f"{folder} has no split {place.split!r}, but {', '.join(splits) or 'none'}: prepare it, or set another."


def _missing_remotely(place: StreamPlace, reason: Exception, timeout: float) -> str:
    root, _, folder = (place.remote or "").rpartition("/")
    outputs = {} if isinstance(reason, Unreachable) else _manifest_outputs(root, timeout)
    if not outputs:
        return f"cannot read {place.source} ({reason}): check address, credentials and S3_ENDPOINT_URL."
    name = f"{folder}/{place.split}"
    if name in outputs:
        return f"{root}/{MANIFEST} lists {name}, but it cannot be read ({reason}): upload it again."
    if any(each.startswith(folder + "/") for each in outputs):
        return f"{place.remote} has no split {place.split!r}: prepare it, or set another."
    return _not_prepared(root, folder, sequence_lengths(outputs))


def _not_prepared(root: str, folder: str, found: list[int]) -> str:
    length = parse_length_folder(folder)
    names = ", ".join(map(str, found)) or "none"
    return (
        f"{root} is not prepared for a sequence length of {length}, but for {names}: "
        f"run streaming_prep with `--seq-length {length}`, or change the stages."
    )

"""Read and check the manifest.json of a prepared folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from elc_composer.common.errors import DataError
from elc_composer.common.json_files import parse_json
from elc_composer.prepared.layout import MANIFEST, parse_dataset_name
from streaming_prep.manifest import FORMAT_VERSION, Manifest, OutputEntry, ShardEntry, SourceEntry, TokenizerEntry
from streaming_prep.work_folder import WORK

Entry = TypeVar("Entry")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a local prepared folder.

    Raises:
        DataError: no prepared folder, an unfinished build, or a damaged manifest.
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(_why_missing(folder)) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check its permissions") from None
    return parse_manifest(content, str(path))


def parse_manifest(content: bytes, source: str) -> Manifest:
    """Check and parse the bytes of a manifest.

    Args:
        source: its path or address, for error messages.

    Raises:
        DataError: damaged, or of another format version.
    """
    try:
        value = _object(parse_json(content, source), "the content")
        version = value.get("format_version")
        if version != FORMAT_VERSION or isinstance(version, bool):
            found = f"format version {version}" if isinstance(version, int) else "no format version"
            raise DataError(f"{source} has {found}, this streaming_prep reads {FORMAT_VERSION}; rebuild the folder")
        return Manifest(
            inputs=_text(value, "inputs"),
            sources=_each(value, "sources", _source),
            tokenizer=_tokenizer(_object(value.get("tokenizer"), "tokenizer")),
            settings=_object(value.get("settings"), "settings"),
            outputs=_outputs(_object(value.get("outputs"), "outputs")),
            versions={name: str(version) for name, version in _object(value.get("versions"), "versions").items()},
        )
    except _Invalid as error:
        raise DataError(f"{source} is damaged ({error}); rebuild the folder") from None


def _why_missing(folder: Path) -> str:
    wanted = "give the folder that `python -m streaming_prep build --out` wrote"
    if not folder.exists():
        return f"{folder} does not exist; {wanted}"
    if not folder.is_dir():
        return f"{folder} is a file; {wanted}"
    for parent in list(folder.absolute().parents)[:2]:  # of seq_128/train or tokenizer
        if (parent / MANIFEST).is_file():
            return f"{folder} is a part of the prepared folder {parent}; give that one"
    rerun = f"rerun `python -m streaming_prep build --corpus DIR --out {folder}`"
    if (folder / WORK).is_dir():
        return f"{folder} holds no {MANIFEST}: the build did not finish; {rerun} with the same settings to resume"
    return f"{folder} holds no {MANIFEST}: not a prepared folder, or the build did not finish; {rerun}"


class _Invalid(ValueError):
    """A value of the manifest has the wrong type or range."""


def _source(row: dict[str, Any]) -> SourceEntry:
    return SourceEntry(
        corpus=_text(row, "corpus"),
        split=_text(row, "split"),
        file=_text(row, "file"),
        cleaner=_text(row, "cleaner"),
        sha256=_text(row, "sha256"),
        bytes=_count(row, "bytes"),
        words=_count(row, "words"),
        sentences=_count(row, "sentences"),
        documents=_count(row, "documents"),
        tokens=_count(row, "tokens"),
    )


def _tokenizer(row: dict[str, Any]) -> TokenizerEntry:
    file = PurePosixPath(_text(row, "file"))
    if file.is_absolute() or ".." in file.parts:
        raise _Invalid(f"tokenizer.file is {str(file)!r}, expected a path within the folder")
    return TokenizerEntry(str(file), _text(row, "sha256"), _count(row, "vocab_size"))


def _outputs(rows: dict[str, Any]) -> dict[str, OutputEntry]:
    if not rows:
        raise _Invalid("outputs is empty")
    for name in rows:
        if parse_dataset_name(name) is None:
            raise _Invalid(f"outputs has the name {name!r}, expected seq_<length>/<split>")
    return {name: _output(_object(row, f"outputs.{name}")) for name, row in rows.items()}


def _output(row: dict[str, Any]) -> OutputEntry:
    return OutputEntry(
        samples=_count(row, "samples"),
        tokens=_count(row, "tokens"),
        source_tokens=_count(row, "source_tokens"),
        utilisation=_share(row, "utilisation"),
        duplication=_share(row, "duplication"),
        dropped=_share(row, "dropped"),
        column_dtype=_text(row, "column_dtype"),
        index_sha256=_text(row, "index_sha256"),
        shards=_each(row, "shards", _shard),
    )


def _shard(row: dict[str, Any]) -> ShardEntry:
    file = _text(row, "file")
    if file in ("", ".", "..") or "/" in file or "\\" in file:
        raise _Invalid(f"a shard's file is {file!r}, expected a plain file name")
    return ShardEntry(file, _text(row, "sha256"), _count(row, "bytes"), _count(row, "samples"))


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Invalid(f"{name} is not a JSON object")
    return value


def _each(row: dict[str, Any], key: str, parse: Callable[[dict[str, Any]], Entry]) -> list[Entry]:
    rows = row.get(key)
    if not isinstance(rows, list):
        raise _Invalid(f"{key} is not a list")
    return [parse(_object(each, f"an entry of {key}")) for each in rows]


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise _Invalid(f"{key} is not a string")
    return value


def _count(row: dict[str, Any], key: str) -> int:
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _Invalid(f"{key} is not a number of 0 or more")
    return value


def _share(row: dict[str, Any], key: str) -> float:
    value = row.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise _Invalid(f"{key} is not a finite number of 0 or more")
    return float(value)

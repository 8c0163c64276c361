"""Integrity check of a checkpoint, using the CRC32 checksums in torch's zip files.

torch writes no checksum for `.metadata`, the index of a sharded checkpoint; the saver writes its SHA-256 beside it.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

from elc_composer.checkpoints.allowed_classes import foreign_names
from elc_composer.checkpoints.sharded_metadata import read_metadata
from elc_composer.common.errors import DataError, one_line
from elc_composer.common.files import sha256_file

INDEX = ".metadata"
INDEX_SUM = ".metadata.sha256"
"""SHA-256 of the index of a sharded checkpoint, in a file beside it."""

_NO_ARCHIVE = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error)
"""Exceptions of Python's zip reader for damaged archives: a flipped bit can change a name, a method or a flag."""


def sum_index(folder: Path) -> None:
    """Write the SHA-256 of a sharded checkpoint's index beside it."""
    (folder / INDEX_SUM).write_text(sha256_file(folder / INDEX) + "\n")


def damage(path: Path) -> str | None:
    """Description of the damage of a checkpoint in a few words; None if it is whole.

    A full checkpoint is a zip archive with checksums. A sharded one is a folder: its `.metadata` (unpickled with an
    allow-list) lists the byte range of each part, and each part is a zip archive with checksums. An archive that
    holds classes or functions other than those of a run's state counts as damaged.
    """
    try:
        return _folder_damage(path) if path.is_dir() else _archive_damage(path)
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"


def _archive_damage(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except _NO_ARCHIVE:
        return "it is cut off or not a checkpoint"
    if broken is not None:
        return f"{broken} in it does not match its checksum"
    return _unreadable(path)


def _unreadable(archive: Path | io.BytesIO) -> str | None:
    # The zip directory has no checksum, and torch's reader checks it more strictly than Python's.
    try:
        foreign = foreign_names(archive)
    except Exception as error:  # a damaged archive can raise any exception
        return f"torch cannot read it ({one_line(error)[:100]})"
    if foreign:
        return f"it holds more than a run's state ({foreign[0]}); none of its code was executed"
    return None


def _folder_damage(folder: Path) -> str | None:
    if not (folder / INDEX).is_file():
        return f"its {INDEX} is missing"
    kept = folder / INDEX_SUM
    if kept.is_file() and kept.read_text(errors="replace").strip() != sha256_file(folder / INDEX):
        return f"its {INDEX} does not match its checksum"
    try:
        metadata = read_metadata(folder)
    except DataError as error:
        return str(error)
    parts: dict[str, list[tuple[int, int]]] = {}
    for info in (metadata.storage_data or {}).values():
        parts.setdefault(info.relative_path, []).append((info.offset, info.length))
    for name, places in sorted(parts.items()):
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        needed = max(offset + length for offset, length in places)
        if file.stat().st_size < needed:
            return f"{name} has {file.stat().st_size:,} of {needed:,} bytes"
        with file.open("rb") as content:
            for offset, length in places:
                content.seek(offset)
                part = content.read(length)
                if not _is_sound(part):
                    return f"{name} does not match its checksums"
                if problem := _unreadable(io.BytesIO(part)):
                    return f"{name}: {problem}"
    return None


def _is_sound(part: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(part)) as archive:
            return archive.testzip() is None
    except _NO_ARCHIVE:
        return False

"""Is a checkpoint all there? Every byte of it is checked, by the checksums that torch writes into its files.

The index of a sharded one has none by torch: the saver writes its SHA-256 beside it.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from pathlib import Path

from torch.serialization import get_unsafe_globals_in_checkpoint

from elc_composer.common.errors import DataError
from elc_composer.model_files.sharded_checkpoint import read_metadata

INDEX = ".metadata"
INDEX_SUM = ".metadata.sha256"
"""Beside the index of a sharded checkpoint: its SHA-256."""

_NO_ARCHIVE = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error)
"""What Python's reader raises for damaged archives; a bit may turn a name, a method or a flag into any other."""


def sum_index(folder: Path) -> None:
    """Write the SHA-256 of a sharded checkpoint's index beside it."""
    (folder / INDEX_SUM).write_text(_sum(folder / INDEX) + "\n")


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; None if it is whole.

    A full checkpoint is a zip archive whose members carry checksums. A sharded one is a folder: its `.metadata` (read
    by an allow-list, not unpickled freely) says which bytes of which file each part occupies, and each part is an
    archive with checksums again.
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
        return "it is cut off or no checkpoint at all"
    if broken is not None:
        return f"{broken} in it does not match its checksum"
    return _unreadable(path)


def _unreadable(path: Path) -> str | None:
    # The list of members has no checksum. torch's own reader is stricter about it than Python's; nothing is unpickled.
    try:
        get_unsafe_globals_in_checkpoint(path)
    except Exception as error:  # damaged archives raise anything
        return f"torch cannot read it ({' '.join(str(error).split())[:100]})"
    return None


def _folder_damage(folder: Path) -> str | None:
    if not (folder / INDEX).is_file():
        return f"its {INDEX} is not there"
    kept = folder / INDEX_SUM
    if kept.is_file() and kept.read_text(errors="replace").strip() != _sum(folder / INDEX):
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
            return f"{name} is not there"
        needed = max(offset + length for offset, length in places)
        if file.stat().st_size < needed:
            return f"{name} has {file.stat().st_size:,} of {needed:,} bytes"
        with file.open("rb") as content:
            for offset, length in places:
                content.seek(offset)
                if not _is_sound(content.read(length)):
                    return f"{name} does not match its checksums"
    return None


def _is_sound(part: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(part)) as archive:
            return archive.testzip() is None
    except _NO_ARCHIVE:
        return False


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

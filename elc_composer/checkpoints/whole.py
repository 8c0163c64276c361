"""Is a checkpoint all there? Every byte of it is checked, by the checksums that torch writes into its files."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from elc_composer.checkpoints.shards import read_metadata
from elc_composer.errors import DataError


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
    except (zipfile.BadZipFile, EOFError, NotImplementedError):
        return "it is cut off or no checkpoint at all"
    return None if broken is None else f"{broken} in it does not match its checksum"


def _folder_damage(folder: Path) -> str | None:
    if not (folder / ".metadata").is_file():
        return "its .metadata is not there"
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
    except (zipfile.BadZipFile, EOFError, NotImplementedError):
        return False

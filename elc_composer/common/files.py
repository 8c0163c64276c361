"""Files that are either whole or not there: written beside their place, flushed to the disk, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_READ_BYTES = 1 << 20


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` when the block ends, and leaves nothing there when it raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk does not say which file
            error.filename = str(path)
        raise
    fsync_folder(path.parent)


def temporary_name(path: Path) -> Path:
    """A name beside `path`; by chance, for the same job may run twice at a time: on two machines, or in an orphan."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def write_json(path: Path, value: Any) -> None:
    """`value` as sorted, indented JSON at `path`, atomically: equal values give equal bytes."""
    with atomic_file(path) as file:
        file.write((json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def place(source: Path, target: Path) -> None:
    """Let `target` be the same bytes as `source`, atomically: a hard link where the file system has them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):
        return
    temporary = temporary_name(target)
    try:
        os.link(source, temporary)
    except OSError:
        with atomic_file(target) as out, open(source, "rb") as file:
            while block := file.read(_READ_BYTES):
                out.write(block)
        return
    os.replace(temporary, target)
    fsync_folder(target.parent)


def fsync_folder(folder: Path) -> None:
    """Make renames within `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes, in constant memory."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def digest(value: Any) -> str:
    """Hexadecimal sha256 of a JSON-serializable value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

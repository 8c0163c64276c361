"""Atomic file writes: write to a temporary file, fsync, rename. Checksums of files and values."""

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
    """Open a binary file that replaces `path` when the block ends; if the block raises, `path` stays as it was."""
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
    """A random name beside `path`: two processes may write the same file at the same time."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to `path` atomically."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any, *, sort_keys: bool = True) -> None:
    """Write indented JSON to `path` atomically. Equal values give equal bytes. Read it back with `read_json`."""
    write_text(path, json.dumps(value, indent=2, sort_keys=sort_keys, ensure_ascii=False) + "\n")


def place(source: Path, target: Path) -> None:
    """Give `target` the bytes of `source` atomically, by a hard link if the file system supports it."""
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


def new_file_mode() -> int:
    """The mode of a new file: readable and writable but for what the process's umask withholds."""
    umask = os.umask(0o077)
    os.umask(umask)
    return 0o666 & ~umask


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

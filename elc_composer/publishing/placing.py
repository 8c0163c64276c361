"""Writes a folder beside its place and puts its files in place only after all of them are written and checked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from elc_composer.common.errors import DataError
from elc_composer.common.files import fsync_folder, new_file_mode, temporary_name

LAST = "config.json"
"""Without it, transformers takes a folder for no model: it is put in place last."""


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A new empty folder on the file system of `out`; it is removed when the block ends."""
    nearest = next((folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists()), Path("/"))
    if not nearest.is_dir():
        raise DataError(f"{nearest} is a file; give a folder")
    place = nearest.parent if nearest == out.absolute() and os.access(nearest.parent, os.W_OK) else nearest
    temporary = temporary_name(place / (out.name or "export"))
    folder = temporary / "model"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_in_place(staging: Path, out: Path) -> None:
    """Move the files of `staging` into `out`; files of the same names are replaced, others stay."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(staging.iterdir(), key=lambda path: (path.name == LAST, path.name)):
        os.replace(path, out / path.name)
    fsync_folder(out)


def make_readable(folder: Path) -> None:
    """Give files the mode that this process gives new files; safetensors makes its own readable by the owner only."""
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(new_file_mode())

"""Walk corpus folders: list the files that can be read as text, and those that look like text but are not read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from elc_composer.common.errors import DataError
from elc_composer.prepared.layout import MANIFEST, TOKENIZER, parse_length_folder

SPLITS = ("train", "dev")
PLAIN_FORMS = {".txt": "text", ".jsonl": "jsonl"}
"""File name suffixes of plain folders, with the form of their content."""
_OTHER_TEXT = (".valid", ".val", ".validation", ".text", ".tokens", ".md", ".html", ".xml")
_TABLES = (".json", ".jsonlines", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz", ".7z")
_TEXT_LIKE = {".train", ".dev", *PLAIN_FORMS, *_OTHER_TEXT, *_TABLES, *_COMPRESSED}
_ABOUT = ("readme", "license", "licence", "changelog", "citation")
"""Names of files about a corpus, which are not reported as unread."""
_LISTED = 8


def is_babylm(path: Path) -> bool:
    """True for `<corpus>.train` and `<corpus>.dev`."""
    return path.suffix[1:] in SPLITS and bool(path.stem)


def walk(folder: Path) -> Iterator[Path]:
    """All files below `folder`; follows links. Skips names that start with a dot and `__MACOSX`, as macOS writes them.

    Skips the files of a prepared folder too: `--out` may lie within the corpus folder. Yields nothing for a file.

    Raises:
        OSError: a folder cannot be read.
    """

    def stop(error: OSError) -> None:
        raise error

    if folder.is_file():
        return
    entered: set[tuple[int, int]] = set()
    # Path.rglob silently skips linked folders and folders without read permission.
    for place, folders, names in os.walk(folder, onerror=stop, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in entered:  # a link to a folder that contains it
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        prepared = MANIFEST in names and TOKENIZER in folders
        folders[:] = sorted(name for name in folders if not _is_hidden(name) and not (prepared and _is_output(name)))
        yield from (Path(place, name) for name in names if not _is_hidden(name) and not (prepared and _is_output(name)))


def readable_files(folder: Path) -> list[Path]:
    """The files below `folder` that `discover` may read, sorted.

    Raises:
        DataError: a file is a dangling link, or its name is not UTF-8.
    """
    found = []
    for path in walk(folder):
        if is_babylm(path) or path.suffix in PLAIN_FORMS:
            if path.is_symlink() and not path.exists():
                raise DataError(f"{path} is a dangling link; remove it or put the corpus there")
            if path.is_file():
                _check_name(path)
                found.append(path)
    return sorted(found)


def unread_files(folder: Path, read: set[Path]) -> list[Path]:
    """Files below `folder` that look like text but are not in `read`, sorted. BabyLM's `.test` files are not listed."""
    return sorted(path for path in walk(folder) if path not in read and _looks_like_text(path))


def name_files(paths: Sequence[Path]) -> str:
    """The first paths, separated by commas, and the number of the others."""
    more = f" and {len(paths) - _LISTED:,} more" if len(paths) > _LISTED else ""
    return ", ".join(_printable(path) for path in paths[:_LISTED]) + more


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_output(name: str) -> bool:
    return name in (MANIFEST, TOKENIZER) or parse_length_folder(name) is not None


def _looks_like_text(path: Path) -> bool:
    suffixes = {suffix.lower() for suffix in path.suffixes}
    about = path.name.lower().startswith(_ABOUT)
    # Any suffix counts: cbt.train.bak and cbt.train.part1 are text, too.
    return bool(suffixes & _TEXT_LIKE) and not about and path.is_file()


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(f"the name of {_printable(path)} is not UTF-8; rename it") from None


def _printable(path: Path) -> str:
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)

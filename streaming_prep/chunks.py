"""Source files cut into chunks of whole lines: the unit of parallel work, defined by the bytes of the file alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from elc_composer.errors import DataError
from streaming_prep.cleaners import Boundary

CHUNK_BYTES = 2 << 20
MAX_LINE_BYTES = 16 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Chunk:
    """Bytes [start, start + size) of a file; `first_line` is the number of its first line, from 1."""

    start: int
    size: int
    first_line: int
    sha256: str


@dataclass(frozen=True)
class Scan:
    """What one pass over a file finds: its digest, its size in bytes and where to cut it."""

    sha256: str
    bytes: int
    chunks: list[Chunk]


def scan(path: Path, boundary: Boundary, chunk_bytes: int = CHUNK_BYTES, max_line: int = MAX_LINE_BYTES) -> Scan:
    """Cut a file into chunks of at least `chunk_bytes` that end at a line end, or after a blank line.

    Raises `DataError` for a file that is missing, empty or holds a line of more than `max_line` bytes.
    """
    if not path.is_file():
        raise DataError(f"{path} is not there")
    whole = hashlib.sha256()
    chunks: list[Chunk] = []
    start, line = 0, 1
    with open(path, "rb") as file:
        while block := _read_chunk(file, boundary, chunk_bytes, max_line, f"{path}", line):
            whole.update(block)
            chunks.append(Chunk(start, len(block), line, hashlib.sha256(block).hexdigest()))
            start += len(block)
            line += block.count(b"\n")
    if not start:
        raise DataError(f"{path} is empty; remove it or put the corpus there")
    return Scan(whole.hexdigest(), start, chunks)


def _read_chunk(file: IO[bytes], boundary: Boundary, size: int, max_line: int, path: str, line: int) -> bytes:
    parts = [file.read(size)]
    at_end = len(parts[0]) < size
    _refuse_long_lines(parts[0], max_line, path, line)
    if not at_end:
        line += parts[0].count(b"\n")
        rest = file.readline(max_line + 1)
        if len(parts[0]) - (parts[0].rfind(b"\n") + 1) + len(rest) > max_line:
            raise _long_line(path, line, max_line)
        parts.append(rest)
        while boundary is Boundary.BLANK_LINE and rest.strip():
            line += 1
            rest = file.readline(max_line + 1)
            if len(rest) > max_line:
                raise _long_line(path, line, max_line)
            parts.append(rest)
    return b"".join(parts)


def _refuse_long_lines(block: bytes, max_line: int, path: str, line: int) -> None:
    if len(block) > max_line:
        for offset, text in enumerate(block.split(b"\n")):
            if len(text) > max_line:
                raise _long_line(path, line + offset, max_line)


def _long_line(path: str, line: int, max_line: int) -> DataError:
    return DataError(
        f"{path}:{line}: a line of more than {max_line:,} bytes is hardly text; "
        "break it into paragraphs, or raise --max-line-bytes"
    )


def read_lines(path: Path, chunk: Chunk, form: str, errors: str) -> list[str]:
    """The chunk's lines without line ends; for `jsonl` the lines of each row's `text`, a blank line after each row.

    Raises `DataError` naming file and line for bytes that are not UTF-8 (with `errors` "strict"; "replace" and
    "ignore" as for `bytes.decode`), for a row that is no JSON object with a `text`, and for a file that has changed.
    """
    with open(path, "rb") as file:
        file.seek(chunk.start)
        block = file.read(chunk.size)
    if hashlib.sha256(block).hexdigest() != chunk.sha256:
        raise DataError(f"{path} has changed while it was being read; run the same command again")
    if chunk.start == 0:
        block = block.removeprefix(_BOM)
    try:
        text = block.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        line = chunk.first_line + block.count(b"\n", 0, error.start)
        raise DataError(
            f"{path}:{line}: byte {block[error.start]:#04x} is not UTF-8; mend it, or give --errors replace or ignore"
        ) from None
    if form == "jsonl":
        return list(_rows(text, path, chunk.first_line))
    lines = re.split("\r\n|\r|\n", text)
    return lines[:-1] if not lines[-1] else lines


def _rows(text: str, path: Path, first_line: int) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), first_line):
        if not line.strip():
            continue
        try:
            row = json.loads(line)["text"]
        except (ValueError, TypeError, KeyError):
            row = None
        if not isinstance(row, str):
            raise DataError(f'{path}:{number}: expected a JSON object with a "text" that is a string')
        yield from row.splitlines()
        yield ""

"""Cut source files into chunks of whole lines, the unit of parallel work; depends on the file's bytes alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from elc_composer.common.errors import DataError

CHUNK_BYTES = 2 << 20
MAX_LINE_BYTES = 16 << 20
MayCut = Callable[[str, str], bool]
_BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Chunk:
    """Bytes [start, start + size) of a file; `first_line` is the number of its first line, from 1."""

    start: int
    size: int
    first_line: int
    sha256: str


@dataclass(frozen=True)
class Scan:
    """The result of one pass over a file: its digest, its size in bytes and its chunks."""

    sha256: str
    bytes: int
    chunks: list[Chunk]


def scan(
    path: Path, may_cut: MayCut, errors: str, chunk_bytes: int = CHUNK_BYTES, max_line: int = MAX_LINE_BYTES
) -> Scan:
    """Cut a file into chunks of at least `chunk_bytes`, between two lines where `may_cut(line, next line)` holds.

    Raises `DataError` for a file that is missing, empty or holds a line of more than `max_line` bytes.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    whole = hashlib.sha256()
    chunks: list[Chunk] = []
    start, line = 0, 1
    following = b""
    # The job that reads a chunk reports undecodable bytes; here they only affect where to cut.
    lenient = "replace" if errors == "strict" else errors
    with open(path, "rb") as file:
        while True:
            block, following = _read_chunk(file, following, may_cut, lenient, chunk_bytes, max_line, f"{path}", line)
            if not block:
                break
            whole.update(block)
            chunks.append(Chunk(start, len(block), line, hashlib.sha256(block).hexdigest()))
            start += len(block)
            line += block.count(b"\n")
    if not start:
        raise DataError(f"{path} is empty; remove it or put the corpus there")
    return Scan(whole.hexdigest(), start, chunks)


def _read_chunk(
    file: IO[bytes],
    begun: bytes,
    may_cut: MayCut,
    errors: str,
    size: int,
    max_line: int,
    path: str,
    line: int,
) -> tuple[bytes, bytes]:
    """Read a chunk, given its first line `begun`; return it and the first line of the next chunk."""
    block = begun + file.read(size) + file.readline(max_line + 1)
    _refuse_long_lines(block, max_line, path, line)
    parts = [block]
    previous = block[block.rfind(b"\n", 0, -1) + 1 :]
    if line == 1 and len(previous) == len(block):
        previous = previous.removeprefix(_BOM)
    line += block.count(b"\n")
    while following := file.readline(max_line + 1):
        if len(following.removesuffix(b"\n")) > max_line:
            raise _long_line(path, line, max_line)
        if may_cut(_lines(previous, errors)[-1], _lines(following, errors)[0]):
            return b"".join(parts), following
        parts.append(following)
        previous = following
        line += 1
    return b"".join(parts), b""


def _lines(line: bytes, errors: str) -> list[str]:
    # None where a last line holds nothing but bytes that are left out.
    return _split(line.decode("utf-8", errors)) or [""]


def _refuse_long_lines(block: bytes, max_line: int, path: str, line: int) -> None:
    if len(block) > max_line:
        for offset, text in enumerate(block.split(b"\n")):
            if len(text) > max_line:
                raise _long_line(path, line + offset, max_line)


def _long_line(path: str, line: int, max_line: int) -> DataError:
    return DataError(
        f"{path}:{line}: line longer than --max-line-bytes ({max_line:,}); split it into paragraphs or raise the limit"
    )


def read_texts(path: Path, chunk: Chunk, form: str, errors: str) -> list[list[str]]:
    """Read the texts of a chunk, each as a list of lines without line ends: one text, or one for each row of `jsonl`.

    Raises `DataError` naming file and line for bytes that are not UTF-8 (with `errors` "strict"; "replace" and
    "ignore" as for `bytes.decode`), for a row that is not a JSON object with a `text`, and for a file that has changed.
    """
    with open(path, "rb") as file:
        file.seek(chunk.start)
        block = file.read(chunk.size)
    if hashlib.sha256(block).hexdigest() != chunk.sha256:
        raise DataError(f"{path} has changed during the build; rerun the same command")
    if chunk.start == 0:
        block = block.removeprefix(_BOM)
    try:
        text = block.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        line = chunk.first_line + block.count(b"\n", 0, error.start)
        raise DataError(
            f"{path}:{line}: byte {block[error.start]:#04x} is not UTF-8; correct it or set --errors replace or ignore"
        ) from None
    if form == "jsonl":
        return [_split(row) for row in _rows(text, path, chunk.first_line, errors)]
    return [_split(text)]


def _split(text: str) -> list[str]:
    # As Python's text mode: a lone carriage return ends a line, too.
    lines = re.split("\r\n|\r|\n", text)
    return lines if lines[-1] else lines[:-1]


def _rows(text: str, path: Path, first_line: int, errors: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), first_line):
        if not line.strip():
            continue
        try:
            row = json.loads(line)["text"]
        except (ValueError, TypeError, KeyError, RecursionError):
            row = None
        if not isinstance(row, str):
            raise DataError(f'{path}:{number}: expected a JSON object with a "text" that is a string')
        yield _without_lone_surrogates(row, f"{path}:{number}", errors)


def _without_lone_surrogates(text: str, place: str, errors: str) -> str:
    # JSON can escape half of a surrogate pair (\ud83d), which UTF-8 cannot encode.
    if text.isascii() or not _SURROGATE.search(text):
        return text
    if errors == "strict":
        raise DataError(f"{place}: an unpaired surrogate; correct it or set --errors replace or ignore")
    return _SURROGATE.sub("\ufffd" if errors == "replace" else "", text)

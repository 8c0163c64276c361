"""Read JSON from files that may be damaged or hostile: every failure is a `DataError` in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elc_composer.common.errors import DataError, one_line

MAX_DEPTH = 64
"""Levels of nesting; Python's recursion limit breaks recursive readers at about 1,000."""
MAX_DIGITS = 19
"""Digits of an integer, as many as int64 has; longer ones overflow where they become floats or array elements."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(content: bytes | str, source: object) -> Any:
    """Parse one JSON document.

    Args:
        content: its text, UTF-8 if bytes.
        source: file name or address, for the error message.

    Raises:
        DataError: invalid JSON or UTF-8, more than `MAX_DEPTH` levels, an integer of more than `MAX_DIGITS` digits, or
            a lone surrogate in a string.
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        value = json.loads(text, parse_int=_integer)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not valid JSON ({one_line(error)})") from None
    if _too_deep(value):
        raise DataError(f"{source} is not valid JSON (more than {MAX_DEPTH} levels of nesting)")
    return value


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        DataError: the file is missing, is a directory, cannot be read, or is not valid JSON; see `parse_json`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or one_line(error)})") from None
    return parse_json(content, path)


def read_object(path: Path) -> dict[str, Any]:
    """Parse a JSON file that holds an object.

    Raises:
        DataError: as `read_json`, or the file holds another value.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object")
    return value


def read_json_lines(path: Path) -> Iterator[dict[str, Any] | None]:
    """The objects of a JSON Lines file in order; None for a line that is not a valid JSON object. Skips empty lines.

    Raises:
        DataError: the file is missing, is a directory, or cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or one_line(error)})") from None
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            try:
                value = parse_json(line, f"{path} line {number}")
            except DataError:
                value = None
            yield value if isinstance(value, dict) else None


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits, at most {MAX_DIGITS} are allowed")
    return int(digits)


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [each for each in level if isinstance(each, (dict, list))]
        if not containers:
            return False
        level = [item for each in containers for item in (each.values() if isinstance(each, dict) else each)]
    return True

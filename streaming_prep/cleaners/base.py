"""What a cleaner is: a stream of raw lines in, a stream of cleaned lines out, and where its input may be cut."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


class Boundary(enum.Enum):
    """Where raw text may be cut into chunks that are cleaned independently with the same result."""

    LINE = "line"
    BLANK_LINE = "blank_line"


@dataclass(frozen=True)
class Cleaner:
    """One corpus's cleaning: `clean` takes raw lines without line ends and yields cleaned lines, in constant memory.

    An empty string among the cleaned lines ends a paragraph or a document.
    """

    name: str
    clean: Callable[[Iterable[str]], Iterator[str]]
    boundary: Boundary

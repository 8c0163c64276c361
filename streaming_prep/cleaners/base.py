"""What a cleaner is: a stream of raw lines in, a stream of cleaned lines out, and where its input may be cut."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from streaming_prep.cleaners.text import fix_encoding


class Boundary(enum.Enum):
    """Where raw text may be cut into chunks that are cleaned independently with the same result."""

    LINE = "line"
    """Between any two lines."""
    BLANK_LINE = "blank_line"
    """Between a blank line and a line with text."""
    DISTINCT_LINES = "distinct_lines"
    """Between two lines that both leave text behind, and not the same text (a repeated line is dropped)."""


def always(previous: str, following: str) -> bool:
    """`Boundary.LINE`."""
    return True


def after_blank(previous: str, following: str) -> bool:
    """`Boundary.BLANK_LINE`; not inside a run of blank lines, whose length may say what separates it."""
    # A line such as "&nbsp;" is blank only when its encoding is mended, one of U+0085 (an ellipsis then) only before.
    return not fix_encoding(previous).strip() and bool(fix_encoding(following).strip())


@dataclass(frozen=True)
class Cleaner:
    """One corpus's cleaning: `clean` takes raw lines without line ends and yields cleaned lines, in constant memory.

    An empty string among the cleaned lines ends a document. `may_cut(previous, following)` tells whether raw text may
    be cut between these two adjacent lines, so that the cleaned chunks put together equal the whole text cleaned.
    """

    name: str
    clean: Callable[[Iterable[str]], Iterator[str]]
    boundary: Boundary
    may_cut: Callable[[str, str], bool]


def by_line(name: str, clean_line: Callable[[str], str | None]) -> Cleaner:
    """A cleaner that treats every line alone; a line whose result is None vanishes."""

    def clean(lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            cleaned = clean_line(line)
            if cleaned is not None:
                yield cleaned

    return Cleaner(name, clean, Boundary.LINE, always)


def without_repeats(name: str, clean_line: Callable[[str], str | None]) -> Cleaner:
    """A cleaner by line that also drops a line equal to the last one with text, and blank lines after a blank line."""

    def clean(lines: Iterable[str]) -> Iterator[str]:
        last_text, last = None, None
        for line in lines:
            cleaned = clean_line(line)
            if cleaned is None or cleaned == (last_text if cleaned else last):
                continue
            last = cleaned
            if cleaned:
                last_text = cleaned
            yield cleaned

    def may_cut(previous: str, following: str) -> bool:
        before, after = clean_line(previous), clean_line(following)
        return bool(before) and bool(after) and before != after

    return Cleaner(name, clean, Boundary.DISTINCT_LINES, may_cut)

"""The cleaner type: raw lines in, cleaned lines out, and a rule for cutting the input into chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Cleaner:
    """The cleaning of one corpus.

    `clean` takes raw lines without line ends and yields cleaned lines, in constant memory. An empty string among the
    cleaned lines ends a document.

    `may_cut(previous, following)` is True where raw text may be cut between these two adjacent lines: the chunks,
    cleaned independently and concatenated, then equal the whole text cleaned. It sees two lines only, so it is False
    where the lines before `previous` could matter.
    """

    name: str
    clean: Callable[[Iterable[str]], Iterator[str]]
    may_cut: Callable[[str, str], bool]


def by_line(name: str, clean_line: Callable[[str], str]) -> Cleaner:
    """A cleaner that treats each line independently."""
    return Cleaner(name, lambda lines: map(clean_line, lines), lambda previous, following: True)

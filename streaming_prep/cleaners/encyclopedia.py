"""Cleaners of the two Wikipedias: remove markup and references, and the stubs about places of the simple one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from streaming_prep.cleaners.levels import minimal
from streaming_prep.cleaners.text import drop_references, squeeze, undo_entities

_HEADING_START = "= = = "
_NOT_TEXT = ("[[Category:", "[[File:")
_HEADING = re.compile(r"= = = ([^=]*) = = =")
_STUB_PHRASES = (
    "is a commune. It is",
    "is a commune found",
    "is a city in",
    "is a village in",
    "is a municipality in",
    "is a town in",
)
STUB_LENGTH = 128
"""A stub has fewer characters."""


def articles(lines: Iterable[str]) -> Iterator[str]:
    """wikipedia: a title starts a document, except on the first line; remove blank lines, files, categories, links."""
    for number, line in enumerate(lines):
        text = minimal(squeeze(line))
        if number and text.startswith(_HEADING_START):
            yield ""
        if text and not text.startswith(_NOT_TEXT):
            text = _replace_links(drop_references(text))
            yield _HEADING.sub(r"\1", text) if _HEADING_START in text else text


def articles_may_cut(previous: str, following: str) -> bool:
    """Anywhere but before a title, which must not become the first line of a chunk."""
    return not minimal(squeeze(following)).startswith(_HEADING_START)


def _replace_links(text: str) -> str:
    """Replace `[[target|label]]` by its target. An expression would be quadratic in a run of `[[`."""
    kept: list[str] = []
    start = 0
    while True:
        opening = text.find("[[", start)
        closing = text.find("]", opening)
        if opening < 0 or closing < 0:
            return "".join([*kept, text[start:]])
        kept.append(text[start:opening])
        if text.startswith("]]", closing):
            kept.append(text[opening + 2 : closing].split("|", 1)[0])
            start = closing + 2
        else:
            # A link holds no single "]", so none begins before this one.
            kept.append(text[opening : closing + 1])
            start = closing + 1


def simple_articles(lines: Iterable[str]) -> Iterator[str]:
    """simple_wikipedia: remove stubs about places with the line before them; a blank line ends a document."""
    held: str | None = None
    for line in lines:
        text = _without_references(line)
        if not text:
            if held is not None:
                yield held
                yield ""
            held = None
        elif _is_stub(text):
            held = None
        else:
            if held is not None:
                yield held
            held = undo_entities(text, times=2)
    if held is not None:
        yield held


def simple_articles_may_cut(previous: str, following: str) -> bool:
    """After a blank line or a stub: `simple_articles` holds no line back."""
    text = _without_references(previous)
    return not text or _is_stub(text)


def _without_references(line: str) -> str:
    return minimal(drop_references(squeeze(line)))


def _is_stub(text: str) -> bool:
    return len(text) < STUB_LENGTH and " a " in text and any(phrase in text for phrase in _STUB_PHRASES)

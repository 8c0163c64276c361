"""Cleaners of the two Wikipedias: markup and references go, and from the simple one the stubs about places."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from streaming_prep.cleaners.text import fix_encoding, squeeze

_NOT_TEXT = ("[[Category:", "[[File:", "[[Image:")
_HEADING = re.compile(r"= = = (.*?) = = =")
_REFERENCE = re.compile(r"\[\d+\]")
_LINK = re.compile(r"\[\[([^\[\]|]*)(?:\|[^\[\]]*)?\]\]")
_STUB = re.compile(r"\bis a (?:(?:city|town|village|municipality) in|commune)\b")
STUB_LENGTH = 128
"""Longest line, in characters, that counts as a stub's."""


def articles(lines: Iterable[str]) -> Iterator[str]:
    """wikipedia: an article's title opens a document; blank lines, files, categories go; links leave their target."""
    for line in lines:
        text = squeeze(fix_encoding(line))
        if not text or text.startswith(_NOT_TEXT):
            continue
        if text.startswith("= = ="):
            yield ""
            text = _HEADING.sub(r"\1", text)
        elif "= = =" in text:
            text = _HEADING.sub(r"\1", text)
        if "[" in text:
            text = _LINK.sub(r"\1", _REFERENCE.sub("", text))
        if text:
            yield text


def simple_articles(lines: Iterable[str]) -> Iterator[str]:
    """simple_wikipedia: a stub about a place goes with the line before it, its title; a blank line ends a document."""
    held: str | None = None
    for line in lines:
        text = squeeze(_REFERENCE.sub("", fix_encoding(line)))
        if text and len(text) <= STUB_LENGTH and _STUB.search(text):
            held = None
            continue
        if held is not None:
            yield held
            if not text:
                yield ""
        held = text or None
    if held is not None:
        yield held

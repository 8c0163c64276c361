"""Cleaned lines split into sentences by Punkt's English model (Kiss & Strunk 2006), which comes with a package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import punkt

from elc_composer.prepared.tokenizer_files import PARAGRAPH

# Punkt weighs a split only after one of these marks, and draws the closing ones onto the sentence before it.
_MARKS = ".?!"
_CLOSING = "\"')]}"


@lru_cache(maxsize=1)
def _punkt() -> punkt.PunktSentenceTokenizer:
    return punkt.PunktSentenceTokenizer(punkt.load_model("english"))


def split_line(line: str) -> list[str]:
    """The sentences of one line, without [PAR]; at least one for a line with text."""
    body = line.rstrip(_CLOSING).rstrip(_MARKS)
    if not any(mark in body for mark in _MARKS):
        return [line]
    return _punkt().tokenize(line)


def split_sentences(cleaned_lines: Iterable[str]) -> Iterator[str]:
    """Sentences, one an item; [PAR] closes the last one of every line, "" stays "" (the end of a document)."""
    for line in cleaned_lines:
        if not line:
            yield ""
            continue
        # Encoding repair turns "&#10;" into a line break, and a sentence is written as one line of a file later on.
        for paragraph in filter(None, map(str.strip, line.split("\n"))) if "\n" in line else (line,):
            *inner, last = split_line(paragraph)
            yield from inner
            yield last + PARAGRAPH

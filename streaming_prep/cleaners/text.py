"""Text helpers shared by the cleaners: white space, dashes, entities, references, quotation marks."""

from __future__ import annotations

import re

_REFERENCE = re.compile(r"\[\d+\]")


def squeeze(text: str) -> str:
    """Replace every run of white space (as `str.isspace` has it, so also U+0085 and U+00A0) by one space; strip."""
    return " ".join(text.split())


def quote(text: str) -> str:
    """Put a turn of direct speech in double quotation marks."""
    return f'"{text}"'


def drop_dash(text: str) -> str:
    """Remove one leading "- " or else one leading "-"."""
    return text[2:] if text.startswith("- ") else text.removeprefix("-")


def undo_entities(text: str, times: int) -> str:
    """Replace `&gt;`, `&lt;` and `&amp;`, in this order, `times` times (`&amp;gt;` needs two)."""
    for _ in range(times if "&" in text else 0):
        text = text.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")
    return text


def drop_references(text: str) -> str:
    """Remove reference marks such as `[12]`."""
    return _REFERENCE.sub("", text) if "[" in text else text

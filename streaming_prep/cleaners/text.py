"""Steps that several cleaners share. Each skips its library where it can be seen that nothing would change."""

from __future__ import annotations

import re

import ftfy
from sacremoses import MosesPunctNormalizer

_MOSES = MosesPunctNormalizer(lang="en")
# Whatever any of the normalizer's expressions for English can match, or more.
_MOSES_MAY_CHANGE = re.compile(r"""[^ -~]|[()`]|''|  | [:;]|\d %|"[,.]""")
_BLANKS = re.compile(r"[ \t]{2,}|\t")
_CONTRACTION = re.compile(r" (n't|'(?:s|re|ve|ll|d|m))(?= )", re.IGNORECASE)
_SPACE_BEFORE_MARK = re.compile(r" (?=[.,:;?!])")


def fix_encoding(text: str) -> str:
    """Mojibake, HTML entities, curly quotes, control characters and the like mended by ftfy; one line of text."""
    # ASCII leaves ftfy only entities, escapes and control characters to mend.
    if text.isascii() and "&" not in text and text.replace("\t", "").isprintable():
        return text
    return ftfy.fix_text(text)


def normalize_punctuation(text: str) -> str:
    """Moses punctuation normalization for English, stripped."""
    return _MOSES.normalize(text) if _MOSES_MAY_CHANGE.search(text) else text.strip()


def squeeze(text: str) -> str:
    """Runs of spaces and tabs as one space, stripped."""
    return _BLANKS.sub(" ", text).strip()


def attach(text: str) -> str:
    """Treebank tokens put back onto their word: contractions that a space follows, and punctuation marks."""
    return _SPACE_BEFORE_MARK.sub("", _CONTRACTION.sub(r"\1", text))


def quote(text: str) -> str:
    """The text in quotation marks: a turn of direct speech."""
    return f'"{text}"'

"""The two cleaning levels, minimal and full, that every corpus's cleaner is built from."""

from __future__ import annotations

import re

from sacremoses import MosesPunctNormalizer

from streaming_prep.cleaners.encoding import fix_encoding
from streaming_prep.cleaners.spacing import join_contractions, space_marks, space_quotes
from streaming_prep.cleaners.text import squeeze

_MOSES = MosesPunctNormalizer(lang="en", penn=False)
# A superset of everything that one of the normalizer's expressions for English matches.
_MOSES_MAY_CHANGE = re.compile(r"""[^ -~]|[()]|''|  | [:;]|\d %|"[,.]""")


def minimal(text: str) -> str:
    """Repair the encoding and strip."""
    return fix_encoding(text).strip()


def full(text: str) -> str:
    """Turn a stripped line of tokens into written text: spaces, contractions, quotes, punctuation, encoding."""
    text = space_quotes(join_contractions(space_marks(squeeze(text))))
    return minimal(normalize_punctuation(text))


def normalize_punctuation(text: str) -> str:
    """Apply Moses punctuation normalization for English; strip."""
    return _MOSES.normalize(text) if _MOSES_MAY_CHANGE.search(text) else text.strip()

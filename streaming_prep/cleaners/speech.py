"""Cleaners of dialogue: transcripts and subtitles, one turn a line. A turn becomes a quotation; repeats are dropped."""

from __future__ import annotations

import re

from streaming_prep.cleaners.text import attach, fix_encoding, normalize_punctuation, quote, squeeze

_QUOTATION = re.compile(r'\s*"\s*([^"]*?)\s*"\s*')
# Full stops stand inside words too (a.b, U.S.A), so only one between a small letter and a capital ends a sentence.
_SENTENCE_END = re.compile(r"([;!?]|\.(?:\.+|(?<![A-Z]\.)(?=[A-Z])))(?=\w)")
_INNER_MARK = re.compile(r"([,:])(?:(?<!\d[,:])(?=\w)|(?=[^\W\d]))")
_AMOUNT = re.compile(r"([$£€]) (?=\d)")
_ENCLOSURES = {"()", "[]", "{}"}


def transcript(line: str) -> str | None:
    """aochildes and bnc_spoken: lower-case treebank tokens turned into written sentences."""
    # Spaces first: the expressions below take quadratic time in a run of them.
    text = squeeze(line)
    if "’" in text:
        # Here it closes quotations; the apostrophes are straight.
        text = text.replace("’", "' ")
    text = fix_encoding(text)
    if '"' in text:
        text = _QUOTATION.sub(r' "\1" ', text)
    text = _SENTENCE_END.sub(r"\1 ", text)
    text = _INNER_MARK.sub(r"\1 ", text)
    text = _AMOUNT.sub(r"\1", attach(normalize_punctuation(text)))
    text = squeeze(text)
    if len(text) == 1 and not text.isalnum():
        return None
    return quote(text[0].upper() + text[1:]) if text else ""


def telephone(line: str) -> str:
    """switchboard: a turn with its speaker's letter."""
    text = _without_dash(squeeze(line))
    return quote(text) if text else ""


def subtitle(line: str) -> str:
    """open_subtitles: a turn, or a description that stays as it is."""
    return _quote_speech(_without_dash(squeeze(fix_encoding(line))))


def lecture(line: str) -> str | None:
    """qed: as subtitles, without the lines that only time them."""
    text = squeeze(fix_encoding(line))
    if "->" in text or _is_time_stamp(text):
        return None
    return _quote_speech(_without_dash(text))


def _without_dash(text: str) -> str:
    return text.lstrip("-").lstrip()


def _is_time_stamp(text: str) -> bool:
    return text.endswith(":") and text != ":" and not text.strip("0123456789: ")


def _quote_speech(text: str) -> str:
    if not text or text[0] == '"' or text[-1] in '":' or text[0] + text[-1] in _ENCLOSURES:
        return text
    return quote(text)

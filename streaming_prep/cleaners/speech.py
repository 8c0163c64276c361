"""Cleaners of dialogue: one turn a line, set in quotation marks; repeated turns are dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from streaming_prep.cleaners.base import Cleaner
from streaming_prep.cleaners.levels import full, minimal
from streaming_prep.cleaners.text import drop_dash, quote, squeeze, undo_entities

CleanTurn = Callable[[str], "str | None"]
"""Cleans one line: the turn, "" for a blank line, None for a line that vanishes."""
_SINGLE_MARKS = (".", "!", "?")
_ENCLOSURES = {"()", "[]", "{}"}


def transcript(line: str) -> str:
    """aochildes: lower-case tokens as a written sentence."""
    text = line.strip()
    return quote(full(text[0].upper() + text[1:])) if text else ""


def transcript_without_marks(line: str) -> str | None:
    """bnc_spoken: as aochildes; a line of one sentence mark vanishes."""
    return None if line.strip() in _SINGLE_MARKS else transcript(line)


def telephone(line: str) -> str:
    """switchboard: a turn with the letter of its speaker."""
    text = minimal(drop_dash(squeeze(line)))
    return quote(text) if text else ""


def subtitle(line: str) -> str:
    """open_subtitles: a turn, or a description that stays as it is."""
    return _quote_speech(drop_dash(minimal(squeeze(line))))


def lecture(line: str) -> str | None:
    """qed: as open_subtitles; lines of markup and lines that only give a time vanish."""
    text = minimal(drop_dash(squeeze(line)))
    for _ in range(3):
        if _holds_markup(text):
            return None
        text = undo_entities(text, times=1)
    if _holds_markup(text) or "->" in text:
        return None
    if text.endswith(":") and not any(map(str.isalpha, text)):
        return None
    return _quote_speech(text)


def _holds_markup(text: str) -> bool:
    return "&lt" in text and "&gt" in text


def _quote_speech(text: str) -> str:
    if not text or text[0] == '"' or text[-1] in '":' or text[0] + text[-1] in _ENCLOSURES:
        return text
    return quote(text)


def with_all_blank_lines(name: str, clean_turn: CleanTurn) -> Cleaner:
    """Drop a turn equal to the line before it; keep every blank line (aochildes, bnc_spoken)."""

    def clean(lines: Iterable[str]) -> Iterator[str]:
        previous = None
        for line in lines:
            turn = clean_turn(line)
            if turn is None or (turn and turn == previous):
                continue
            previous = turn
            yield turn

    def may_cut(previous: str, following: str) -> bool:
        before, after = clean_turn(previous), clean_turn(following)
        # A blank line on either side: the turn before does not matter to what follows.
        return before == "" or after == "" or (before is not None and after is not None and before != after)

    return Cleaner(name, clean, may_cut)


def with_single_blank_lines(name: str, clean_turn: CleanTurn) -> Cleaner:
    """Drop a line equal to the line before it, also of blank lines all but one (open_subtitles, qed)."""

    def clean(lines: Iterable[str]) -> Iterator[str]:
        previous = None
        for line in lines:
            turn = clean_turn(line)
            if turn is None or turn == previous:
                continue
            previous = turn
            yield turn

    def may_cut(previous: str, following: str) -> bool:
        before, after = clean_turn(previous), clean_turn(following)
        return before is not None and after is not None and before != after

    return Cleaner(name, clean, may_cut)


def across_blank_lines(name: str, clean_turn: CleanTurn) -> Cleaner:
    """Drop a turn equal to the last turn, also across blank lines; keep every blank line (switchboard)."""

    def clean(lines: Iterable[str]) -> Iterator[str]:
        previous = None
        for line in lines:
            turn = clean_turn(line)
            if not turn:
                yield ""
            elif turn != previous:
                previous = turn
                yield turn

    def may_cut(previous: str, following: str) -> bool:
        before, after = clean_turn(previous), clean_turn(following)
        # The turn before a blank `previous` is not known here.
        return bool(before) and bool(after) and before != after

    return Cleaner(name, clean, may_cut)

"""Spaces around punctuation marks, contractions and double quotation marks, in linear time.

The published rules walk over a line from its end and insert or remove single spaces. Spaces are single here, so no
action changes whether another one applies, with one exception: a space between an ellipsis and a mark is removed and
inserted again. Hence one substitution over the original line gives the same result. The tests compare it with a direct
transcription of the rules.
"""

from __future__ import annotations

import re

_OPENING = "‘([{"
_NO_SPACE_BEFORE = ".;:?!…,’)]}"
_INNER_OPENING = "([{"
_CURRENCIES = "$£€"

# First a class of single characters: the search skips everything else quickly. A superset of the places where a rule
# acts; `_act` decides, since regular expressions have no equivalent of `isupper`, `isalpha` and
# `isnumeric`.
_PLACE = re.compile(
    r" (?:(?=[.;:?!…,’)\]}%])|(?<=[(\[{$£€].))"
    r"|[.?!…’,;:)\]}%](?:(?=[^\W_]|[‘(\[{])|(?<=.\.\.\.)(?=[^ ]))"
)
_FORMS = ("n't", "'ll", "'re", "'ve", "'m", "'s", "'d")
_CONTRACTION = re.compile(r" (?:n't|N'T|'(?:ll|LL|re|RE|ve|VE|[mMsSdD]))[ ,.]")
_CONTRACTIONS = [
    (f" {written}{mark}", f"{written}{mark}") for mark in " ,." for form in _FORMS for written in (form, form.upper())
]


def space_marks(text: str) -> str:
    """Insert spaces after punctuation marks and remove those before them. `text` holds no other white space."""
    return _PLACE.sub(_act, text)


def _act(place: re.Match[str]) -> str:
    text, at = place.string, place.start()
    character = place[0]
    before, after = text[max(at - 1, 0) : at], text[at + 1 : at + 2]
    if character == " ":
        return " " if _space_stays(text, at, before, after) else ""
    if text.endswith("...", 0, at + 1) and at >= 3:
        # `place` is followed by something other than a space.
        return "." + " "
    if after in _OPENING:
        follows = True
    elif character == ".":
        follows = after.isupper()
    elif character == ",":
        follows = after.isalpha()
    elif character == ":":
        follows = after.isalnum() and not (before.isnumeric() and after.isnumeric())
    else:
        follows = after.isalnum()
    return character + " " if follows else character


def _space_stays(text: str, at: int, before: str, after: str) -> bool:
    if before and before in _INNER_OPENING:
        return False
    if after and after in _NO_SPACE_BEFORE:
        # An ellipsis, unless it starts the line, keeps the space.
        return at >= 4 and text.endswith("...", 0, at)
    amount = bool(before) and before in _CURRENCIES and after.isnumeric()
    return not (amount or (after == "%" and before.isnumeric()))


def join_contractions(text: str) -> str:
    """Remove the space before `n't 'll 're 've 'm 's 'd` where a space, a comma or a full stop follows."""
    if "'" not in text or not _CONTRACTION.search(text):
        return text
    # One replacement after the other, as published: of two forms that share a space, the first one in order is joined.
    for apart, joined in _CONTRACTIONS:
        text = text.replace(apart, joined)
    return text


def space_quotes(text: str) -> str:
    """Move the spaces of paired double quotation marks outside, unless they look unpaired."""
    quotes = text.count('"')
    if not quotes or quotes % 2 or '""' in text or '" "' in text:
        return text
    outside, *rest = text.split('"')
    spaced = [outside]
    changes = 0
    for inside, following in zip(rest[::2], rest[1::2]):
        if spaced[-1] and not spaced[-1].endswith(" "):
            spaced.append(" ")
            changes += 1
        if inside.startswith(" "):
            inside = inside[1:]
            changes += 1
        if inside.endswith(" "):
            inside = inside[:-1]
            changes += 1
        spaced.append(f'"{inside}"')
        if following[:1].isalnum():
            following = " " + following
            changes += 1
        spaced.append(following)
    # This many changes indicate swapped opening and closing quotes.
    if changes > 2 and 3 * changes > 2 * quotes:
        return text
    return "".join(spaced)

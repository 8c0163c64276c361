"""Direct transcription of the published cleaning rules: the oracle for `streaming_prep.cleaners`.

Character by character and quadratic in the length of a line, so that each rule can be read next to its text.
`clean(corpus, lines)` takes raw lines and returns cleaned lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import ftfy
from sacremoses import MosesPunctNormalizer

OPENING = "‘([{"
CONTRACTIONS = ["n't", "'ll", "'re", "'ve", "'m", "'s", "'d"]
STUBS = [
    "is a commune. It is",
    "is a commune found",
    "is a city in",
    "is a village in",
    "is a municipality in",
    "is a town in",
]
TREEBANK = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}"}
_moses = MosesPunctNormalizer(lang="en", penn=False)


def minimal(line: str) -> str:
    return ftfy.fix_text(line).strip()


def full(line: str) -> str:
    line = re.sub(r"\s+", " ", line)
    line = contractions(spacing(line))
    return minimal(_moses.normalize(double_quotes(line)))


def spacing(line: str) -> str:
    for i in range(len(line) - 2, -1, -1):
        if gets_space(line, i):
            line = line[: i + 1] + " " + line[i + 1 :]
        elif line[i] in "([{" and line[i + 1] == " ":
            line = line[: i + 1] + line[i + 2 :]
        elif loses_space(line, i):
            line = line[:i] + line[i + 1 :]
    return line


def gets_space(line: str, i: int) -> bool:
    a, b = line[i], line[i + 1]
    if a == "." and (b.isupper() or b in OPENING):
        return True
    if a in "?!…’" and (b.isalnum() or b in OPENING):
        return True
    if a == "." and i >= 3 and line[i - 2 : i + 1] == "..." and b != " ":
        return True
    if a == "," and (b.isalpha() or b in OPENING):
        return True
    if a in ";)]}%" and (b.isalnum() or b in OPENING):
        return True
    if a == ":":
        if b in OPENING:
            return True
        between_numbers = i > 0 and line[i - 1].isnumeric() and b.isnumeric()
        return b.isalnum() and not between_numbers
    return False


def loses_space(line: str, i: int) -> bool:
    if line[i] != " ":
        return False
    b = line[i + 1]
    if b in ".;:?!…,’)]}":
        return True
    before = line[i - 1] if i > 0 else ""
    return (before in ("$", "£", "€") and b.isnumeric()) or (before.isnumeric() and b == "%")


def contractions(line: str) -> str:
    for mark in " ,.":
        for form in CONTRACTIONS:
            for written in (form, form.upper()):
                line = line.replace(f" {written}{mark}", f"{written}{mark}")
    return line


def double_quotes(line: str) -> str:
    quotes = line.count('"')
    if quotes == 0 or quotes % 2 or '""' in line or '" "' in line:
        return line
    changed, changes, opening = line, 0, True
    i = 0
    while i < len(changed):
        if changed[i] != '"':
            i += 1
            continue
        if opening:
            if i > 0 and changed[i - 1] != " ":
                changed = changed[:i] + " " + changed[i:]
                changes += 1
                i += 1
            if changed[i + 1 : i + 2] == " ":
                changed = changed[: i + 1] + changed[i + 2 :]
                changes += 1
        else:
            if changed[i - 1] == " ":
                changed = changed[: i - 1] + changed[i:]
                changes += 1
                i -= 1
            if changed[i + 1 : i + 2].isalnum():
                changed = changed[: i + 1] + " " + changed[i + 1 :]
                changes += 1
        opening = not opening
        i += 1
    if changes > 2 and changes > 2 / 3 * quotes:
        return line
    return changed


def squeezed(line: str) -> str:
    return re.sub(r"\s+", " ", line).strip()


def dash_off(line: str) -> str:
    if line.startswith("- "):
        return line[2:]
    return line[1:] if line.startswith("-") else line


def undo_entities(line: str) -> str:
    return line.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")


def quoted(line: str) -> str:
    return f'"{line}"'


def quoted_speech(line: str) -> str:
    enclosed = any(line[0] == pair[0] and line[-1] == pair[1] for pair in ("()", "[]", "{}"))
    if line.endswith(":") or line.startswith('"') or line.endswith('"') or enclosed:
        return line
    return quoted(line)


def aochildes(lines: Sequence[str]) -> list[str]:
    return _transcript(lines, vanishing=())


def bnc_spoken(lines: Sequence[str]) -> list[str]:
    return _transcript(lines, vanishing=(".", "!", "?"))


def _transcript(lines: Sequence[str], vanishing: tuple[str, ...]) -> list[str]:
    cleaned: list[str] = []
    previous = None
    for line in lines:
        line = line.strip()
        if not line:
            cleaned.append("")
            previous = ""
            continue
        if line in vanishing:
            continue
        turn = quoted(full(line[0].upper() + line[1:]))
        if turn != previous:
            cleaned.append(turn)
        previous = turn
    return cleaned


def cbt(lines: Sequence[str]) -> list[str]:
    cleaned = []
    for line in lines:
        line = line.strip()
        for token, bracket in TREEBANK.items():
            line = line.replace(token, bracket)
        for token in ("`` ", "``", " ''", "''"):
            line = line.replace(token, '"')
        cleaned.append(full(line) if line else "")
    return cleaned


def children_stories(lines: Sequence[str]) -> list[str]:
    cleaned = []
    since_blank = 0
    for line in lines:
        if not line.strip():
            if since_blank >= 2:
                cleaned.append("")
            since_blank = 0
            continue
        since_blank += 1
        cleaned.append(minimal(squeezed(f"[TAB] {line}" if line.startswith("    ") else line)))
    return cleaned


def gutenberg(lines: Sequence[str]) -> list[str]:
    cleaned = []
    paragraph: list[str] = []
    remembered = blank_since_text = 0
    for line in lines:
        line = minimal(squeezed(line))
        if line:
            paragraph.append(line)
            blank_since_text = 0
            continue
        if paragraph:
            cleaned.append(" ".join(paragraph))
            remembered, paragraph = len(paragraph), []
        if blank_since_text == 1 and remembered > 1:
            cleaned.append("")
        blank_since_text += 1
    # A deliberate difference: the published cleaner loses the last paragraph.
    return [*cleaned, " ".join(paragraph)] if paragraph else cleaned


def open_subtitles(lines: Sequence[str]) -> list[str]:
    cleaned: list[str] = []
    for line in lines:
        line = dash_off(minimal(squeezed(line)))
        _add_turn(cleaned, quoted_speech(line) if line else "")
    return cleaned


def qed(lines: Sequence[str]) -> list[str]:
    cleaned: list[str] = []
    for line in lines:
        line = minimal(dash_off(squeezed(line)))
        if not line:
            _add_turn(cleaned, "")
            continue
        markup = False
        for _ in range(3):
            markup = markup or ("&lt" in line and "&gt" in line)
            line = undo_entities(line)
        markup = markup or ("&lt" in line and "&gt" in line)
        time_stamp = line.endswith(":") and not any(c.isalpha() for c in line)
        if not markup and "->" not in line and not time_stamp:
            _add_turn(cleaned, quoted_speech(line))
    return cleaned


def _add_turn(cleaned: list[str], turn: str) -> None:
    if not cleaned or turn != cleaned[-1]:
        cleaned.append(turn)


def simple_wikipedia(lines: Sequence[str]) -> list[str]:
    cleaned = []
    held = None
    for line in lines:
        line = minimal(re.sub(r"\[\d+\]", "", squeezed(line)))
        if not line:
            if held is not None:
                cleaned += [held, ""]
            held = None
        elif len(line) < 128 and any(stub in line for stub in STUBS):
            held = None
        else:
            if held is not None:
                cleaned.append(held)
            held = undo_entities(undo_entities(line))
    # A deliberate difference: the published cleaner loses the line that is still held.
    return cleaned if held is None else [*cleaned, held]


def switchboard(lines: Sequence[str]) -> list[str]:
    cleaned = []
    previous = None
    for line in lines:
        line = minimal(dash_off(squeezed(line)))
        if not line:
            cleaned.append("")
        elif quoted(line) != previous:
            previous = quoted(line)
            cleaned.append(previous)
    return cleaned


def wikipedia(lines: Sequence[str]) -> list[str]:
    cleaned = []
    for number, line in enumerate(lines):
        line = minimal(squeezed(line))
        if number > 0 and line.startswith("= = = "):
            cleaned.append("")
        if not line or line.startswith(("[[Category:", "[[File:")):
            continue
        line = re.sub(r"\[\d+\]", "", line)
        line = re.sub(r"\[\[([^|\]]*)\|*[^\]]*\]\]", r"\1", line)
        cleaned.append(re.sub(r"= = = ([^=]*) = = =", r"\1", line))
    return cleaned


CLEANERS: dict[str, Callable[[Sequence[str]], list[str]]] = {
    cleaner.__name__: cleaner
    for cleaner in (
        aochildes,
        bnc_spoken,
        cbt,
        children_stories,
        gutenberg,
        open_subtitles,
        qed,
        simple_wikipedia,
        switchboard,
        wikipedia,
    )
}


def clean(corpus: str, lines: Sequence[str]) -> list[str]:
    return CLEANERS[corpus](lines)

"""Inputs for tests of cleaning: the golden files, seeded random text, and the helpers that compare results."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from streaming_prep.cleaners import CLEANERS
from tests.conftest import require

CORPORA = [name for name in CLEANERS if name != "none"]
FOLDERS = ["clean", "clean_more"]
_PARTS = [
    *"aBz1²Ⅷß.?!…’,;:)]}%([{‘\"'`-=|&<>$£€ÃÂ©™_",
    *" \u00a0\u2003\u202f\u3000\x85\x0b\x1c\t\x01\u2028",
    *["...", "....", "'s", "N'T", "'LL", " n't", " 'll", "&gt;", "&lt;", "&amp;", "&amp;lt;", "&#10;", "->"],
    *[
        "[[",
        "]]",
        "[1]",
        "[[File:",
        "= = = ",
        " = = =",
        "-LRB-",
        "``",
        "''",
        "    ",
        " is a city in ",
        "- ",
        ". ",
        " a",
    ],
]
"""Characters and tokens that a rule mentions, and odd white space."""


@dataclass(frozen=True)
class Case:
    """Raw lines of a corpus and the lines that the published cleaner makes of them."""

    corpus: str
    raw: list[str]
    clean: list[str]


def golden_file(golden_dir: Path, folder: str, corpus: str) -> Case:
    """`<folder>/<corpus>.{raw,clean}.txt` of the golden folder; skips where one is missing."""
    raw = require(golden_dir / folder / f"{corpus}.raw.txt")
    return Case(corpus, lines_of(raw), lines_of(require(golden_dir / folder / f"{corpus}.clean.txt")))


def edge_cases(golden_dir: Path, corpus: str) -> list[Case]:
    """The cases of `clean_edge.json` for one corpus; skips where the file is missing."""
    cases = json.loads(require(golden_dir / "clean_edge.json").read_text(encoding="utf-8"))
    return [Case(**case) for case in cases if case["corpus"] == corpus]


def lines_of(path: Path) -> list[str]:
    # Not `splitlines`: the lines hold U+0085, U+2028 and other characters that it splits at.
    return path.read_bytes().decode().removesuffix("\n").split("\n")


def clean(corpus: str, *lines: str) -> list[str]:
    return list(CLEANERS[corpus].clean(lines))


def random_line(choose: random.Random, parts: int) -> str:
    return "".join(choose.choice(_PARTS) for _ in range(choose.randint(0, parts)))


def random_text(choose: random.Random, lines: int, parts: int = 8) -> list[str]:
    """Random lines, a third of which repeat an earlier one and many of which are blank or short."""
    text: list[str] = []
    for _ in range(choose.randint(1, lines)):
        repeat = bool(text) and choose.random() < 1 / 3
        text.append(choose.choice(text) if repeat else random_line(choose, choose.choice([0, 1, 2, parts])))
    return text

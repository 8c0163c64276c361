"""Sentences with unusual white space, markers and characters, to compare two ways of encoding or counting."""

from __future__ import annotations

import random

ODD = [
    "",
    " ",
    " a",
    "a ",
    "a  b",
    "[TAB] a b[PAR]",
    "x[PAR]y z",
    "[PAR]",
    "\ta\tb c",
    "a \tb",
    "a\u00a0b \u3000c",
    "don't can't 's 'll",
    "1234 5 6,7",
    "…é 你好 🙂 z",
    "a\x85b\u2028c",
    "a \u180e[TAB] [TAB]\u00a0 [PAR] b",
    "line\nbreak \r\n end",
]


def random_sentences(count: int) -> list[str]:
    generator = random.Random(0)
    pieces = ["a", "the", "dog", "'s", "don't", " ", "  ", "\t", "[PAR]", "[TAB]", "12", "é", "\u00a0", ".", '"', "\n"]
    return ["".join(generator.choices([*pieces, " ", " ", " "], k=generator.randint(1, 14))) for _ in range(count)]

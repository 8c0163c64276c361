"""Sentences with markers and numbers, to train small tokenizers on."""

from __future__ import annotations

SENTENCES = [
    f"The {animal} saw {number} {thing}s.[PAR]"
    for animal in ("cat", "dog")
    for thing in ("ball", "bird")
    for number in range(1990, 2010)
]
SENTENCES += ["[TAB] An indented one.[PAR]", ""] * 20

"""Sentence splitting: equality with the published segmentation, and with Punkt where a shortcut skips it."""

from __future__ import annotations

import random
from pathlib import Path

import punkt
import pytest

from streaming_prep.cleaners import CLEANERS
from streaming_prep.sentences import split_line, split_sentences
from tests.conftest import require


@pytest.mark.golden
def test_cleaned_corpora_in_the_published_order_give_the_published_segmentation(golden_dir: Path) -> None:
    expected = require(golden_dir / "segment" / "segmented.txt").read_bytes().decode().removesuffix("\n").split("\n")
    cleaned: list[str] = []
    for corpus in CLEANERS:
        file = golden_dir / "clean" / f"{corpus}.clean.txt"
        if corpus != "none":
            cleaned += require(file).read_bytes().decode().removesuffix("\n").split("\n")
    assert list(split_sentences(cleaned)) == expected


def test_every_line_is_a_paragraph_and_empty_lines_stay() -> None:
    lines = ["Dr. Who came. He left.", "", '[TAB] "Go!" she said. "Now."', "no end"]
    assert list(split_sentences(lines)) == [
        "Dr. Who came.",
        "He left.[PAR]",
        "",
        '[TAB] "Go!"',
        "she said.",
        '"Now."[PAR]',
        "no end[PAR]",
    ]


def test_sentences_stream() -> None:
    stream = split_sentences(f"Line {number}." for number in iter(int, 1))
    assert next(stream) == "Line 0.[PAR]"


def test_the_shortcut_agrees_with_punkt() -> None:
    reference = punkt.PunktSentenceTokenizer(punkt.load_model("english"))
    parts = [
        "Yes",
        "no",
        "Mr",
        "etc",
        "a",
        "I",
        "3",
        "U.S",
        "The",
        *".?!\"')]}( ,;:-*“”…",
        "...",
        " ",
        " ",
        ' ."',
        "[TAB] ",
    ]
    choose = random.Random(0)
    short_cuts = 0
    for _ in range(20_000):
        line = "".join(choose.choice(parts) for _ in range(choose.randint(1, 9))).strip()
        if line:
            expected = reference.tokenize(line)
            assert split_line(line) == expected
            short_cuts += len(expected) == 1
    assert short_cuts > 1000


def test_a_line_of_dots_takes_linear_time() -> None:
    assert split_line("." * 200_000) == ["." * 200_000]


def test_a_line_break_within_a_line_ends_a_paragraph_but_not_a_document() -> None:
    lines = CLEANERS["gutenberg"].clean(["One.&#8232;Two.&#10;&#10;Three. Four."])
    assert list(split_sentences(lines)) == ["One.[PAR]", "Two.[PAR]", "Three.", "Four.[PAR]"]

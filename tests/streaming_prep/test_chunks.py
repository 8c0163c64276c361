"""Cutting: the chunks add up to the file, and cleaning them one by one gives the same as cleaning the whole."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from elc_composer.common.errors import DataError
from streaming_prep.chunks import read_texts, scan
from streaming_prep.cleaners import CLEANERS
from streaming_prep.sentences import split_sentences
from tests.streaming_prep.cleaning_cases import CORPORA, FOLDERS, edge_cases, golden_file, random_text


def cleaned(path: Path, cleaner: str, chunk_bytes: int, errors: str = "strict") -> list[str]:
    found = scan(path, CLEANERS[cleaner].may_cut, errors, chunk_bytes)
    return [
        sentence
        for chunk in found.chunks
        for lines in read_texts(path, chunk, "text", errors)
        for sentence in split_sentences(CLEANERS[cleaner].clean(lines))
    ]


def check_random_cuts(cleaner: str, lines: list[str], choose: random.Random) -> int:
    """Clean `lines` whole and in chunks cut at random among the allowed places; the number of cuts made."""
    clean, may_cut = CLEANERS[cleaner].clean, CLEANERS[cleaner].may_cut
    density = choose.choice([0.1, 0.5, 1.0])
    cuts = [
        place for place in range(1, len(lines)) if choose.random() < density and may_cut(lines[place - 1], lines[place])
    ]
    parts = [line for start, end in zip([0, *cuts], [*cuts, len(lines)]) for line in clean(lines[start:end])]
    assert parts == list(clean(lines)), (lines, cuts)
    return len(cuts)


@pytest.mark.parametrize("cleaner", CLEANERS)
def test_chunks_of_random_text_add_up_to_the_whole(cleaner: str) -> None:
    choose = random.Random(cleaner)
    pieces = [
        "",
        " ",
        "\x85",
        "&nbsp;",
        "\ufeff",
        "a",
        "a .",
        "b c",
        "?",
        "12:",
        "-",
        "x -> y",
        "= = = T = = =",
        "= = = ",
    ]
    pieces += ["A is a town in B.", "    i", '"q"', '"a ."', "A", "[1]", "&lt;i&gt;", "[[File:x"]
    cuts = 0
    for number in range(600):
        lines = [choose.choice(pieces) for _ in range(14)] if number % 2 else random_text(choose, 14)
        cuts += check_random_cuts(cleaner, lines, choose)
    assert cuts > 300


@pytest.mark.golden
@pytest.mark.parametrize("cleaner", CORPORA)
@pytest.mark.parametrize("folder", FOLDERS)
def test_chunks_of_golden_files_add_up_to_the_whole(golden_dir: Path, folder: str, cleaner: str) -> None:
    lines = golden_file(golden_dir, folder, cleaner).raw
    choose = random.Random(cleaner)
    for _ in range(3):
        check_random_cuts(cleaner, lines, choose)


@pytest.mark.golden
@pytest.mark.parametrize("cleaner", CORPORA)
def test_chunks_of_edge_cases_add_up_to_the_whole(golden_dir: Path, cleaner: str) -> None:
    cases = edge_cases(golden_dir, cleaner)
    choose = random.Random(cleaner)
    for case in cases:
        check_random_cuts(cleaner, case.raw, choose)
    for _ in range(3):
        choose.shuffle(cases)
        check_random_cuts(cleaner, [line for case in cases for line in case.raw], choose)


@pytest.mark.golden
@pytest.mark.parametrize("cleaner", CORPORA)
def test_chunks_of_files_add_up_to_the_whole(golden_dir: Path, tmp_path: Path, cleaner: str) -> None:
    path = tmp_path / f"{cleaner}.train"
    lines = golden_file(golden_dir, "clean_more", cleaner).raw
    lines += [line for case in edge_cases(golden_dir, cleaner) for line in case.raw]
    path.write_bytes("\n".join(lines).encode())
    whole = cleaned(path, cleaner, 1 << 30)
    for chunk_bytes in (1, random.Random(cleaner).randint(50, 5000)):
        assert whole == cleaned(path, cleaner, chunk_bytes)


@pytest.mark.parametrize("cleaner", ["aochildes", "bnc_spoken", "open_subtitles", "qed"])
def test_text_with_a_blank_line_after_every_line_can_be_cut(cleaner: str) -> None:
    may_cut = CLEANERS[cleaner].may_cut
    assert may_cut("a text", "")
    assert may_cut("", "a text")


def test_a_title_of_wikipedia_never_starts_a_chunk() -> None:
    may_cut = CLEANERS["wikipedia"].may_cut
    assert not may_cut("", " = = = A = = = ")
    assert may_cut("", "= = =A")
    assert may_cut("= = = A = = =", "")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
def test_all_line_ends_are_read_and_no_text_is_lost(tmp_path: Path, end: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(f"one{end or chr(10)}two{end}".encode())
    assert cleaned(path, "none", 1) == ["one[PAR]", "two[PAR]"]


def test_chunks_know_their_lines_and_cover_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    data = "".join(f"line {number}\n" for number in range(1, 200)).encode()
    path.write_bytes(data)
    chunks = scan(path, CLEANERS["none"].may_cut, "strict", 100).chunks
    assert [chunk.start for chunk in chunks] == [sum(c.size for c in chunks[:i]) for i in range(len(chunks))]
    assert sum(chunk.size for chunk in chunks) == len(data)
    for chunk in chunks:
        assert read_texts(path, chunk, "text", "strict")[0][0] == f"line {chunk.first_line}"


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\n")
    assert cleaned(path, "none", 100) == ["one[PAR]"]


def test_rows_of_jsonl_are_texts_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in ("one\ntwo", "three")) + "\n")
    (chunk,) = scan(path, CLEANERS["none"].may_cut, "strict").chunks
    assert read_texts(path, chunk, "jsonl", "strict") == [["one", "two"], ["three"]]


@pytest.mark.parametrize("row", ["[" * 200_000, "{", "[]", '{"txt": "a"}', '{"text": 1}'])
def test_a_row_without_text_is_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n' + row + "\n")
    (chunk,) = scan(path, CLEANERS["none"].may_cut, "strict").chunks
    with pytest.raises(DataError, match=r"a\.jsonl:2: .*text"):
        read_texts(path, chunk, "jsonl", "strict")


@pytest.mark.parametrize("chunk_bytes", [1, 40, 1 << 20])
def test_bytes_that_are_not_utf8_are_named_by_line(tmp_path: Path, chunk_bytes: int) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"fine\n" * 16 + b"caf\xe9\nfine\n")
    with pytest.raises(DataError, match=r"a\.txt:17: byte 0xe9 .*--errors"):
        cleaned(path, "none", chunk_bytes)
    assert cleaned(path, "none", chunk_bytes, "ignore")[16] == "caf[PAR]"
    assert cleaned(path, "none", chunk_bytes, "replace")[16] == "caf\ufffd[PAR]"


@pytest.mark.parametrize("chunk_bytes", [10, 500, 1 << 20])
def test_a_line_of_no_end_is_refused_by_number(tmp_path: Path, chunk_bytes: int) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"fine\n" * 30 + b"x" * 3000 + b"\nfine\n")
    with pytest.raises(DataError, match=r"a\.txt:31: line longer than --max-line-bytes \(1,000\)"):
        scan(path, CLEANERS["none"].may_cut, "strict", chunk_bytes, max_line=1000)
    scan(path, CLEANERS["none"].may_cut, "strict", chunk_bytes, max_line=3000)
    with pytest.raises(DataError, match=r"a\.txt:31: line longer than --max-line-bytes \(2,999\)"):
        scan(path, CLEANERS["gutenberg"].may_cut, "strict", chunk_bytes, max_line=2999)
    scan(path, CLEANERS["gutenberg"].may_cut, "strict", chunk_bytes, max_line=3000)


def test_a_file_that_changes_after_the_scan_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\n")
    (chunk,) = scan(path, CLEANERS["none"].may_cut, "strict").chunks
    path.write_text("two\n")
    with pytest.raises(DataError, match="has changed"):
        read_texts(path, chunk, "text", "strict")


def test_half_a_character_in_a_row_is_named_or_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine \\ud83d\\ude42"}\n{"text": "half \\ud83d"}\n')
    (chunk,) = scan(path, CLEANERS["none"].may_cut, "strict").chunks
    with pytest.raises(DataError, match=r"a\.jsonl:2: an unpaired surrogate.*--errors"):
        read_texts(path, chunk, "jsonl", "strict")
    assert read_texts(path, chunk, "jsonl", "replace") == [["fine \U0001f642"], ["half \ufffd"]]
    assert read_texts(path, chunk, "jsonl", "ignore") == [["fine \U0001f642"], ["half "]]


def test_a_byte_order_mark_does_not_hide_a_repeated_turn(tmp_path: Path) -> None:
    path = tmp_path / "switchboard.train"
    path.write_bytes(b"\xef\xbb\xbfYes.\nYes.\nNo.\n")
    assert cleaned(path, "switchboard", 1) == cleaned(path, "switchboard", 1000) == ['"Yes."[PAR]', '"No."[PAR]']


@pytest.mark.parametrize(
    ("cleaner", "text"),
    [
        # Without the byte, one line end is left of two.
        ("gutenberg", b"a\nb\r\xff\nc\n\nd\n"),
        # Two line ends, so that the line before the cut is blank.
        ("open_subtitles", b"a\r\r\n\nb\nc\n"),
        # A byte order mark is one at the start of the file only; elsewhere the line counts as text.
        ("children_stories", b"a\n\nx\n\xef\xbb\xbf\n\nb\n\nc\n"),
        # The last line holds no character.
        ("open_subtitles", b"a\nb\n\xff"),
    ],
)
def test_line_ends_and_odd_bytes_do_not_move_a_cut(tmp_path: Path, cleaner: str, text: bytes) -> None:
    path = tmp_path / "text.train"
    path.write_bytes(text)
    assert cleaned(path, cleaner, 1, "ignore") == cleaned(path, cleaner, 1000, "ignore")
    assert len(scan(path, CLEANERS[cleaner].may_cut, "ignore", 1).chunks) > 1

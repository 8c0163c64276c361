"""Cutting: chunks put together are the file, and cleaning them one by one is cleaning the whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elc_composer.common.errors import DataError
from streaming_prep.chunks import read_texts, scan
from streaming_prep.cleaners import CLEANERS
from streaming_prep.sentences import split_sentences
from tests.conftest import require


def cleaned(path: Path, cleaner: str, chunk_bytes: int, errors: str = "strict") -> list[str]:
    found = scan(path, CLEANERS[cleaner].may_cut, errors, chunk_bytes)
    return [
        sentence
        for chunk in found.chunks
        for lines in read_texts(path, chunk, "text", errors)
        for sentence in split_sentences(CLEANERS[cleaner].clean(lines))
    ]


@pytest.mark.golden
@pytest.mark.parametrize("cleaner", sorted(set(CLEANERS) - {"none"}))
def test_cleaning_chunks_is_cleaning_the_whole(golden_dir: Path, cleaner: str) -> None:
    path = require(golden_dir / "clean" / f"{cleaner}.raw.txt")
    whole = cleaned(path, cleaner, 1 << 30)
    assert whole == cleaned(path, cleaner, 700)
    assert whole == cleaned(path, cleaner, 1)
    assert len(scan(path, CLEANERS[cleaner].may_cut, "strict", 700).chunks) > 3


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
    with pytest.raises(DataError, match=r"a\.txt:31: a line of more than 1,000 bytes"):
        scan(path, CLEANERS["none"].may_cut, "strict", chunk_bytes, max_line=1000)
    scan(path, CLEANERS["none"].may_cut, "strict", chunk_bytes, max_line=3000)
    with pytest.raises(DataError, match=r"a\.txt:31: a line of more than 2,999 bytes"):
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
    with pytest.raises(DataError, match=r"a\.jsonl:2: half a character.*--errors"):
        read_texts(path, chunk, "jsonl", "strict")
    assert read_texts(path, chunk, "jsonl", "replace") == [["fine \U0001f642"], ["half \ufffd"]]
    assert read_texts(path, chunk, "jsonl", "ignore") == [["fine \U0001f642"], ["half "]]


def test_a_byte_order_mark_does_not_hide_a_repeated_turn(tmp_path: Path) -> None:
    path = tmp_path / "switchboard.train"
    path.write_bytes(b"\xef\xbb\xbfYes.\nYes.\nNo.\n")
    assert cleaned(path, "switchboard", 1) == cleaned(path, "switchboard", 1000) == ['"Yes."[PAR]', '"No."[PAR]']


@pytest.mark.parametrize(
    "text",
    [
        b"a\n\xc2\x85\nb\n\nc\n",  # U+0085 is white space until ftfy makes it an ellipsis
        b"a\nb\r\xff\nc\n\nd\n",  # without the byte, one line end is left of two
    ],
)
def test_what_only_looks_like_a_blank_line_is_no_place_to_cut(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "gutenberg.train"
    path.write_bytes(text)
    assert cleaned(path, "gutenberg", 1, "ignore") == cleaned(path, "gutenberg", 1000, "ignore")
    assert len(scan(path, CLEANERS["gutenberg"].may_cut, "ignore", 1).chunks) > 1

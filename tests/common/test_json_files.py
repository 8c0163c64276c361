"""Damaged and hostile JSON is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from elc_composer.common.errors import DataError
from elc_composer.common.json_files import parse_json, read_json, read_json_lines

DAMAGED = {
    "cut": b'{"a": [1',
    "no text": b"\xff{}",
    "400 digits": b'{"a": ' + b"9" * 400 + b"}",
    "5,000 digits": b'{"a": -' + b"9" * 5000 + b"}",
    "900 levels": b"[" * 900 + b"]" * 900,
    "100,000 levels": b'{"a":' * 100_000,
    "65 levels": b"[" * 66 + b"]" * 66,
    "surrogate in a value": b'{"a": "\\ud800"}',
    "surrogate in a key": b'{"\\udfff": 1}',
    "empty": b"",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_documents_are_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"record\.json is not valid JSON") as refused:
        read_json(path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_what_is_valid(tmp_path: Path) -> None:
    assert parse_json('{"a": "\\ud83d\\ude00", "b": 9223372036854775807}', "x") == {"a": "😀", "b": 2**63 - 1}
    assert parse_json(b"[" * 64 + b"]" * 64, "x")


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "record.json").mkdir()
    with pytest.raises(DataError, match=r"record\.json cannot be read \(Is a directory\)"):
        read_json(tmp_path / "record.json")
    with pytest.raises(DataError, match=r"none\.jsonl cannot be read \(No such file or directory\)"):
        list(read_json_lines(tmp_path / "none.jsonl"))


def test_a_damaged_line_costs_that_line(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    lines = [b'{"step": 1}', *DAMAGED.values(), b"5", b"", b'{"step": 2}']
    path.write_bytes(b"\n".join(lines))
    records = list(read_json_lines(path))
    assert [record for record in records if record is not None] == [{"step": 1}, {"step": 2}]
    assert len(records) == len([line for line in lines if line.strip()])

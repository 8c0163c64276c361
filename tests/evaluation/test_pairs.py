"""Reading minimal pairs: damaged lines, hidden and odd files, damaged MDS folders."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from elc_composer.common.errors import DataError
from elc_composer.evaluation.minimal_pairs import read_minimal_pairs
from streaming_prep.convert_pairs import write_minimal_pairs
from tests.evaluation.tiny import write_pairs

WHOLE = json.dumps({"sentence_good": "a cat", "sentence_bad": "a cats", "UID": "causative", "pair_id": 1})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (WHOLE.replace("a cats", r"a \ud800 cat"), "not valid JSON .*surrogates not allowed"),
        (WHOLE.replace("causative", r"caus\udfffative"), "not valid JSON .*surrogates not allowed"),
        ("[" * 100_000, "not valid JSON"),
        (WHOLE.replace("1}", "[" * 900 + "]" * 900 + "}"), "levels of nesting"),
        (WHOLE.replace("1}", "1" * 400 + "}"), "integer of 400 digits"),
        (WHOLE.replace("1}", "1" * 5000 + "}"), "integer of 5000 digits"),
        ("[1]", "is not a JSON object"),
    ],
)
def test_damaged_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(f"{WHOLE}\n{line}\n")
    with pytest.raises(DataError, match=rf"a\.jsonl:2 .*{message}") as raised:
        read_minimal_pairs(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "name",
    [
        "._agreement.jsonl",
        "__MACOSX/._agreement.jsonl",
        "deep/.ipynb_checkpoints/a-checkpoint.jsonl",
        ".hidden/a.jsonl",
    ],
)
def test_hidden_files_and_folders_are_skipped(tmp_path: Path, name: str) -> None:
    pairs = read_minimal_pairs(write_pairs(tmp_path / "pairs"))
    file = tmp_path / "pairs" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"\x00\x05\x16\x07\xff")
    assert read_minimal_pairs(tmp_path / "pairs") == pairs


def test_folder_below_a_hidden_one_is_read(tmp_path: Path) -> None:
    assert len(read_minimal_pairs(write_pairs(tmp_path / ".cache" / "__MACOSX" / "pairs"))) == 10


@pytest.mark.parametrize(
    ("kind", "message"), [("folder", "a directory"), ("link", "a link without a target"), ("pipe", ".*a special file")]
)
def test_entry_that_is_not_a_file_is_named(tmp_path: Path, kind: str, message: str) -> None:
    entry = write_pairs(tmp_path / "pairs") / "x.jsonl"
    if kind == "folder":
        entry.mkdir()
    elif kind == "link":
        entry.symlink_to(tmp_path / "nowhere")
    else:
        os.mkfifo(entry)
    with pytest.raises(DataError, match=rf"x\.jsonl is {message}") as raised:
        read_minimal_pairs(tmp_path / "pairs")
    assert "\n" not in str(raised.value)


def test_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, folder = Path.open, write_pairs(tmp_path / "pairs")

    def refuse(path: Path, *arguments: Any, **settings: Any) -> Any:
        if path.name == "order.jsonl":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments, **settings)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"order\.jsonl cannot be read \(Permission denied\)"):
        read_minimal_pairs(folder)


def test_empty_path_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_pairs(tmp_path / "pairs"))
    with pytest.raises(DataError, match="an empty path does not exist"):
        read_minimal_pairs("")


def test_mds_is_checked_like_jsonl(tmp_path: Path) -> None:
    pairs = read_minimal_pairs(write_pairs(tmp_path / "pairs"))
    write_minimal_pairs([*pairs, pairs[0]], tmp_path / "twice")
    with pytest.raises(DataError, match=r"agreement\.jsonl:1|is already at"):
        read_minimal_pairs(tmp_path / "twice")


def test_missing_or_damaged_shard_is_named(tmp_path: Path) -> None:
    write_minimal_pairs(read_minimal_pairs(write_pairs(tmp_path / "pairs")), tmp_path / "mds")
    (shard,) = (tmp_path / "mds").glob("*.mds.zstd")
    content = shard.read_bytes()
    for damaged in (content[:40], None):
        shard.unlink()
        if damaged is not None:
            shard.write_bytes(damaged)
        with pytest.raises(DataError, match=f"{shard.name} cannot be read"):
            read_minimal_pairs(tmp_path / "mds")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "index.json is not valid JSON"),
        ("[]", "it has no list of shards"),
        ('{"shards": {}}', "it has no list of shards"),
        ('{"shards": [7]}', "shard 0 is 7, must be an object"),
        ('{"shards": [{"column_names": 3, "column_encodings": ["str"]}]}', "as many column_encodings as column_names"),
        ('{"shards": [{"column_names": ["a", "b"], "column_encodings": ["str"]}]}', "as many column_encodings"),
        ('{"shards": [{"column_names": [], "column_encodings": []}]}', "shard 0 lacks column_names or raw_data"),
        ('{"shards": [{"raw_data": "x"}]}', "shard 0 names its file as 'x'"),
    ],
)
def test_damaged_index_of_an_mds_folder_is_named(tmp_path: Path, index: str, message: str) -> None:
    write_minimal_pairs(read_minimal_pairs(write_pairs(tmp_path / "pairs")), tmp_path / "mds")
    (tmp_path / "mds" / "index.json").write_text(index)
    with pytest.raises(DataError, match=message) as raised:
        read_minimal_pairs(tmp_path / "mds")
    assert "\n" not in str(raised.value)


def test_linked_folders_and_upper_case_suffixes_are_read(tmp_path: Path) -> None:
    pair = '{"sentence_good": "a b", "sentence_bad": "b a", "UID": "%s", "pair_id": 0, "linguistics_term": "x"}\n'
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "one.jsonl").write_text(pair % "one")
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "TWO.JSONL").write_text(pair % "two")
    (tmp_path / "pairs" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pairs" / "circle").symlink_to(tmp_path / "pairs")
    assert sorted(pair.paradigm for pair in read_minimal_pairs(tmp_path / "pairs")) == ["one", "two"]


def test_error_for_a_path_that_is_too_long() -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_minimal_pairs("x" * 5000)

"""Minimal pairs that cannot be read as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elc_composer.common.errors import DataError
from elc_composer.evaluation.minimal_pairs import read_minimal_pairs
from streaming_prep.convert_pairs import write_minimal_pairs
from tests.evaluation.tiny import write_pairs

WHOLE = json.dumps({"sentence_good": "a cat", "sentence_bad": "a cats", "UID": "causative", "pair_id": 1})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (WHOLE.replace("a cats", r"a \ud800 cat"), "half a surrogate pair"),
        ("[" * 100_000, "is not a JSON object"),
        (WHOLE.replace("1}", "1" * 5000 + "}"), "is not a JSON object"),
    ],
)
def test_a_line_that_trips_the_tokenizer_or_the_parser_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(f"{WHOLE}\n{line}\n")
    with pytest.raises(DataError, match=rf"a\.jsonl:2.*{message}"):
        read_minimal_pairs(tmp_path)


def test_an_empty_path_is_not_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_pairs(tmp_path / "pairs"))
    with pytest.raises(DataError, match="an empty path does not exist"):
        read_minimal_pairs("")


def test_mds_is_checked_like_jsonl(tmp_path: Path) -> None:
    pairs = read_minimal_pairs(write_pairs(tmp_path / "pairs"))
    write_minimal_pairs([*pairs, pairs[0]], tmp_path / "twice")
    with pytest.raises(DataError, match=r"agreement\.jsonl:1|is already at"):
        read_minimal_pairs(tmp_path / "twice")


def test_a_missing_or_damaged_shard_is_named(tmp_path: Path) -> None:
    write_minimal_pairs(read_minimal_pairs(write_pairs(tmp_path / "pairs")), tmp_path / "mds")
    (shard,) = (tmp_path / "mds").glob("*.mds.zstd")
    content = shard.read_bytes()
    for damaged in (content[:40], None):
        shard.unlink()
        if damaged is not None:
            shard.write_bytes(damaged)
        with pytest.raises(DataError, match=f"{shard.name} cannot be read"):
            read_minimal_pairs(tmp_path / "mds")

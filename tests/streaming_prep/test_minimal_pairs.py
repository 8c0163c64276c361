"""Minimal pairs: published, filtered and supplement files, errors with line numbers, conversion to MDS and back."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.s3 import S3Prefix
from elc_composer.evaluation.blimp import BLIMP_PHENOMENA, SUPPLEMENT_PARADIGMS
from elc_composer.evaluation.minimal_pairs import read_minimal_pairs
from streaming_prep.cli import main
from streaming_prep.convert_pairs import convert_minimal_pairs, write_minimal_pairs
from tests.conftest import require
from tests.faults.s3 import local_s3

PAIR = {"sentence_good": "Cats sleep.", "sentence_bad": "Cats sleeps."}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with local_s3() as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        yield f"s3://{s3.bucket}"


def blimp(**changes: Any) -> dict[str, Any]:
    return (
        PAIR | {"UID": "passive_1", "field": "syntax", "linguistics_term": "argument_structure", "pair_id": 0} | changes
    )


def write(path: Path, *rows: dict[str, Any] | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_the_table_has_blimps_67_paradigms_in_12_phenomena() -> None:
    assert len(BLIMP_PHENOMENA) == 67
    assert len(set(BLIMP_PHENOMENA.values())) == 12
    assert BLIMP_PHENOMENA["animate_subject_trans"] == "argument_structure"


def test_real_pairs_agree_with_the_table(data_dir: Path) -> None:
    files = sorted(require(data_dir / "blimp" / "filtered").glob("*.jsonl"))
    for file in files:
        row = json.loads(file.read_text().split("\n", 1)[0])
        expected = {"s-selection": "argument_structure"}.get(row["linguistics_term"], row["linguistics_term"])
        assert BLIMP_PHENOMENA[row["UID"]] == expected
    pairs = read_minimal_pairs(require(data_dir / "blimp" / "supplement"))
    assert {pair.paradigm for pair in pairs} <= SUPPLEMENT_PARADIGMS


def test_every_form_of_line_is_read(tmp_path: Path) -> None:
    old = {
        key: value
        for key, value in blimp(UID="causative", field="syntax/semantics", pairID="7").items()
        if key != "pair_id"
    }
    write(tmp_path / "filtered" / "a.jsonl", blimp(linguistics_term="s-selection", pair_id=3), "", old)
    write(
        tmp_path / "supplement" / "turn_taking.jsonl",
        PAIR | {"row": 4},
        {"sentence_good": "A?\nB.", "sentence_bad": "A?\nC."},
    )
    write(tmp_path / "own.jsonl", blimp(UID="plural", linguistics_term="agreement", pair_id=0))
    pairs = read_minimal_pairs(tmp_path)
    assert [(pair.paradigm, pair.phenomenon, pair.field, pair.pair_id, pair.source) for pair in pairs] == [
        ("passive_1", "argument_structure", "syntax", "3", "filtered/a.jsonl:1"),
        ("causative", "argument_structure", "syntax_semantics", "7", "filtered/a.jsonl:3"),
        ("plural", "agreement", "syntax", "0", "own.jsonl:1"),
        ("turn_taking", "turn_taking", "supplement", "1", "supplement/turn_taking.jsonl:1"),
        ("turn_taking", "turn_taking", "supplement", "2", "supplement/turn_taking.jsonl:2"),
    ]
    assert pairs[-1].sentence_good == "A?\nB."
    assert read_minimal_pairs(tmp_path / "own.jsonl")[0].source == "own.jsonl:1"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"sentence_good": ', r"is not valid JSON"),
        ("[1]", r"not a JSON object"),
        ({"sentence_good": "Cats sleep."}, r"has no 'sentence_bad'"),
        (blimp(sentence_bad=" "), r"sentence_bad is ' ', expected a sentence"),
        (blimp(sentence_good=3), r"sentence_good is 3"),
        (blimp(UID=None), r"UID is None"),
        (blimp(), r"pair id 0 of passive_1 is already at a\.jsonl:1"),
        (PAIR | {"UID": "pasive_2", "pair_id": 5}, r"'pasive_2' is not a paradigm.*nearest: passive_2"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: dict[str, Any] | str, message: str) -> None:
    write(tmp_path / "a.jsonl", blimp(), line)
    with pytest.raises(DataError, match=rf"a\.jsonl:2\b.*{message}"):
        read_minimal_pairs(tmp_path)


def test_a_place_without_pairs_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there does not exist"):
        read_minimal_pairs(tmp_path / "there")
    with pytest.raises(DataError, match="holds no minimal pairs"):
        read_minimal_pairs(tmp_path)
    (tmp_path / "a.jsonl").write_bytes(b'{"sentence_good": "\xff"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:1 is not UTF-8"):
        read_minimal_pairs(tmp_path)


def test_mds_holds_the_same_pairs_and_the_same_bytes_every_time(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", *(blimp(pair_id=index) for index in range(20)))
    write(tmp_path / "in" / "hypernym.jsonl", PAIR | {"sentence_good": "naïve?\nYes."})
    assert convert_minimal_pairs(tmp_path / "in", tmp_path / "out") == {"passive_1": 20, "hypernym": 1}
    assert read_minimal_pairs(tmp_path / "out") == read_minimal_pairs(tmp_path / "in")
    assert (tmp_path / "out" / "index.json").exists()
    assert list((tmp_path / "out").glob("*.mds.zstd"))
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    convert_minimal_pairs(tmp_path / "in", tmp_path / "out")
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


def test_pairs_are_written_to_a_bucket_and_read_back(tmp_path: Path, bucket: str) -> None:
    write(tmp_path / "a.jsonl", *(blimp(pair_id=index) for index in range(5)))
    pairs = read_minimal_pairs(tmp_path)
    write_minimal_pairs(pairs, f"{bucket}/pairs")
    assert read_minimal_pairs(f"{bucket}/pairs") == pairs
    with pytest.raises(DataError, match="no MDS folder of minimal pairs at s3://"):
        read_minimal_pairs(f"{bucket}/elsewhere")


def test_a_missing_bucket_is_one_line(tmp_path: Path, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "a.jsonl", blimp())
    assert main(["minimal-pairs", str(source), "--out", f"{bucket}-gone/pairs"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"cannot write to {bucket}-gone/pairs" in line


def test_an_interrupted_upload_never_looks_complete(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_minimal_pairs(read_minimal_pairs(write(tmp_path / "a.jsonl", blimp(), blimp(pair_id=1))), f"{bucket}/pairs")
    really = S3Prefix.upload

    def all_but_the_index(self: S3Prefix, file: Path, name: str) -> None:
        if name == "index.json":
            raise ConnectionError("the line is dead")
        really(self, file, name)

    monkeypatch.setattr(S3Prefix, "upload", all_but_the_index)
    with pytest.raises(ConfigError, match="the line is dead"):
        write_minimal_pairs(read_minimal_pairs(write(tmp_path / "b.jsonl", blimp(pair_id=2))), f"{bucket}/pairs")
    with pytest.raises(DataError, match="no MDS folder of minimal pairs"):
        read_minimal_pairs(f"{bucket}/pairs")


def test_a_failed_write_keeps_the_earlier_pairs(tmp_path: Path) -> None:
    pairs = read_minimal_pairs(write(tmp_path / "a.jsonl", blimp(), blimp(pair_id=1)))

    def full_disk() -> Iterator[Any]:
        yield pairs[0]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_minimal_pairs(full_disk(), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    write_minimal_pairs(pairs, tmp_path / "out")
    with pytest.raises(OSError, match="No space"):
        write_minimal_pairs(full_disk(), tmp_path / "out")
    assert read_minimal_pairs(tmp_path / "out") == pairs


def test_other_files_are_kept_and_bad_pairs_write_nothing(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", blimp())
    write(tmp_path / "out" / "notes.txt", "mine")
    with pytest.raises(DataError, match="holds other files"):
        write_minimal_pairs(read_minimal_pairs(tmp_path / "in"), tmp_path / "out")
    write(tmp_path / "in" / "b.jsonl", "{}")
    with pytest.raises(DataError, match=r"b\.jsonl:1"):
        convert_minimal_pairs(tmp_path / "in", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_mds_of_something_else_is_refused(tmp_path: Path) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=str(tmp_path / "x"), columns={"text": "str"}) as writer:
        writer.write({"text": "a"})
    with pytest.raises(DataError, match="lack the columns"):
        read_minimal_pairs(tmp_path / "x")

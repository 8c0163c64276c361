"""Damaged JSON files of a prepared folder and of a work folder: one-line errors, or the job is repeated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elc_composer.common.errors import DataError
from streaming_prep.cli import main
from streaming_prep.manifest_reading import parse_manifest, read_manifest
from tests.streaming_prep.corpora import build_small, contents, make_corpus

NESTED = "[" * 900 + "]" * 900


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"), lines=40)


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("damaged") / "out"
    build_small(corpus, out, keep_work=True)
    return out


@pytest.fixture
def prepared(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def replaced(path: Path, content: bytes | str | None) -> None:
    """Write the content; None puts a directory in the place of the file."""
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


BROKEN: dict[str, bytes | str | None] = {
    "empty": "",
    "cut": '{"format_version": 1, "sou',
    "not utf-8": b'{"format_version": 1, "inputs": "\xff"}',
    "digits": '{"format_version": ' + "9" * 400 + "}",
    "more digits": '{"format_version": 1, "sources": [' + "9" * 5000 + "]}",
    "nested": '{"format_version": 1, "sources": ' + NESTED + "}",
    "surrogate": '{"format_version": 1, "inputs": "\\ud83d"}',
    "list": "[]",
    "number": "7",
    "null": "null",
    "directory": None,
}


def one_line_error(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(command) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("command", ["verify", "stats", "sample"])
def test_a_broken_manifest_is_a_one_line_error(
    prepared: Path, capsys: pytest.CaptureFixture[str], name: str, command: str
) -> None:
    replaced(prepared / "manifest.json", BROKEN[name])
    assert str(prepared / "manifest.json") in one_line_error([command, str(prepared)], capsys)


@pytest.mark.parametrize("name", [name for name in BROKEN if name not in ("list", "number", "null", "directory")])
def test_a_build_replaces_a_broken_manifest(prepared: Path, whole: Path, corpus: Path, name: str) -> None:
    replaced(prepared / "manifest.json", BROKEN[name])
    build_small(corpus, prepared, keep_work=True)
    assert (prepared / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()


def test_a_directory_called_manifest_json_is_left_alone(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replaced(prepared / "manifest.json", None)
    command = ["build", "--corpus", str(prepared), "--out", str(prepared)]
    assert "exists but was not written by streaming_prep" in one_line_error(command, capsys)


def test_a_manifest_without_read_permission_is_a_one_line_error(
    prepared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    really = Path.read_bytes

    def forbidden(self: Path) -> bytes:  # root may read everything
        if self.name == "manifest.json":
            raise PermissionError(13, "Permission denied", str(self))
        return really(self)

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    assert "manifest.json cannot be read (Permission denied)" in one_line_error(["verify", str(prepared)], capsys)
    command = ["build", "--corpus", str(prepared), "--out", str(prepared)]
    assert "no permission for" in one_line_error(command, capsys)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.pop("format_version"), "no format version"),
        (lambda m: m.update(format_version=2), "format version 2"),
        (lambda m: m.update(format_version=True), "no format version|format version True"),
        (lambda m: m.update(inputs=None), "inputs is not a string"),
        (lambda m: m.update(sources={}), "sources is not a list"),
        (lambda m: m["sources"].append(3), "an entry of sources is not a JSON object"),
        (lambda m: m["sources"][0].update(words=-1), "words is not a number of 0 or more"),
        (lambda m: m["sources"][0].update(words=True), "words is not a number"),
        (lambda m: m["sources"][0].update(words="3"), "words is not a number"),
        (lambda m: m["sources"][0].update(tokens=1.5), "tokens is not a number"),
        (lambda m: m["sources"][0].pop("documents"), "documents is not a number"),
        (lambda m: m["sources"][0].update(corpus=7), "corpus is not a string"),
        (lambda m: m.update(tokenizer=[]), "tokenizer is not a JSON object"),
        (lambda m: m["tokenizer"].update(vocab_size=None), "vocab_size is not a number"),
        (lambda m: m["tokenizer"].update(file="../tokenizer.json"), "expected a path within the folder"),
        (lambda m: m["tokenizer"].update(file="/etc/passwd"), "expected a path within the folder"),
        (lambda m: m.update(settings=None), "settings is not a JSON object"),
        (lambda m: m.update(versions=3), "versions is not a JSON object"),
        (lambda m: m.update(outputs={}), "outputs is empty"),
        (lambda m: m.update(outputs=[]), "outputs is not a JSON object"),
        (lambda m: m["outputs"].update({"seq_x/train": {}}), "outputs has the name 'seq_x/train'"),
        (lambda m: m["outputs"].update({"seq_16/train": None}), "outputs.seq_16/train is not a JSON object"),
        (lambda m: m["outputs"]["seq_16/train"].update(shards=7), "shards is not a list"),
        (lambda m: m["outputs"]["seq_16/train"].update(utilisation=float("nan")), "utilisation is not a finite"),
        (lambda m: m["outputs"]["seq_16/train"]["shards"][0].update(file="../x"), "expected a plain file name"),
        (lambda m: m["outputs"]["seq_16/train"]["shards"][0].update(bytes={}), "bytes is not a number"),
    ],
)
def test_each_wrong_value_of_a_manifest_is_named(
    whole: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    manifest = json.loads((whole / "manifest.json").read_text())
    change(manifest)
    with pytest.raises(DataError, match=f"place/manifest.json .*({reason}).*; rebuild the folder"):
        parse_manifest(json.dumps(manifest).encode(), "place/manifest.json")


def test_a_manifest_reads_back_as_written(whole: Path) -> None:
    assert read_manifest(whole).to_json() == json.loads((whole / "manifest.json").read_text())


def test_a_wrong_path_is_told_from_an_unfinished_build(prepared: Path, tmp_path: Path) -> None:
    cases = {
        tmp_path / "nowhere": "nowhere does not exist; give the folder that",
        prepared / "tokenizer" / "report.md": "is a file; give the folder that",
        prepared / "seq_16" / "train": f"is a part of the prepared folder {prepared}; give that one",
        prepared / "tokenizer": f"is a part of the prepared folder {prepared}; give that one",
    }
    for folder, message in cases.items():
        with pytest.raises(DataError, match=message):
            read_manifest(folder)
    (prepared / "manifest.json").unlink()
    with pytest.raises(DataError, match=rf"the build did not finish; rerun .* --out {prepared}` .* to resume"):
        read_manifest(prepared)
    shutil.rmtree(prepared / ".work")
    with pytest.raises(DataError, match="not a prepared folder, or the build did not finish; rerun"):
        read_manifest(prepared)


INDEXES: dict[str, bytes | str | None] = BROKEN | {
    "no shards": "{}",
    "shards of another type": '{"shards": 7}',
    "entry of another type": '{"shards": [7]}',
    "uncompressed": '{"shards": [{"zip_data": null, "raw_data": {"basename": "x"}, "samples": 1}]}',
    "samples of another type": '{"shards": [{"zip_data": {}, "raw_data": {}, "samples": "many"}]}',
    "nested samples": '{"shards": [{"zip_data": {}, "raw_data": {}, "samples": ' + NESTED + "}]}",
}


@pytest.mark.parametrize("name", INDEXES)
def test_a_broken_index_is_named(prepared: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    replaced(prepared / "seq_16" / "train" / "index.json", INDEXES[name])
    assert main(["verify", str(prepared)]) == 1
    assert "seq_16/train/index.json" in capsys.readouterr().err
    assert "seq_16/train/index.json" in one_line_error(["sample", str(prepared), "--output", "seq_16/train"], capsys)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_records_of_jobs_and_settings_cost_those_jobs_alone(
    whole: Path, corpus: Path, tmp_path: Path, name: str
) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    (out / "manifest.json").unlink()
    for stage in ("clean", "tokenize", "plan", "shard"):
        replaced(min((out / ".work" / stage).rglob("*.json")), BROKEN[name])
    replaced(out / ".work" / "inputs.json", BROKEN[name])
    build_small(corpus, out)
    assert contents(out) == {file: data for file, data in contents(whole).items() if not file.startswith(".work/")}


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["result"].update(words="many"),
        lambda record: record["result"].update(words=0),
        lambda record: record["result"].clear(),
        lambda record: record.update(sizes=[]),
    ],
)
def test_a_changed_record_of_a_job_is_not_believed(
    whole: Path, corpus: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    (out / "manifest.json").unlink()
    path = min((out / ".work" / "clean").rglob("*.json"))
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    build_small(corpus, out)
    assert (out / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()


@pytest.mark.parametrize("content", [b"[{}, {}", b"[[], []]", b'[{"a": "b"}, {}]', b"7", b"\xff"])
def test_broken_counts_are_a_one_line_error(tmp_path: Path, content: bytes) -> None:
    from streaming_prep.word_counts import PieceCounts

    (tmp_path / "counts").write_bytes(content)
    with pytest.raises(DataError, match=f"{tmp_path / 'counts'} "):
        PieceCounts().add_json(tmp_path / "counts")

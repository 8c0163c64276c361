"""The tokenizer of a build: treatment of [PAR] and [TAB] in training, its report, the frequencies of its pieces."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from streaming_prep.cli import main
from streaming_prep.manifest_reading import read_manifest
from tests.streaming_prep.corpora import build_small, make_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"), lines=60)


@pytest.fixture(scope="module")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    build_small(corpus, out)
    return out


def test_published_markers_are_recorded_and_change_the_tokenizer(
    prepared: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--vocab-size",
        "200",
        "--min-frequency",
        "2",
        "--seq-length",
        "16",
        "--tokenizer-markers",
        "published",
    ]
    out = tmp_path / "out"
    assert main(["build", "--corpus", str(corpus), "--out", str(out), "--workers", "1", *arguments]) == 0
    assert read_manifest(out).settings["tokenizer_markers"] == "published"
    assert ".[" in Tokenizer.from_file(str(out / "tokenizer" / "tokenizer.json")).get_vocab()
    assert read_manifest(prepared).settings["tokenizer_markers"] == "removed"
    assert ".[" not in Tokenizer.from_file(str(prepared / "tokenizer" / "tokenizer.json")).get_vocab()
    arguments = ["--tokenizer", str(out / "tokenizer"), "--tokenizer-markers", "published"]
    assert main(["build", "--corpus", str(corpus), "--out", str(tmp_path / "other"), *arguments]) == 2
    assert "--tokenizer-markers has no effect with --tokenizer" in capsys.readouterr().err


def test_the_frequencies_beside_the_tokenizer_are_those_of_the_train_tokens(
    prepared: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = (prepared / "tokenizer" / "frequencies.tsv").read_text()
    rows = [line.split("\t") for line in written.splitlines()[1:]]
    manifest = read_manifest(prepared)
    assert len(rows) == manifest.tokenizer.vocab_size
    train = [source for source in manifest.sources if source.split == "train"]
    assert sum(int(count) for _, _, count in rows) == sum(source.tokens for source in train)
    command = ["tokenizer-report", str(prepared / "tokenizer"), "--corpus", str(corpus)]
    assert main([*command, "--frequencies", str(tmp_path / "sub" / "f.tsv")]) == 0
    assert (tmp_path / "sub" / "f.tsv").read_text() == written
    assert "frequencies of all pieces: " in capsys.readouterr().out


def test_the_report_beside_the_tokenizer_is_what_the_command_prints(
    prepared: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tokenizer-report", str(prepared / "tokenizer"), "--corpus", str(corpus)]) == 0
    printed = capsys.readouterr().out
    assert "coverage" in printed
    assert (prepared / "tokenizer" / "report.md").read_text() == f"```text\n{printed}```\n"

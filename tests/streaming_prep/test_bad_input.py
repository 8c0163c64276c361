"""Invalid input and unusable places: one line, exit code 2, and no manifest."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from streaming_prep.cli import main
from tests.streaming_prep.corpora import contents, make_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return make_corpus(tmp_path / "corpus", lines=40)


def run(corpus: Path, out: Path | str, *more: str) -> int:
    settings = ["--vocab-size", "150", "--min-frequency", "2", "--seq-length", "16", "--chunk-bytes", "1000"]
    return main(["build", "--corpus", str(corpus), "--out", str(out), "--workers", "1", *settings, *more])


def refused(code: int, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr, after checking that there is just one and no finished folder."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert len(lines) == 1
    assert not (out / "manifest.json").exists()
    return lines[0]


def test_an_empty_file(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (corpus / "cbt.train").touch()
    assert "cbt.train is empty" in refused(run(corpus, tmp_path / "out"), tmp_path / "out", capsys)


def test_a_missing_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(run(tmp_path / "nowhere", tmp_path / "out"), tmp_path / "out", capsys)
    assert f"{tmp_path / 'nowhere'} does not exist" in line


def test_nothing_left_after_cleaning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "qed.train").write_text("\n\n")
    line = refused(run(tmp_path / "corpus", tmp_path / "out"), tmp_path / "out", capsys)
    assert "no text is left" in line


def test_bytes_that_are_not_utf8(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = corpus / "homemade.train"
    file.write_bytes(file.read_bytes() + b"na\xefve\n")
    line = refused(run(corpus, tmp_path / "out"), tmp_path / "out", capsys)
    assert "homemade.train:41: byte 0xef is not UTF-8" in line
    assert run(corpus, tmp_path / "out", "--errors", "replace") == 0


def test_a_line_of_50_mb(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(corpus / "homemade.train", "ab") as file:
        file.write(b"word " * (10 << 20) + b"\n")
    line = refused(run(corpus, tmp_path / "out"), tmp_path / "out", capsys)
    assert "homemade.train:41: line longer than --max-line-bytes (16,777,216)" in line


def test_a_build_resumes_after_a_full_disk(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    really, calls = os.fsync, iter(range(1000))

    def full_after_a_while(handle: int) -> None:
        if next(calls) > 20:
            raise OSError(errno.ENOSPC, "No space left on device", "shard")
        really(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_after_a_while)
        line = refused(run(corpus, tmp_path / "out"), tmp_path / "out", capsys)
    assert "no space left for shard; free some space" in line
    assert run(corpus, tmp_path / "out") == 0
    assert run(corpus, tmp_path / "undisturbed") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_no_permission_to_write(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    # Root, as in many containers, may write everywhere.
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", forbidden)
        line = refused(run(corpus, tmp_path / "out"), tmp_path / "out", capsys)
    assert f"no permission for {tmp_path / 'out'}" in line


def test_a_file_where_the_folder_should_be(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert "file/out" in refused(run(corpus, tmp_path / "file" / "out"), tmp_path / "file" / "out", capsys)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--seq-length", "2"], "--seq-length"),
        (["--vocab-size", "5"], "--vocab-size 5"),
        (["--tokenizer", "missing.json"], "missing.json"),
        (["--cleaner", "gutenburg"], "gutenberg"),
        (["--workers", "0"], "--workers 0"),
        (["--document-aware"], "--packing concat"),
    ],
)
def test_invalid_settings(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], word: str
) -> None:
    out = tmp_path / "out"
    base = ["build", "--corpus", str(corpus), "--out", str(out), "--workers", "1"]
    assert word in refused(main([*base, *arguments]), out, capsys)


def test_two_builds_in_one_folder(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl

    out = tmp_path / "out"
    (out / ".work").mkdir(parents=True)
    with open(out / ".work" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another build uses" in refused(run(corpus, out), out, capsys)


def test_an_invalid_tokenizer_file_stops_the_build_before_any_work(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (tmp_path / "tokenizer.json").write_text("{}")
    arguments = ["--corpus", str(corpus), "--out", str(out), "--tokenizer", str(tmp_path / "tokenizer.json")]
    assert "is not a tokenizer" in refused(main(["build", *arguments]), out, capsys)
    assert not out.exists()


def test_a_manifest_of_another_program_is_kept(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text('{"name": "an app"}')
    assert run(corpus, out) == 2
    assert "exists but was not written by streaming_prep" in capsys.readouterr().err
    assert contents(out) == {"manifest.json": b'{"name": "an app"}'}


def test_a_work_folder_with_other_files_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "scratch"
    work.mkdir()
    (work / "thesis.tmp").write_text("precious")
    line = refused(run(corpus, tmp_path / "out", "--work", str(work)), tmp_path / "out", capsys)
    assert "holds other files (thesis.tmp)" in line
    assert (work / "thesis.tmp").read_text() == "precious"


def test_a_failed_rebuild_keeps_the_earlier_build(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(corpus, out) == 0
    before = contents(out)
    (corpus / "homemade.train").write_bytes(b"na\xefve\n")
    assert run(corpus, out) == 2
    assert {name: data for name, data in contents(out).items() if not name.startswith(".work/")} == before
    assert main(["verify", str(out)]) == 0

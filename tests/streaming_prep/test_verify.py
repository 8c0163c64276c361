"""The commands verify, stats, sample and tokenizer-report on intact and damaged folders."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from pathlib import Path

import pytest

from streaming_prep.cli import main
from tests.streaming_prep.corpora import build_small, make_corpus


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    build_small(make_corpus(folder / "corpus"), folder / "out")
    return folder / "out"


@pytest.fixture
def prepared(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def test_a_whole_folder_passes(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(whole)]) == 0
    captured = capsys.readouterr()
    assert captured.err.strip() == ""
    assert "seq_16/train" in captured.out
    lines = captured.out.splitlines()
    headings = [number for number, line in enumerate(lines) if re.match(r"seq_\d+/\w+: \d+ shards, .* intact", line)]
    assert len(headings) == 4
    for number in headings:
        assert re.match(r"  ['\"]", lines[number + 1]), "decoded segments follow their heading"


@pytest.mark.parametrize("place", [0.0, 0.5, 0.999])
def test_a_flipped_bit_is_found_and_its_shard_named(
    prepared: Path, capsys: pytest.CaptureFixture[str], place: float
) -> None:
    shard = prepared / "seq_16" / "train" / "shard.00001.mds.zstd"
    data = bytearray(shard.read_bytes())
    data[int(place * len(data))] ^= 1
    shard.write_bytes(data)
    assert main(["verify", str(prepared)]) == 1
    assert capsys.readouterr().err.strip() == (
        "streaming_prep: seq_16/train/shard.00001.mds.zstd is damaged: its bytes are not those that were written"
    )


@pytest.mark.parametrize(
    "file", ["seq_48/dev/shard.00000.mds.zstd", "seq_48/dev/index.json", "tokenizer/tokenizer.json"]
)
def test_a_missing_or_shortened_file_is_named(prepared: Path, capsys: pytest.CaptureFixture[str], file: str) -> None:
    data = (prepared / file).read_bytes()
    (prepared / file).write_bytes(data[:-7])
    assert main(["verify", str(prepared)]) == 1
    assert file in capsys.readouterr().err
    (prepared / file).unlink()
    assert main(["verify", str(prepared)]) == 1
    assert file in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "words"), [("tokens", 5, "the manifest says"), ("samples", 1, "the manifest says")]
)
def test_wrong_counts_are_found(
    prepared: Path, capsys: pytest.CaptureFixture[str], key: str, value: int, words: str
) -> None:
    change_manifest(prepared, ["outputs", "seq_48/dev", key], value)
    assert main(["verify", str(prepared)]) == 1
    assert words in capsys.readouterr().err


def test_ids_beyond_the_vocabulary_are_found(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_manifest(prepared, ["tokenizer", "vocab_size"], 20)
    assert main(["verify", str(prepared)]) == 1
    assert "the vocabulary ends at 19" in capsys.readouterr().err


def test_a_folder_without_a_manifest_is_refused(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for damage in ("{", None):
        if damage is None:
            (prepared / "manifest.json").unlink()
        else:
            (prepared / "manifest.json").write_text(damage)
        for command in ("verify", "stats", "sample"):
            assert main([command, str(prepared)]) == 2
            assert "manifest.json" in capsys.readouterr().err


def test_stats_draw_the_picture_beside_the_data_or_at_out(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["stats", str(prepared)]) == 0
    assert f"segment lengths: {prepared / 'segment_lengths.png'}" in capsys.readouterr().out
    assert (prepared / "segment_lengths.png").read_bytes().startswith(b"\x89PNG")
    assert main(["verify", str(prepared)]) == 0
    assert main(["stats", str(prepared), "--out", "sub/mine.png"]) == 0
    assert [path.name for path in elsewhere.rglob("*.*")] == ["mine.png"]
    assert main(["stats", str(prepared), "--out", "mine.txt"]) == 2
    assert "--out is mine.txt, must end in .png" in capsys.readouterr().err


def test_stats_count_words_and_tokens_and_draw_lengths(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "lengths.png"
    assert main(["stats", str(whole), "--out", str(picture)]) == 0
    manifest = json.loads((whole / "manifest.json").read_text())
    words = sum(source["words"] for source in manifest["sources"] if source["split"] == "train")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["all", "train", f"{words:,}"] in [row[:3] for row in rows]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_sample_prints_the_same_segments_for_the_same_seed(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for seed in ("3", "3", "4"):
        assert main(["sample", str(whole), "--output", "seq_16/train", "--count", "4", "--seed", seed]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != printed[2]
    assert printed[0].count("--- seq_16/train segment") == 4
    assert "[PAR]" in printed[0]
    assert main(["sample", str(whole), "--output", "seq_64/train"]) == 2
    assert "give --output one of seq_16/dev, seq_16/train" in capsys.readouterr().err


def test_the_tokenizer_report_counts_words_and_shows_pieces(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = str(whole.parent / "corpus")
    assert main(["tokenizer-report", str(whole / "tokenizer"), "--corpus", corpus, "--split", "dev"]) == 0
    printed = capsys.readouterr().out
    assert "coverage          100.000000%" in printed
    assert "a word)" in printed
    assert "Ġ" in printed
    assert main(["tokenizer-report", str(whole / "tokenizer"), "--corpus", corpus, "--split", "test"]) == 2
    assert "--split test" in capsys.readouterr().err


def change_manifest(folder: Path, keys: list[str], value: int) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    place = manifest
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("file", ["manifest.json", "seq_16/train/index.json", "tokenizer/tokenizer.json"])
def test_no_damage_gives_a_traceback(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    generator = random.Random(0)
    data = (prepared / file).read_bytes()
    quotes = [place for place, byte in enumerate(data) if byte == ord('"')]
    found = 0
    for place in generator.sample(quotes, 25):
        (prepared / file).write_bytes(data[: place + 1] + bytes([data[place + 1] ^ 1]) + data[place + 2 :])
        found += main(["verify", str(prepared)]) != 0
        main(["sample", str(prepared), "--count", "1"])
    capsys.readouterr()
    assert found == 25 or file == "manifest.json", "the manifest is covered by no digest"


def test_a_closed_output_pipe_is_not_an_error(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        assert main(["sample", str(whole)]) == 141
    assert capsys.readouterr().err == ""

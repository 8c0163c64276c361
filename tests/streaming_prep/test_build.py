"""Builds from end to end: their files, reading by Streaming, and independence of workers, chunks and earlier builds."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streaming import StreamingDataset
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from elc_composer.data.streaming.shared_prefix import random_prefixes
from streaming_prep.cleaners import CLEANERS
from streaming_prep.cli import main
from streaming_prep.reading import open_prepared
from streaming_prep.sentences import split_sentences
from tests.conftest import require
from tests.streaming_prep.corpora import build_small, contents, make_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    build_small(corpus, out)
    return out


def segments(folder: Path, output: str) -> list[np.ndarray]:
    with open_prepared(str(folder)) as opened:
        return [segment for shard in opened.segments(output) for segment in shard]


def test_the_folder_holds_only_the_files_that_training_reads(prepared: Path) -> None:
    names = set(contents(prepared))
    assert {"manifest.json", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"} <= names
    folders = {name.rsplit("/", 1)[0] for name in names if name.startswith("seq_")}
    assert folders == {"seq_16/train", "seq_16/dev", "seq_48/train", "seq_48/dev"}
    tokenizer = r"tokenizer/(.*\.json|report\.md|frequencies\.tsv)"
    patterns = rf"manifest\.json|{tokenizer}|seq_\d+/(train|dev)/(index\.json|shard\.\d{{5}}\.mds\.zstd)"
    assert all(re.fullmatch(patterns, name) for name in names)
    assert "seq_16/train/shard.00001.mds.zstd" in names, "the corpus is large enough for several shards"


def test_the_manifest_describes_sources_and_shards(prepared: Path, corpus: Path) -> None:
    manifest = json.loads((prepared / "manifest.json").read_text())
    assert manifest["format_version"] == 1
    assert len(manifest["sources"]) == 6
    for source in manifest["sources"]:
        data = (corpus / source["file"]).read_bytes()
        assert source["sha256"] == hashlib.sha256(data).hexdigest()
        assert (source["bytes"], source["words"]) == (len(data), len(data.decode().split()))
    for split in ("train", "dev"):
        tokens = sum(source["tokens"] for source in manifest["sources"] if source["split"] == split)
        assert manifest["outputs"][f"seq_16/{split}"]["source_tokens"] == tokens
    for name, output in manifest["outputs"].items():
        assert output["column_dtype"] == "uint16"
        held = segments(prepared, name)
        assert (output["samples"], output["tokens"]) == (len(held), sum(map(len, held)))
        for shard in output["shards"]:
            data = (prepared / name / shard["file"]).read_bytes()
            assert (shard["sha256"], shard["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    tokenizer = manifest["tokenizer"]
    assert tokenizer["sha256"] == hashlib.sha256((prepared / tokenizer["file"]).read_bytes()).hexdigest()
    assert tokenizer["vocab_size"] == len(AutoTokenizer.from_pretrained(prepared / "tokenizer"))


def test_streaming_reads_every_segment_in_order(prepared: Path, tmp_path: Path) -> None:
    name = "seq_48/train"
    with random_prefixes():
        dataset = StreamingDataset(
            remote=str(prepared / name), local=str(tmp_path), batch_size=1, validate_hash="sha256"
        )
    expected = segments(prepared, name)
    assert len(dataset) == len(expected)
    for index, segment in enumerate(expected):
        read: Any = dataset[index]["input_ids"]
        assert read.dtype == np.uint16
        np.testing.assert_array_equal(read, segment)


@pytest.mark.parametrize("changes", [{}, {"workers": 2}, {"chunk_bytes": 1 << 20}], ids=str)
def test_another_build_gives_the_same_bytes(
    prepared: Path, corpus: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    build_small(corpus, tmp_path / "out", **changes)
    assert contents(tmp_path / "out") == contents(prepared)


@pytest.mark.slow
def test_shards_written_by_several_processes_are_the_same(
    prepared: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming_prep.outputs._TOKENS_WORTH_WORKERS", 0)
    build_small(corpus, tmp_path / "out", workers=2)
    assert contents(tmp_path / "out") == contents(prepared)


def test_a_complete_build_is_not_touched(prepared: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*") if path.is_file()}
    arguments = ["--vocab-size", "200", "--min-frequency", "2", "--seq-length", "16", "48", "--shard-bytes", "12000"]
    assert main(["build", "--corpus", str(corpus), "--out", str(prepared), "--workers", "1", *arguments]) == 0
    assert "complete already" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in prepared.rglob("*") if path.is_file()}


def test_concat_holds_the_text_once(corpus: Path, tmp_path: Path) -> None:
    manifest = build_small(corpus, tmp_path / "out", packing="concat")
    figures = manifest.outputs["seq_48/train"]
    assert (figures.duplication, figures.dropped) == (0, 0)
    assert figures.tokens == figures.source_tokens
    assert figures.utilisation > 0.999
    aware = build_small(corpus, tmp_path / "aware", packing="concat", document_aware=True).outputs["seq_48/train"]
    assert aware.tokens == aware.source_tokens
    assert aware.utilisation < figures.utilisation


def test_a_given_tokenizer_is_used_unchanged(prepared: Path, corpus: Path, tmp_path: Path) -> None:
    build_small(corpus, tmp_path / "out", tokenizer=prepared / "tokenizer")
    again = contents(tmp_path / "out")
    assert {name: data for name, data in again.items() if name.startswith(("seq_", "tokenizer/"))} == {
        name: data for name, data in contents(prepared).items() if name != "manifest.json"
    }


def test_more_than_65536_entries_are_written_as_uint32(prepared: Path, corpus: Path, tmp_path: Path) -> None:
    description = json.loads((prepared / "tokenizer" / "tokenizer.json").read_text())
    vocabulary = description["model"]["vocab"]
    vocabulary |= {f"unmet{index}": index for index in range(len(vocabulary), 70_000)}
    vocabulary["Ġdog"], vocabulary["unmet69999"] = 69_999, vocabulary["Ġdog"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    out = tmp_path / "out"
    manifest = build_small(corpus, out, tokenizer=tmp_path / "tokenizer.json")
    assert {output.column_dtype for output in manifest.outputs.values()} == {"uint32"}
    small = np.concatenate(segments(prepared, "seq_48/dev")).astype(np.int64)
    small[small == vocabulary["unmet69999"]] = 69_999
    large = np.concatenate(segments(out, "seq_48/dev"))
    assert large.dtype == np.uint32
    np.testing.assert_array_equal(large, small)
    assert large.max() == 69_999
    with random_prefixes():
        dataset = StreamingDataset(remote=str(out / "seq_48/dev"), local=str(tmp_path / "local"), batch_size=1)
    read: Any = dataset[0]["input_ids"]
    np.testing.assert_array_equal(read, segments(out, "seq_48/dev")[0])
    assert main(["verify", str(out)]) == 0


def test_other_settings_replace_all_files_of_the_folder(prepared: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(prepared, out)
    build_small(corpus, out, seq_lengths=[32])
    build_small(corpus, tmp_path / "fresh", seq_lengths=[32])
    assert contents(out) == contents(tmp_path / "fresh")


def raw_lines(golden_dir: Path, corpus: str) -> list[str]:
    return (golden_dir / "clean" / f"{corpus}.raw.txt").read_bytes().decode().removesuffix("\n").split("\n")


@pytest.mark.golden
def test_raw_text_to_segments_as_published(golden_dir: Path, tmp_path: Path) -> None:
    lengths = [
        int(match[1])
        for path in sorted(require(golden_dir / "segment").glob("segments_*.npz"))
        if (match := re.fullmatch(r"segments_(\d+)\.npz", path.name))
    ]
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    raw = [name for name in CLEANERS if (golden_dir / "clean" / f"{name}.raw.txt").exists()]
    if not lengths or len(raw) < len(CLEANERS) - 1:
        pytest.skip(f"{golden_dir} holds no segments, or not the raw text of every corpus")
    order = [name for name in CLEANERS if name in raw]
    sentences = [line for name in order for line in split_sentences(CLEANERS[name].clean(raw_lines(golden_dir, name)))]
    segmented = require(golden_dir / "segment" / "segmented.txt").read_text().split("\n")
    if Counter(filter(None, sentences)) != Counter(filter(None, segmented)):
        pytest.skip(f"{golden_dir / 'segment'} was not made from the text in {golden_dir / 'clean'}")
    for name in raw:
        shutil.copy(golden_dir / "clean" / f"{name}.raw.txt", corpus / f"{name}.train")
    tokenizer = require(golden_dir / "tokenizer_small.json")
    build_small(corpus, tmp_path / "out", tokenizer=tokenizer, seq_lengths=lengths, chunk_bytes=3000, dev_share=0)
    decoder = Tokenizer.from_file(str(tokenizer))
    for seq_length in lengths:
        expected = np.load(golden_dir / "segment" / f"segments_{seq_length}.npz")
        wanted = np.split(expected["tokens"], np.cumsum(expected["lengths"])[:-1])
        found = segments(tmp_path / "out", f"seq_{seq_length}/train")
        for index, (one, other) in enumerate(zip(found, wanted)):
            assert one.tolist() == other.tolist(), (index, decoder.decode(one), decoder.decode(other))
        assert len(found) == len(wanted)


def test_the_same_command_rebuilds_a_damaged_folder(prepared: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(prepared, out)
    shard = out / "seq_16" / "train" / "shard.00000.mds.zstd"
    data = bytearray(shard.read_bytes())
    data[70] ^= 1
    shard.write_bytes(data)
    (out / "seq_48" / "dev" / "index.json").unlink()
    (out / "tokenizer" / "tokenizer.json").unlink()
    (out / "tokenizer" / ".tokenizer.json.0123abcd.tmp").touch()
    build_small(corpus, out)
    assert contents(out) == contents(prepared)


def test_files_of_the_user_are_kept(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_small(corpus, out)
    theirs = ["notes.txt", "my_manifest.json.bak", "seq_data/train/index.json", "seq_48/train/cache/x", "seq_48/README"]
    for name in theirs:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("theirs")
    build_small(corpus, out, seq_lengths=[16])
    assert [(out / name).read_text() for name in theirs] == ["theirs"] * len(theirs)
    assert not list((out / "seq_48").rglob("*.zstd"))


def test_document_counts_do_not_depend_on_chunks(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    rows = [json.dumps({"text": f"Row {number} has a text.\nAnd a second line."}) for number in range(40)]
    (corpus / "rows.jsonl").write_text("\n".join(rows) + "\n")
    articles = "".join(f"= = = Title {number} = = =\n" + "Some text of it. \n" * 9 for number in range(30))
    (corpus / "wikipedia.txt").write_text(articles)
    for chunk_bytes in (300, 1 << 20):
        manifest = build_small(
            corpus, tmp_path / str(chunk_bytes), chunk_bytes=chunk_bytes, seq_lengths=[16], dev_share=0
        )
        assert {source.corpus: source.documents for source in manifest.sources} == {
            "rows": 40,
            "wikipedia": 30,
        }

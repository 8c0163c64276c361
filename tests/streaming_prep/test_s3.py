"""Prepared data in S3: build into a bucket, verify it and read it, over HTTP on the loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streaming import StreamingDataset

from elc_composer.common.s3 import S3Prefix
from elc_composer.data.streaming.shared_prefix import random_prefixes
from streaming_prep.cli import main
from streaming_prep.reading import open_prepared
from tests.faults.proxy import Fault, FaultyProxy, Script
from tests.faults.s3 import LocalS3, local_s3
from tests.streaming_prep.corpora import build_small, contents, make_corpus

PREFIX = "babylm/small"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalS3]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with local_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def url(s3: LocalS3) -> str:
    return s3.address(PREFIX)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return make_corpus(tmp_path / "corpus", lines=80)


def stored(s3: LocalS3) -> dict[str, bytes]:
    return {key.removeprefix(f"{PREFIX}/"): s3.read(key) for key in s3.keys("")}


def test_a_bucket_gets_the_bytes_a_folder_gets_and_training_reads_them(
    s3: LocalS3, url: str, corpus: Path, tmp_path: Path
) -> None:
    build_small(corpus, url)
    build_small(corpus, tmp_path / "out")
    assert stored(s3) == contents(tmp_path / "out")
    assert not list((tmp_path / "cache").rglob("*.zstd")), "the build removes its local copy"
    with random_prefixes():
        dataset = StreamingDataset(remote=f"{url}/seq_48/train", local=str(tmp_path / "local"), batch_size=1)
    with open_prepared(str(tmp_path / "out")) as prepared:
        expected = [segment for shard in prepared.segments("seq_48/train") for segment in shard]
    assert len(dataset) == len(expected)
    for index, segment in enumerate(expected):
        read: Any = dataset[index]["input_ids"]
        np.testing.assert_array_equal(read, segment)


def test_verify_stats_and_sample_read_a_bucket(
    s3: LocalS3, url: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_small(corpus, url)
    assert main(["verify", url]) == 0
    assert main(["stats", url, "--picture", str(tmp_path / "lengths.png")]) == 0
    assert main(["sample", url, "--output", "seq_16/dev"]) == 0
    capsys.readouterr()
    name = "seq_16/train/shard.00000.mds.zstd"
    data = bytearray(stored(s3)[name])
    data[50] ^= 4
    s3.write(f"{PREFIX}/{name}", bytes(data))
    assert main(["verify", url]) == 1
    assert f"{name} is damaged" in capsys.readouterr().err


def test_an_interrupted_upload_resumes_and_never_looks_complete(
    s3: LocalS3, url: str, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_small(corpus, url, vocab_size=100)
    really, sent = S3Prefix.upload, []

    def breaks_off(self: S3Prefix, file: Path, name: str) -> None:
        if len(sent) == 3:
            raise ConnectionError("the line is dead")
        sent.append(name)
        really(self, file, name)

    with monkeypatch.context() as patch:
        patch.setattr(S3Prefix, "upload", breaks_off)
        with pytest.raises(ValueError, match="the line is dead"):
            build_small(corpus, url)
    assert "manifest.json" not in stored(s3), "shards of two builds must not look like one"
    resumed: list[str] = []
    monkeypatch.setattr(S3Prefix, "upload", lambda self, file, name: (resumed.append(name), really(self, file, name)))
    build_small(corpus, url)
    assert not set(resumed) & set(sent)
    assert resumed[-1] == "manifest.json"
    assert main(["verify", url]) == 0


def test_a_missing_bucket_is_one_line_before_any_work(
    s3: LocalS3, url: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["build", "--corpus", str(corpus), "--out", "s3://nowhere/x", "--workers", "1"])
    captured = capsys.readouterr()
    assert code == 2
    assert len(captured.err.strip().splitlines()) == 1
    assert "cannot write to s3://nowhere/x" in captured.err
    assert captured.out == ""
    assert main(["verify", "s3://nowhere/x"]) == 2
    assert "s3://nowhere/x/manifest.json cannot be read" in capsys.readouterr().err


def test_minimal_pairs_go_to_a_bucket(
    s3: LocalS3, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        "sentence_good": "Dogs bark.",
        "sentence_bad": "Dogs barks.",
        "field": "morphology",
        "linguistics_term": "subject_verb_agreement",
        "UID": "regular_plural_subject_verb_agreement_1",
        "pair_id": 0,
    }
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    assert main(["minimal-pairs", str(tmp_path / "pairs.jsonl"), "--out", f"{url}/pairs"]) == 0
    assert "1 paradigms, 1 minimal pairs" in capsys.readouterr().out
    assert any(name.startswith("pairs/shard") for name in stored(s3))


def test_uploads_and_downloads_are_retried(
    s3: LocalS3, url: str, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    faults = [Fault.error_503, Fault.error_500, Fault.no_answer] * 2
    with FaultyProxy(s3.host, s3.port, Script(faults)) as proxy:
        monkeypatch.setenv("S3_ENDPOINT_URL", proxy.url)
        build_small(corpus, url)
        assert sum(proxy.injected.values()) == len(faults)
    with FaultyProxy(s3.host, s3.port, Script(faults)) as proxy:
        monkeypatch.setenv("S3_ENDPOINT_URL", proxy.url)
        assert main(["verify", url]) == 0
        assert sum(proxy.injected.values()) == len(faults)


def test_files_that_another_build_replaced_are_uploaded_again(
    s3: LocalS3, url: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = S3Prefix.upload

    def all_but_the_manifest(self: S3Prefix, file: Path, name: str) -> None:
        if name == "manifest.json":
            raise ConnectionError("the line is dead")
        really(self, file, name)

    for vocab_size in (100, 150):  # the second one's shards replace the first one's, under the same names
        with monkeypatch.context() as patch:
            patch.setattr(S3Prefix, "upload", all_but_the_manifest)
            with pytest.raises(ValueError, match="the line is dead"):
                build_small(corpus, url, vocab_size=vocab_size)
    build_small(corpus, url, vocab_size=100)
    assert main(["verify", url]) == 0
    build_small(corpus, tmp_path / "out", vocab_size=100)
    assert contents(tmp_path / "out").items() <= stored(s3).items()


def test_an_emptied_bucket_is_filled_again_from_a_kept_work_folder(s3: LocalS3, url: str, corpus: Path) -> None:
    build_small(corpus, url, keep_work=True)
    for name in stored(s3):
        s3.delete(f"{PREFIX}/{name}")
    assert main(["verify", url]) == 2
    build_small(corpus, url)
    assert main(["verify", url]) == 0

"""Object storage: built into a bucket, verified there and read from there, over real HTTP on the loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from streaming import StreamingDataset

from elc_composer.data.streaming.shared_prefix import random_prefixes
from streaming_prep.cli import main
from streaming_prep.reading import open_prepared
from tests.streaming_prep.corpora import build_small, contents, make_corpus

BUCKET = "corpora"
URL = f"s3://{BUCKET}/babylm/small"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("S3_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    try:
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
        client.create_bucket(Bucket=BUCKET)
        yield client
    finally:
        server.stop()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return make_corpus(tmp_path / "corpus", lines=80)


def stored(s3: Any) -> dict[str, bytes]:
    prefix = URL.split(BUCKET + "/")[1] + "/"
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    return {key.removeprefix(prefix): s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


def test_a_bucket_gets_the_bytes_a_folder_gets_and_training_reads_them(s3: Any, corpus: Path, tmp_path: Path) -> None:
    build_small(corpus, URL)
    build_small(corpus, tmp_path / "out")
    assert stored(s3) == contents(tmp_path / "out")
    assert not list((tmp_path / "cache").rglob("*.zstd")), "the local copy goes with the end of the build"
    with random_prefixes():
        dataset = StreamingDataset(remote=f"{URL}/seq_48/train", local=str(tmp_path / "local"), batch_size=1)
    with open_prepared(str(tmp_path / "out")) as prepared:
        expected = [segment for shard in prepared.segments("seq_48/train") for segment in shard]
    assert len(dataset) == len(expected)
    for index, segment in enumerate(expected):
        read: Any = dataset[index]["input_ids"]
        np.testing.assert_array_equal(read, segment)


def test_verify_stats_and_sample_read_a_bucket(
    s3: Any, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_small(corpus, URL)
    assert main(["verify", URL]) == 0
    assert main(["stats", URL, "--picture", str(tmp_path / "lengths.png")]) == 0
    assert main(["sample", URL, "--output", "seq_16/dev"]) == 0
    capsys.readouterr()
    name = "seq_16/train/shard.00000.mds.zstd"
    data = bytearray(stored(s3)[name])
    data[50] ^= 4
    s3.put_object(Bucket=BUCKET, Key=f"babylm/small/{name}", Body=bytes(data))
    assert main(["verify", URL]) == 1
    assert f"{name} is damaged" in capsys.readouterr().err


def test_an_upload_cut_short_goes_on_and_never_looks_whole(
    s3: Any, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streaming.base.storage.upload import S3Uploader

    build_small(corpus, URL, vocab_size=100)
    really, sent = S3Uploader.upload_file, []

    def breaks_off(self: S3Uploader, file: str) -> None:
        if len(sent) == 3:
            raise ConnectionError("the line is dead")
        sent.append(file)
        really(self, file)

    with monkeypatch.context() as patch:
        patch.setattr(S3Uploader, "upload_file", breaks_off)
        with pytest.raises(ValueError, match="the line is dead"):
            build_small(corpus, URL)
    assert "manifest.json" not in stored(s3), "shards of two builds must not look like one"
    resumed: list[str] = []
    monkeypatch.setattr(S3Uploader, "upload_file", lambda self, file: (resumed.append(file), really(self, file)))
    build_small(corpus, URL)
    assert not set(resumed) & set(sent)
    assert resumed[-1] == "manifest.json"
    assert main(["verify", URL]) == 0


def test_a_missing_bucket_is_one_line_before_any_work(
    s3: Any, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["build", "--corpus", str(corpus), "--out", "s3://nowhere/x", "--workers", "1"])
    captured = capsys.readouterr()
    assert code == 2
    assert len(captured.err.strip().splitlines()) == 1
    assert "cannot write to s3://nowhere/x" in captured.err
    assert captured.out == ""
    assert main(["verify", "s3://nowhere/x"]) == 2
    assert "s3://nowhere/x/manifest.json cannot be read" in capsys.readouterr().err


def test_minimal_pairs_go_to_a_bucket(s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "sentence_good": "Dogs bark.",
        "sentence_bad": "Dogs barks.",
        "field": "morphology",
        "linguistics_term": "subject_verb_agreement",
        "UID": "regular_plural_subject_verb_agreement_1",
        "pair_id": 0,
    }
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    assert main(["minimal-pairs", str(tmp_path / "pairs.jsonl"), "--out", f"{URL}/pairs"]) == 0
    assert "1 paradigms, 1 minimal pairs" in capsys.readouterr().out
    assert any(name.startswith("pairs/shard") for name in stored(s3))


def test_what_another_build_put_in_its_place_is_sent_again(
    s3: Any, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streaming.base.storage.upload import S3Uploader

    really = S3Uploader.upload_file

    def all_but_the_manifest(self: S3Uploader, file: str) -> None:
        if file == "manifest.json":
            raise ConnectionError("the line is dead")
        really(self, file)

    for vocab_size in (100, 150):  # the second one's shards replace the first one's, under the same names
        with monkeypatch.context() as patch:
            patch.setattr(S3Uploader, "upload_file", all_but_the_manifest)
            with pytest.raises(ValueError, match="the line is dead"):
                build_small(corpus, URL, vocab_size=vocab_size)
    build_small(corpus, URL, vocab_size=100)
    assert main(["verify", URL]) == 0
    build_small(corpus, tmp_path / "out", vocab_size=100)
    assert contents(tmp_path / "out").items() <= stored(s3).items()


def test_an_emptied_bucket_is_filled_again_from_a_kept_work_folder(s3: Any, corpus: Path) -> None:
    build_small(corpus, URL, keep_work=True)
    for name in stored(s3):
        s3.delete_object(Bucket=BUCKET, Key=f"babylm/small/{name}")
    assert main(["verify", URL]) == 2
    build_small(corpus, URL)
    assert main(["verify", URL]) == 0

"""Checks of prepared data before anything is built: one-line errors for each kind of damage or mismatch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from elc_composer.common.errors import DataError
from elc_composer.data import DataConfig, StreamConfig, check_data
from tests.data.prepared import VOCAB_SIZE, write_split


def check(root: Path | str, seq_length: int = 16, split: str = "train", vocab_size: int = VOCAB_SIZE, **stream) -> None:
    config = DataConfig(streams=[StreamConfig(remote=str(root), **stream)], download_retry=1)
    check_data(config, seq_lengths=[seq_length], splits=[split], vocab_size=vocab_size)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_split(tmp_path / "data", 30)
    return tmp_path / "data"


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("with_cache", [False, True])
def test_no_error_for_valid_data(tmp_path: Path, compression: str | None, with_cache: bool) -> None:
    write_split(tmp_path / "data", 30, compression=compression)
    check(tmp_path / "data", **({"local": str(tmp_path / "cache")} if with_cache else {}))


def test_error_for_a_missing_folder_names_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data folder .*nowhere does not exist.*streaming_prep build --out"):
        check(tmp_path / "nowhere")


def test_error_for_a_missing_sequence_length_names_the_others(root: Path) -> None:
    write_split(root, 5, seq_length=32)
    with pytest.raises(DataError, match=r"not prepared for a sequence length of 64, but for 16, 32: .*--seq-length 64"):
        check(root, seq_length=64)


def test_error_for_a_missing_split_names_the_others(root: Path) -> None:
    with pytest.raises(DataError, match="no split 'dev', but train"):
        check(root, split="dev")


def test_error_for_ids_beyond_the_vocabulary(root: Path) -> None:
    with pytest.raises(
        DataError, match=r"train: shard shard\.00000\.mds\.zstd: sample \d+ has token id \d+; ids must be from 0 to 99"
    ):
        check(root, vocab_size=100)


def test_error_for_segments_that_are_too_long(root: Path) -> None:
    (root / "seq_16").rename(root / "seq_8")
    with pytest.raises(DataError, match=r"has \d+ tokens; a sequence length of 8 leaves room for 6"):
        check(root, seq_length=8)


def test_error_for_an_index_without_input_ids(tmp_path: Path) -> None:
    write_split(tmp_path, 5, column={"words": "ndarray:uint16"})
    with pytest.raises(DataError, match=r"has the columns words: ndarray:uint16; a column `input_ids"):
        check(tmp_path)


def test_error_for_an_index_that_is_not_json(root: Path) -> None:
    (root / "seq_16" / "train" / "index.json").write_text("{")
    with pytest.raises(DataError, match=r"index\.json is not valid JSON"):
        check(root)


def test_error_for_an_empty_index(root: Path) -> None:
    (root / "seq_16" / "train" / "index.json").write_text(json.dumps({"version": 2, "shards": []}))
    with pytest.raises(DataError, match="has no samples"):
        check(root)


def test_error_for_a_missing_shard(root: Path) -> None:
    for shard in (root / "seq_16" / "train").glob("shard.00000*"):
        shard.unlink()
    with pytest.raises(DataError, match=r"shard\.00000\.mds.* cannot be read"):
        check(root)


def test_error_for_a_hash_that_the_index_does_not_hold(root: Path) -> None:
    config = DataConfig(streams=[StreamConfig(local=str(root))], validate_hash="xxh128")
    with pytest.raises(DataError, match="written without xxh128 hashes, but with sha256"):
        check_data(config, seq_lengths=[16], splits=["train"], vocab_size=VOCAB_SIZE)


def test_all_streams_are_read(root: Path, tmp_path: Path) -> None:
    write_split(tmp_path / "second", 30)
    for shard in (tmp_path / "second" / "seq_16" / "train").glob("*.mds*"):
        shard.write_bytes(shard.read_bytes()[:-3])
    config = DataConfig(streams=[StreamConfig(local=str(root)), StreamConfig(local=str(tmp_path / "second"))])
    with pytest.raises(DataError, match=r"second/seq_16/train: shard shard\.00000\.mds\.zstd cannot be read"):
        check_data(config, seq_lengths=[16], splits=["train"], vocab_size=VOCAB_SIZE)


def test_error_for_an_index_that_differs_from_the_manifest(root: Path) -> None:
    manifest, index = root / "manifest.json", root / "seq_16" / "train" / "index.json"
    content = json.loads(manifest.read_text())
    content["outputs"]["seq_16/train"]["index_sha256"] = hashlib.sha256(index.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(content))
    check(root)
    index.write_bytes(index.read_bytes().replace(b"16", b"17", 1))
    with pytest.raises(DataError, match=r"index\.json is damaged: its sha256 is not the manifest's"):
        check(root)


def test_error_for_a_cache_of_other_data(root: Path, tmp_path: Path) -> None:
    write_split(tmp_path / "newer", 31)
    check(root, local=str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"cache .*cache/seq_16/train was filled from another version of .*newer"):
        check(tmp_path / "newer", local=str(tmp_path / "cache"))


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_error_for_packed_shards_in_a_folder_without_write_permission(
    tmp_path: Path, compression: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_split(tmp_path, 30, compression=compression)
    config = DataConfig(streams=[StreamConfig(local=str(tmp_path))])

    def read() -> None:
        check_data(config, seq_lengths=[16], splits=["train"], vocab_size=VOCAB_SIZE)

    monkeypatch.setattr("os.access", lambda *_: False)
    if compression is None:
        read()
        return
    with pytest.raises(DataError, match="compressed shards and no write permission"):
        read()
    monkeypatch.undo()
    read()
    monkeypatch.setattr("os.access", lambda *_: False)
    read()  # the first shard lies there unpacked now


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        (None, r"cannot read s3://bucket/data/seq_16/train \(not found\): check address, credentials"),
        (["seq_16/train"], r"manifest\.json \w+ seq_16/train, but it cannot be read"),
        (["seq_16/dev"], "s3://bucket/data/seq_16 has no split 'train'"),
        (["seq_64/train", "seq_32/dev"], "not prepared for a sequence length of 16, but for 32, 64"),
    ],
)
def test_error_for_missing_remote_data_follows_the_manifest(
    outputs: list[str] | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(url: str, timeout: float) -> bytes:
        if outputs is None or url != "s3://bucket/data/manifest.json":
            raise DataError("not found")
        return json.dumps({"outputs": {name: {} for name in outputs}}).encode()

    monkeypatch.setattr("elc_composer.data.streaming.index_file.fetch", fetch)
    with pytest.raises(DataError, match=told):
        check("s3://bucket/data")

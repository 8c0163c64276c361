"""Data that would run code or write outside its folder is refused before a shard is read, in every command."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streaming import MDSWriter
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from elc_composer.common.errors import DataError
from elc_composer.common.files import sha256_file
from elc_composer.data import DataConfig, MaskingConfig, StreamConfig, build_eval_loader, build_train_loader, check_data
from elc_composer.evaluation.minimal_pairs import read_minimal_pairs
from streaming_prep.cli import main as streaming_prep
from streaming_prep.manifest import Manifest, OutputEntry, ShardEntry, TokenizerEntry
from tests.data.prepared import TOKENS, VOCAB_SIZE, write_split

PAIR_COLUMNS = ("sentence_good", "sentence_bad", "paradigm", "phenomenon", "field", "pair_id", "source")


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture
def crater(tmp_path: Path) -> Path:
    return tmp_path / "exploded"


@pytest.fixture
def segments(tmp_path: Path, crater: Path) -> Path:
    """Complete prepared data, with an additional pickled column in the training shards."""
    root = tmp_path / "data"
    write_split(root, 3, split="dev")
    out = root / "seq_16" / "train"
    with MDSWriter(
        out=str(out), columns={"input_ids": "ndarray:uint16", "notes": "pkl"}, compression="zstd", hashes=["sha256"]
    ) as writer:
        for _ in range(8):
            writer.write({"input_ids": np.array([8, 9], np.uint16), "notes": Bomb(crater)})
    Tokenizer(WordLevel({"[UNK]": 0}, "[UNK]")).save(str(root / "t"))
    describe(root)
    return root


def describe(root: Path) -> None:
    """Write a manifest that fits the index: an attacker can change both."""
    out = root / "seq_16" / "train"
    output = OutputEntry(
        samples=8,
        tokens=16,
        source_tokens=16,
        utilisation=1.0,
        duplication=0.0,
        dropped=0.0,
        column_dtype="uint16",
        index_sha256=sha256_file(out / "index.json"),
        shards=[
            ShardEntry(file=path.name, sha256=sha256_file(path), bytes=path.stat().st_size, samples=8)
            for path in sorted(out.glob("*.zstd"))
        ],
    )
    tokenizer = TokenizerEntry(file="t", sha256=sha256_file(root / "t"), vocab_size=VOCAB_SIZE)
    manifest = Manifest(
        inputs="", sources=[], tokenizer=tokenizer, settings={}, outputs={"seq_16/train": output}, versions={}
    )
    (root / "manifest.json").write_text(json.dumps(manifest.to_json()))


def config(root: Path) -> DataConfig:
    return DataConfig(streams=[StreamConfig(local=str(root))], num_workers=0, eval_split="train")


def train(root: Path) -> None:
    loader = build_train_loader(config(root), MaskingConfig(), TOKENS, seq_length=16, device_batch_size=2, seed=1)
    next(iter(loader.dataloader))


def evaluate(root: Path) -> None:
    loader = build_eval_loader(config(root), MaskingConfig(), TOKENS, seq_length=16, device_batch_size=2, seed=1)
    next(iter(loader.dataloader))


def check(root: Path) -> None:
    check_data(config(root), seq_lengths=[16], splits=["train"], vocab_size=VOCAB_SIZE)


def test_the_bomb_works(crater: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(crater)))
    assert crater.exists()


@pytest.mark.parametrize("read", [check, train, evaluate])
@pytest.mark.parametrize("encoding", ["pkl", "pkl:", "pickle-of-tomorrow", 7])
def test_training_refuses_pickles(read: Callable[[Path], None], encoding: object, segments: Path, crater: Path) -> None:
    """Also under names that Streaming's own check accepts."""
    index = segments / "seq_16" / "train" / "index.json"
    content = json.loads(index.read_text())
    content["shards"][0]["column_encodings"][1] = encoding
    index.write_text(json.dumps(content))
    describe(segments)
    with pytest.raises(DataError, match=rf"column 'notes' is encoded as {encoding!r}, which can run code"):
        read(segments)
    assert not crater.exists()


def test_training_refuses_pickles_in_the_cache(segments: Path, tmp_path: Path, crater: Path) -> None:
    """A cache may have been filled from elsewhere than the remote."""
    write_split(tmp_path / "good", 8)
    stream = StreamConfig(remote=str(tmp_path / "good"), local=str(segments))
    data = DataConfig(streams=[stream], num_workers=0)
    with pytest.raises(DataError, match="column 'notes' is encoded as 'pkl', which can run code"):
        build_train_loader(data, MaskingConfig(), TOKENS, seq_length=16, device_batch_size=2, seed=1)
    with pytest.raises(DataError, match="was filled from another version"):
        check_data(data, seq_lengths=[16], splits=["train"], vocab_size=VOCAB_SIZE)
    assert not crater.exists()


@pytest.mark.parametrize("command", ["verify", "stats", "sample"])
def test_streaming_prep_refuses_pickles(
    command: str, segments: Path, crater: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = segments / "seq_16" / "train" / "index.json"
    content = json.loads(index.read_text())
    # The column that is read is the pickle.
    content["shards"][0]["column_names"] = ["notes", "input_ids"]
    index.write_text(json.dumps(content))
    describe(segments)
    assert streaming_prep([command, str(segments)]) in (1, 2)
    assert "column 'input_ids' is encoded as 'pkl', which can run code" in capsys.readouterr().err
    assert not crater.exists()


def test_minimal_pairs_refuse_pickles(tmp_path: Path, crater: Path) -> None:
    columns = {**dict.fromkeys(PAIR_COLUMNS, "str"), "notes": "pkl"}
    with MDSWriter(out=str(tmp_path / "pairs"), columns=columns) as writer:
        writer.write({**dict.fromkeys(PAIR_COLUMNS, "x"), "notes": Bomb(crater)})
    with pytest.raises(DataError, match="column 'notes' is encoded as 'pkl'"):
        read_minimal_pairs(tmp_path / "pairs")
    assert not crater.exists()


@pytest.mark.parametrize("name", ["../../escaped.mds", "/tmp/escaped.mds", "..", 5])
def test_shards_with_a_path_for_a_name_are_refused(name: object, segments: Path, tmp_path: Path) -> None:
    write_split(tmp_path / "remote", 8)
    index = tmp_path / "remote" / "seq_16" / "train" / "index.json"
    content = json.loads(index.read_text())
    content["shards"][0]["raw_data"]["basename"] = name
    index.write_text(json.dumps(content))
    stream = StreamConfig(remote=str(tmp_path / "remote"), local=str(tmp_path / "cache" / "deep" / "down"))
    with pytest.raises(DataError, match="which is not a plain file name"):
        check_data(DataConfig(streams=[stream]), seq_lengths=[16], splits=["train"], vocab_size=VOCAB_SIZE)
    assert not list(tmp_path.rglob("escaped*"))

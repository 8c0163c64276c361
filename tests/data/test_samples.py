"""Samples of MDS folders that other programs wrote: invalid ones give an error that names shard and sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from streaming import MDSWriter

from elc_composer.common.errors import DataError
from elc_composer.data import DataConfig, MaskingConfig, StreamConfig, build_eval_loader, build_train_loader, check_data
from elc_composer.data.samples import problem_of
from tests.data.prepared import TOKENS, VOCAB_SIZE

SAMPLES, BAD = 100, 83
"""The bad sample lies beyond those that are read before training."""
GOOD = np.array([9, 10, 11])
INVALID = {
    "two dimensions": (np.full((2, 3), 9), r"is of shape \(2, 3\) and type int64; it must be a one-dimensional array"),
    "negative id": (np.array([9, -1, 9]), r"has token id -1; ids must be from 0 to 199"),
    "id of another tokenizer": (np.array([9, VOCAB_SIZE]), r"has token id 200; ids must be from 0 to 199"),
    "id beyond int32": (np.array([9, 2**40]), r"has token id 1099511627776; ids"),
    "too long": (np.full(15, 9), r"has 15 tokens; a sequence length of 16 leaves room for 14"),
}


def write(folder: Path, bad: np.ndarray, at: int = BAD, split: str = "train") -> DataConfig:
    out = folder / "seq_16" / split
    with MDSWriter(
        out=str(out), columns={"input_ids": "ndarray:int64"}, compression=None, hashes=["sha256"], size_limit=1000
    ) as writer:
        for index in range(SAMPLES):
            writer.write({"input_ids": bad if index == at else GOOD})
    return DataConfig(streams=[StreamConfig(local=str(folder))], num_workers=0)


@pytest.mark.parametrize("name", INVALID)
def test_train_loader_names_shard_and_sample(name: str, tmp_path: Path) -> None:
    bad, told = INVALID[name]
    config = write(tmp_path, bad)
    loader = build_train_loader(config, MaskingConfig(), TOKENS, seq_length=16, device_batch_size=10, seed=1)
    with pytest.raises(DataError, match=rf"seq_16/train: shard shard\.0000\d\.mds: sample \d+ {told}"):
        list(loader.dataloader)
    loader.dataloader.close()


def test_loader_with_workers_and_eval_loader_name_shard_and_sample(tmp_path: Path) -> None:
    bad, told = INVALID["two dimensions"]
    config = write(tmp_path, bad)
    config.num_workers = 1
    loader = build_train_loader(config, MaskingConfig(), TOKENS, seq_length=16, device_batch_size=10, seed=1)
    with pytest.raises(DataError, match=rf"^stream .*: shard shard\.0000\d\.mds: sample \d+ {told}"):
        list(loader.dataloader)
    loader.dataloader.close()
    write(tmp_path, bad, split="dev")
    held_out = build_eval_loader(config, MaskingConfig(), TOKENS, seq_length=16, device_batch_size=10, seed=1)
    with pytest.raises(DataError, match=rf"shard shard\.0000\d\.mds: sample \d+ {told}"):
        list(held_out.dataloader)


@pytest.mark.parametrize("name", INVALID)
def test_check_before_training_names_shard_and_sample(name: str, tmp_path: Path) -> None:
    bad, told = INVALID[name]
    config = write(tmp_path, bad, at=3)
    with pytest.raises(DataError, match=rf"train: shard shard\.00000\.mds: sample 3 {told}"):
        check_data(config, seq_lengths=[16], splits=["train"], vocab_size=VOCAB_SIZE)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int32, np.int64])
def test_valid_samples_have_no_problem(dtype: type) -> None:
    for ids in ([], [0], [VOCAB_SIZE - 1] * 14):
        assert problem_of(np.array(ids, dtype), VOCAB_SIZE, 16) is None


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ([1, 2], "is list;"),
        (np.array(9), "is of shape () and type int64"),
        (np.array([1.0]), "type float64"),
        (np.array([True]), "type bool"),
        (None, "NoneType"),
    ],
)
def test_other_types_are_named(ids: object, told: str) -> None:
    assert told in str(problem_of(ids, VOCAB_SIZE, 16))

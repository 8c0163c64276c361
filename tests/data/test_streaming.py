"""Batches of the loader: independent of the number of workers, exact after resumption, complete or an error."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from composer.core import DataSpec
from streaming import Stream

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.data import DataConfig, MaskingConfig, StreamConfig, build_eval_loader, build_train_loader
from elc_composer.data.masking import IGNORED
from tests.data.prepared import TOKENS, segment, write_split

SAMPLES, BATCH, LENGTH = 83, 8, 16
BATCHES = SAMPLES // BATCH
MASKING = MaskingConfig(probability=0.4, final_probability=0.1)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    write_split(root, SAMPLES)
    write_split(root, 21, split="dev")
    return root


OPEN: list[DataSpec] = []


@pytest.fixture(autouse=True)
def loaders_end_with_their_test() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().dataloader.close()


def local(root: Path, **options) -> DataConfig:
    return DataConfig(streams=[StreamConfig(local=str(root))], **{"num_workers": 0, **options})


def cached(root: Path, cache: Path, **options) -> DataConfig:
    return DataConfig(
        streams=[StreamConfig(remote=str(root), local=str(cache))],
        **{
            "num_workers": 0,
            "download_retry": 1,
            "validate_hash": "sha256",
            "batch_timeout": 60.0,
            "outage_tolerance": 20.0,
            **options,
        },
    )


def build(config: DataConfig, **options) -> DataSpec:
    settings = {"seq_length": LENGTH, "device_batch_size": BATCH, "seed": 1, "total_steps": 40, **options}
    OPEN.append(build_train_loader(config, MASKING, TOKENS, **settings))
    return OPEN[-1]


def rows(batch: dict) -> np.ndarray:
    """What a batch says, as one array a batch: ids of the samples, inputs, labels."""
    return torch.cat([batch["sample_ids"][:, None], batch["input_ids"], batch["labels"]], 1).numpy()


def epochs(spec: DataSpec, number: int) -> list[np.ndarray]:
    return [rows(batch) for _ in range(number) for batch in spec.dataloader]


def test_batches_do_not_depend_on_the_workers(prepared: Path) -> None:
    alone = epochs(build(local(prepared)), 2)
    assert len(alone) == 2 * BATCHES
    for workers in (1, 2):
        np.testing.assert_array_equal(epochs(build(local(prepared, num_workers=workers)), 2), alone)


@pytest.mark.parametrize("canonical_nodes", [None, 5])
def test_an_epoch_holds_no_sample_twice_and_the_next_is_another(prepared: Path, canonical_nodes: int | None) -> None:
    spec = build(local(prepared, num_canonical_nodes=canonical_nodes))
    first, second = epochs(spec, 1), epochs(spec, 1)
    for batches in (first, second):
        ids = np.concatenate(batches)[:, 0]
        assert len(ids) == len(spec.dataloader) * BATCH == len(set(ids.tolist()))
        assert len(ids) > SAMPLES - BATCH - 5
    assert [b[:, 0].tolist() for b in first] != [b[:, 0].tolist() for b in second]
    # A sample that comes in both has other masks.
    of_first = {row[0]: row[1:] for row in np.concatenate(first)}
    of_second = {row[0]: row[1:] for row in np.concatenate(second)}
    both = of_first.keys() & of_second.keys()
    assert np.mean([not np.array_equal(of_first[i], of_second[i]) for i in both]) > 0.5


@pytest.mark.parametrize(
    ("before", "after", "stop"), [(0, 0, 3), (0, 0, 2 * BATCHES), (0, 2, BATCHES + 4), (1, 2, 3), (2, 1, BATCHES + 5)]
)
def test_resuming_continues_with_the_same_batches_and_masks(prepared: Path, before: int, after: int, stop: int) -> None:
    undisturbed = epochs(build(local(prepared)), 4)
    loader = build(local(prepared, num_workers=before)).dataloader
    endless = (batch for _ in itertools.count() for batch in loader)
    for _ in range(stop):
        next(endless)
    state = loader.state_dict()
    resumed = build(local(prepared, num_workers=after))
    resumed.dataloader.load_state_dict(state)
    rest = [rows(batch) for _ in range(3) for batch in resumed.dataloader]
    np.testing.assert_array_equal(rest[: BATCHES + 2], undisturbed[stop : stop + BATCHES + 2])


def test_stage_seed_and_the_place_in_the_run_change_the_batches(prepared: Path) -> None:
    base = epochs(build(local(prepared)), 1)
    for options in ({"stage": 1}, {"seed": 2}):
        other = epochs(build(local(prepared), **options), 1)
        assert [b[:, 0].tolist() for b in other] != [b[:, 0].tolist() for b in base]
    late = epochs(build(local(prepared), first_step=30), 1)
    np.testing.assert_array_equal([b[:, 0] for b in late], [b[:, 0] for b in base])
    masked = [np.mean([(b[:, 1 + LENGTH :] != IGNORED).sum() for b in batches]) for batches in (base, late)]
    assert masked[1] < 0.8 * masked[0]


def test_the_mask_probability_falls_over_the_run(prepared: Path) -> None:
    counts = [
        sum(batch["label_counts"]) for spec in [build(local(prepared))] for _ in range(4) for batch in spec.dataloader
    ]
    thirds = np.array_split(counts, 4)
    assert thirds[0].mean() > 1.5 * thirds[-1].mean()


def test_streams_are_mixed_by_their_weights(prepared: Path, tmp_path: Path) -> None:
    write_split(tmp_path, 40)
    config = DataConfig(
        streams=[
            StreamConfig(local=str(prepared), proportion=0.25),
            StreamConfig(local=str(tmp_path), proportion=0.75),
        ],
        num_workers=0,
        epoch_size=80,
    )
    ids = np.concatenate(epochs(build(config), 1))[:, 0]
    assert len(ids) == 80
    assert (ids >= SAMPLES).sum() == 60


@pytest.mark.parametrize(("weight", "share"), [({"choose": 15}, 15), ({"repeat": 0.5}, 20), ({"repeat": 2.0}, 80)])
def test_streams_are_counted_by_repeat_and_choose(
    prepared: Path, tmp_path: Path, weight: dict[str, float], share: int
) -> None:
    write_split(tmp_path, 40)
    streams = [StreamConfig(local=str(prepared)), StreamConfig(local=str(tmp_path), **weight)]  # type: ignore[arg-type]
    dataset = build(DataConfig(streams=streams, num_workers=0)).dataloader.dataset
    assert dataset.epoch_size == SAMPLES + share
    ids = np.concatenate(epochs(OPEN[-1], 1))[:, 0]
    assert abs(int((ids >= SAMPLES).sum()) - share) < BATCH, "only what fills no batch is left for the next epoch"


def test_evaluation_sees_every_sample_once_with_the_same_masks(prepared: Path) -> None:
    settings = {"seq_length": LENGTH, "device_batch_size": BATCH, "seed": 1}
    spec = build_eval_loader(local(prepared, short_p=1.0), MASKING, TOKENS, **settings)
    first, second = epochs(spec, 1), epochs(spec, 1)
    assert np.concatenate(first)[:, 0].tolist() == list(range(21))
    for one, two in zip(first, second):
        np.testing.assert_array_equal(one, two)
    last = next(iter(spec.dataloader))
    assert last["token_counts"] == [len(segment(i, LENGTH)) + 2 for i in range(BATCH)]
    assert spec.get_num_tokens_in_batch(last) == int(last["attention_mask"].sum())
    assert spec.get_num_tokens_in_batch(last, "loss_generating") == int((last["labels"] != IGNORED).sum())


def test_evaluation_masks_with_the_final_probability_of_the_run(prepared: Path) -> None:
    masking = MaskingConfig(strategy="token", probability=0.01, final_probability=0.99)
    spec = build_eval_loader(local(prepared), masking, TOKENS, seq_length=LENGTH, device_batch_size=BATCH, seed=1)
    counts = [(sum(batch["label_counts"]), sum(batch["token_counts"])) for batch in spec.dataloader]
    labels, tokens = (sum(column) for column in zip(*counts))
    assert labels > 0.9 * (tokens - 2 * 21), "21 samples, each with [CLS] and [SEP]"


def test_composer_can_split_a_batch(prepared: Path) -> None:
    spec = build(local(prepared))
    batch = next(iter(spec.dataloader))
    parts = spec.split_batch(batch, 3)
    assert [spec.get_num_samples_in_batch(part) for part in parts] == [3, 3, 2]
    total = sum(spec.get_num_tokens_in_batch(part, "loss_generating") for part in parts)
    assert total == spec.get_num_tokens_in_batch(batch, "loss_generating")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_shard_is_an_error_that_names_it(prepared: Path, tmp_path: Path, workers: int) -> None:
    remote = tmp_path / "remote"
    shutil.copytree(prepared, remote)
    for shard in (remote / f"seq_{LENGTH}" / "train").glob("*.mds*"):
        shard.unlink()
    missing = "shard.00001.mds"
    for shard in (prepared / f"seq_{LENGTH}" / "train").glob("*.zstd"):
        if missing not in shard.name:
            shutil.copy(shard, remote / f"seq_{LENGTH}" / "train")
    spec = build(cached(remote, tmp_path / "cache", num_workers=workers))
    with pytest.raises(DataError, match=missing):
        epochs(spec, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_with_a_flipped_bit_is_named(prepared: Path, tmp_path: Path, workers: int) -> None:
    remote = tmp_path / "remote"
    shutil.copytree(prepared, remote)
    bad = sorted((remote / f"seq_{LENGTH}" / "train").glob("*.zstd"))[2]
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 1
    bad.write_bytes(content)
    spec = build(cached(remote, tmp_path / "cache", num_workers=workers))
    with pytest.raises(DataError, match=rf"{bad.name}.*Checksum"):
        epochs(spec, 1)
    assert not (tmp_path / "cache" / f"seq_{LENGTH}" / "train" / bad.name).exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_is_read_in_place_is_checked_as_well(prepared: Path, tmp_path: Path, workers: int) -> None:
    root = tmp_path / "here"
    shutil.copytree(prepared, root)
    expected = epochs(build(local(root)), 1)
    shard = sorted((root / f"seq_{LENGTH}" / "train").glob("*.mds"))[2]
    np.testing.assert_array_equal(epochs(build(local(root, num_workers=workers)), 1), expected)
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=rf"shard {shard.name} cannot be read: Checksum"):
        epochs(build(local(root, num_workers=workers)), 1)
    assert shard.exists(), "a source is left alone"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_in_the_cache_is_fetched_again(prepared: Path, tmp_path: Path, workers: int) -> None:
    expected = epochs(build(local(prepared)), 1)
    folder = tmp_path / "cache" / f"seq_{LENGTH}" / "train"
    folder.mkdir(parents=True)
    for shard in sorted((prepared / f"seq_{LENGTH}" / "train").glob("*.zstd"))[:3]:
        (folder / shard.name).write_bytes(shard.read_bytes()[:-9])
    assert list(folder.iterdir())
    np.testing.assert_array_equal(epochs(build(cached(prepared, tmp_path / "cache", num_workers=workers)), 1), expected)


@pytest.mark.parametrize("failures", [1, 2])
def test_downloads_that_fail_for_a_while_change_nothing(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """One failure is met by the second attempt, two by the attempt in the foreground."""
    expected = epochs(build(local(prepared)), 2)
    original, attempts = Stream.prepare_shard, Counter()

    def flaky(self: Stream, shard) -> int:
        attempts[id(shard)] += 1
        if attempts[id(shard)] <= failures:
            raise OSError("503 Slow Down")
        return original(self, shard)

    spec = build(cached(prepared, tmp_path / "cache"))
    monkeypatch.setattr(Stream, "prepare_shard", flaky)
    np.testing.assert_array_equal(epochs(spec, 2), expected)


def test_an_epoch_that_ends_early_is_an_error(prepared: Path) -> None:
    spec = build(local(prepared))

    class Cut(type(spec.dataloader.dataset)):
        def __iter__(self) -> Iterator:
            return itertools.islice(super().__iter__(), 3 * BATCH)

    spec.dataloader.dataset.__class__ = Cut
    with pytest.raises(DataError, match=rf"ended after 3 of {BATCHES} batches in epoch 0"):
        epochs(spec, 1)


def test_too_few_samples_for_a_batch_are_an_error(prepared: Path) -> None:
    with pytest.raises(DataError, match="83 samples an epoch, fewer than the global batch of 84"):
        build(local(prepared), device_batch_size=84)
    assert len(epochs(build(local(prepared), device_batch_size=83), 1)) == 1


def test_samples_that_an_epoch_leaves_out_are_reported(
    prepared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_split(tmp_path / "data", 101)
    spec = build(local(tmp_path / "data", num_canonical_nodes=64))
    assert sum(len(batch["sample_ids"]) for batch in spec.dataloader) == 64
    assert (
        "an epoch uses 64 of its 101 samples and leaves out 37 (36.6%), other ones each time: 37 because" in caplog.text
    )
    assert "data.num_canonical_nodes is 64" in caplog.text
    caplog.clear()
    build(local(prepared, shuffle=False))
    assert f"an epoch uses {BATCHES * BATCH} of its {SAMPLES} samples and leaves out 3 (3.6%), the same" in caplog.text
    assert "3 fill no global batch of 8" in caplog.text
    assert "num_canonical_nodes" not in caplog.text
    caplog.clear()
    build(local(tmp_path / "data"), device_batch_size=10)
    assert "leaves out" not in caplog.text, "1 of 101 samples is less than 1 %"


def test_canonical_nodes_that_leave_no_batch_are_named(tmp_path: Path) -> None:
    write_split(tmp_path, 50)
    with pytest.raises(
        DataError, match=r"50 samples an epoch, of which 0 can be used \(data\.num_canonical_nodes is 64.* to 50"
    ):
        build(local(tmp_path, num_canonical_nodes=64))
    assert len(epochs(build(local(tmp_path, num_canonical_nodes=48)), 1)) == 6
    assert len(epochs(build(local(tmp_path, num_canonical_nodes=48), device_batch_size=48), 1)) == 1


@pytest.mark.parametrize("algorithm", ["py1s", "py2s"])
def test_orders_with_another_default_of_canonical_nodes(prepared: Path, algorithm: str) -> None:
    """Streaming 0.13.0 sets 64 of them a node when the first epoch begins: before, an epoch seemed longer."""
    spec = build(local(prepared, shuffle_algo=algorithm, num_workers=1))
    assert spec.dataloader.dataset.batches_per_epoch == 64 // BATCH
    assert len(epochs(spec, 2)) == 2 * (64 // BATCH)


def test_held_out_data_may_be_smaller_than_a_batch(prepared: Path) -> None:
    spec = build_eval_loader(local(prepared), MASKING, TOKENS, seq_length=LENGTH, device_batch_size=32, seed=1)
    assert [len(batch["sample_ids"]) for batch in spec.dataloader] == [21]


def test_close_removes_the_lock_files(
    prepared: Path, tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streaming 0.13.0 leaves two of them for each dataset."""
    monkeypatch.setattr("tempfile.tempdir", str(short_folder))
    loader = build(cached(prepared, tmp_path / "cache", num_workers=1)).dataloader
    list(loader)
    assert len(list(short_folder.glob("*_filelock"))) == 2
    loader.close()
    assert not list(short_folder.glob("*_filelock"))


def test_impossible_settings_are_named(prepared: Path) -> None:
    config = local(prepared)
    for change, named in [
        ({"short_p": 2.0}, "data.short_p"),
        ({"pad_to": "longer"}, "data.pad_to"),
        ({"num_workers": -1}, "data.num_workers"),
        ({"streams": [StreamConfig(local="a", proportion=0.5), StreamConfig(local="b")]}, "data.streams"),
    ]:
        with pytest.raises(ConfigError, match=named):
            replace(config, **change)
    with pytest.raises(ConfigError, match="set it as remote"):
        StreamConfig(local="s3://bucket/data")
    with pytest.raises(ConfigError, match="more than one of proportion"):
        StreamConfig(local="a", repeat=2.0, choose=3)
    with pytest.raises(ConfigError, match=r"data\.streams is empty"):
        build(DataConfig())

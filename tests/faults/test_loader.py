"""Loader on failing storage: transient failures change no batch, lasting ones end the run with one line."""

from __future__ import annotations

import errno
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from composer.core import DataSpec

from elc_composer.common.errors import DataError
from elc_composer.common.storage import Unreachable
from elc_composer.data import DataConfig, MaskingConfig, StreamConfig, build_train_loader, check_data
from elc_composer.data.streaming import checked_stream as checked_stream_module
from tests.data.prepared import TOKENS, VOCAB_SIZE
from tests.faults.conftest import SAMPLES
from tests.faults.proxy import Always, Fault, FaultyProxy, Script
from tests.faults.s3 import LocalS3

BATCH, LENGTH = 8, 16
MASKING = MaskingConfig(probability=0.4)
SHARD = "shard.00002.mds.zstd"
OPEN: list[DataSpec] = []

Proxied = Callable[..., FaultyProxy]


@pytest.fixture(autouse=True)
def loaders_end_with_their_test() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().dataloader.close()


def config(cache: Path, remote: str | None, **options) -> DataConfig:
    place = StreamConfig(local=str(cache)) if remote is None else StreamConfig(remote=remote, local=str(cache))
    quick = {"num_workers": 0, "download_retry": 1, "download_timeout": 0.5, "outage_tolerance": 20.0}
    return DataConfig(streams=[place], **{**quick, "batch_timeout": 60.0, **options})


def batches(data: DataConfig, epochs: int = 1) -> list[np.ndarray]:
    """Ids, inputs and labels of every batch."""
    settings = {"seq_length": LENGTH, "device_batch_size": BATCH, "seed": 1, "total_steps": 40}
    spec = build_train_loader(data, MASKING, TOKENS, **settings)
    OPEN.append(spec)
    keys = ("input_ids", "labels")
    return [
        torch.cat([batch["sample_ids"][:, None], *(batch[key] for key in keys)], 1).numpy()
        for _ in range(epochs)
        for batch in spec.dataloader
    ]


@pytest.fixture(scope="module")
def undisturbed(prepared: Path) -> list[np.ndarray]:
    return batches(config(prepared, None), epochs=2)


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_that_lasts_a_while_changes_no_batch(
    fault: Fault, address: str, proxied: Proxied, tmp_path: Path, undisturbed: list[np.ndarray]
) -> None:
    """Four faulty answers in a row for shards; a client sends a request at most twice."""
    proxy = proxied(Script([fault] * 4, ".mds"), stall_seconds=1.0, slow_seconds=0.4)
    np.testing.assert_array_equal(batches(config(tmp_path / "cache", address)), undisturbed[: SAMPLES // BATCH])
    assert proxy.injected == {fault: 4}


def test_faults_of_all_kinds_change_no_batch_of_several_workers(
    address: str, proxied: Proxied, tmp_path: Path, undisturbed: list[np.ndarray]
) -> None:
    proxy = proxied(Script(list(Fault), ".mds"), stall_seconds=1.0, slow_seconds=0.4)
    found = batches(config(tmp_path / "cache", address, num_workers=2), epochs=2)
    np.testing.assert_array_equal(found, undisturbed)
    assert proxy.injected == dict.fromkeys(Fault, 1)


def test_a_run_starts_through_faults(address: str, proxied: Proxied, tmp_path: Path) -> None:
    faults = [Fault.error_503, Fault.no_answer, Fault.hang_up, Fault.error_500, Fault.flip, Fault.truncate]
    proxy = proxied(Script(faults))
    check_data(config(tmp_path / "cache", address), seq_lengths=[LENGTH], splits=["train"], vocab_size=VOCAB_SIZE)
    assert proxy.injected == dict.fromkeys(faults, 1)


def test_workers_do_not_share_a_connection(
    address: str, proxied: Proxied, tmp_path: Path, undisturbed: list[np.ndarray]
) -> None:
    """The process that forks them has a connection open; an answer to another process would be downloaded again."""
    got: Counter[str] = Counter()

    class Recorder:
        def choose(self, method: str, path: str) -> None:
            got[path] += method == "GET"

    proxied(Recorder())
    np.testing.assert_array_equal(batches(config(tmp_path / "cache", address, num_workers=2), epochs=2), undisturbed)
    assert len(got) > 4
    assert set(got.values()) == {1}


@pytest.mark.parametrize("workers", [0, 2])
def test_training_survives_an_outage(
    workers: int, address: str, proxied: Proxied, tmp_path: Path, undisturbed: list[np.ndarray]
) -> None:
    plan = Always(Fault.error_503, ".mds")
    proxied(plan)
    threading.Timer(4.0, setattr, [plan, "on", False]).start()
    found = batches(config(tmp_path / "cache", address, num_workers=workers), epochs=2)
    assert not plan.on
    np.testing.assert_array_equal(found, undisturbed)


@pytest.mark.parametrize(("fault", "workers"), [(Fault.error_500, 0), (Fault.stall, 2)])
def test_a_lasting_outage_is_one_line_in_time(
    fault: Fault, workers: int, address: str, proxied: Proxied, tmp_path: Path
) -> None:
    proxied(Always(fault, SHARD), stall_seconds=3.0)
    began = time.monotonic()
    with pytest.raises(Unreachable, match=rf"shard {SHARD} cannot be downloaded: .*\(tried for \d+ s\)") as found:
        batches(config(tmp_path / "cache", address, num_workers=workers, outage_tolerance=2.0))
    assert len(str(found.value).splitlines()) == 1
    assert time.monotonic() - began < 60, "far below the ten minutes of a hanging worker"


@pytest.mark.parametrize(("damage", "workers"), [("flipped bit", 0), ("cut short", 2)])
def test_a_damaged_shard_in_the_bucket_is_named(
    damage: str, workers: int, server: LocalS3, address: str, tmp_path: Path
) -> None:
    key = f"{tmp_path.name}/seq_{LENGTH}/train/{SHARD}"
    content = bytearray(server.read(key))
    if damage == "flipped bit":
        content[len(content) // 2] ^= 1
    server.write(key, bytes(content[: None if damage == "flipped bit" else 40]))
    with pytest.raises(DataError, match=rf"shard {SHARD} cannot be read: Checksum.*3 downloads gave the same"):
        batches(config(tmp_path / "cache", address, num_workers=workers))
    assert not list((tmp_path / "cache").rglob("shard.00002.*")), "the next run must not find it"


def test_without_a_hash_sizes_are_checked(server: LocalS3, address: str, tmp_path: Path) -> None:
    key = f"{tmp_path.name}/seq_{LENGTH}/train/{SHARD}"
    server.write(key, server.read(key)[:40])
    with pytest.raises(DataError, match=rf"shard {SHARD} cannot be read"):
        batches(config(tmp_path / "cache", address, validate_hash=None))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_in_the_cache_is_downloaded_again(
    workers: int, address: str, tmp_path: Path, undisturbed: list[np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    data = config(tmp_path / "cache", address, num_workers=workers)
    batches(data)
    OPEN.pop().dataloader.close()
    shards = sorted((tmp_path / "cache").rglob("*.mds"))
    flipped = bytearray(shards[1].read_bytes())
    flipped[-3] ^= 8
    shards[1].write_bytes(flipped)
    shards[3].write_bytes(shards[3].read_bytes()[:-1])
    for leftover in ("shard.00004.mds.zstd.aB12cD34", "shard.00004.mds.0123abcd.tmp"):
        (shards[0].parent / leftover).write_bytes(b"killed while writing")
    np.testing.assert_array_equal(batches(data, epochs=2), undisturbed)
    OPEN.pop().dataloader.close()
    assert f"shard {shards[3].name} in the cache is cut short" in caplog.text
    if workers == 0:
        assert f"shard {shards[1].name}.zstd in the cache is damaged: Checksum" in caplog.text
    left = {path.name for path in shards[0].parent.iterdir()}
    assert left == {"index.json", *(path.name for path in shards)}


def test_a_killed_run_may_leave_shards_unchecked(address: str, tmp_path: Path, undisturbed: list[np.ndarray]) -> None:
    data = config(tmp_path / "cache", address)
    batches(data)
    OPEN.pop().dataloader.close()
    for shard in (tmp_path / "cache").rglob("*.mds"):
        shard.rename(shard.with_name(shard.name + ".unchecked"))
    np.testing.assert_array_equal(batches(data, epochs=2), undisturbed)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bucket_that_vanishes(workers: int, server: LocalS3, address: str, proxied: Proxied, tmp_path: Path) -> None:
    class Vanishing:
        """Lets the index and one shard through."""

        def choose(self, method: str, path: str) -> None:
            if "shard.00001" not in path and ".mds" in path:
                for key in server.keys(tmp_path.name):
                    server.delete(key)

    proxied(Vanishing())
    began = time.monotonic()
    with pytest.raises(DataError, match=r"s3://.*/train: shard shard\.\d+\.mds\.zstd cannot be downloaded.*not found"):
        batches(config(tmp_path / "cache", address, num_workers=workers))
    assert time.monotonic() - began < 15, "404 is not retried"


@pytest.mark.parametrize("step", ["download", "decompression"])
def test_a_full_disk_is_named_and_training_resumes_when_it_has_space(
    step: str, address: str, tmp_path: Path, undisturbed: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    data = config(tmp_path / "cache", address)
    with monkeypatch.context() as patch:
        if step == "download":
            patch.setattr("s3transfer.download.DownloadFilenameOutputManager.get_fileobj_for_io_writes", full)
        else:
            patch.setattr(checked_stream_module, "decompress", full)
        place = rf"no space is left in {tmp_path / 'cache'}/seq_{LENGTH}/train .* data\.cache_limit"
        with pytest.raises(DataError, match=place):
            batches(data)
        while OPEN:
            OPEN.pop().dataloader.close()
    np.testing.assert_array_equal(batches(data, epochs=2), undisturbed)


def test_an_epoch_has_each_sample_once(undisturbed: list[np.ndarray]) -> None:
    ids = np.concatenate(undisturbed)[:, 0]
    assert len(undisturbed) == 2 * (SAMPLES // BATCH)
    assert len(set(ids.tolist())) > SAMPLES - BATCH

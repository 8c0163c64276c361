"""Checkpoints in S3, over HTTP on the loopback: background upload, deletion of old ones, checks after download."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from botocore.exceptions import EndpointConnectionError

from elc_composer.checkpoints.resume import CheckpointsConfig, find_resume_point
from elc_composer.checkpoints.s3 import Bucket, Mirror
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.s3 import ATTEMPTS, S3Prefix
from elc_composer.common.storage import Unreachable
from tests.checkpoints.damage import flip, save, save_sharded
from tests.faults.s3 import LocalS3, local_s3

PREFIX = "runs/one"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalS3]:
    with local_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def place(s3: LocalS3) -> str:
    """The run's `checkpoints.save_folder`."""
    return s3.address(PREFIX)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3's retries follow each other at once."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)


def keys(s3: LocalS3) -> list[str]:
    return s3.keys("")


class Outage:
    """Fails the next requests of a bucket's client before they are sent; those of some operations, or all."""

    def __init__(self, bucket: Bucket) -> None:
        self.left: dict[str, int] = {}
        self.seen: list[tuple[str, str]] = []
        self.gate = threading.Event()
        self.gate.set()
        events = bucket.objects.client.meta.events
        for operation in ("ListObjectsV2", "PutObject", "HeadObject", "GetObject", "DeleteObject"):
            events.register(f"before-send.s3.{operation}", self.handler(operation), unique_id=operation)

    def handler(self, operation: str) -> Any:
        def fail(request: Any, **_: Any) -> None:
            self.gate.wait(30)
            self.seen.append((operation, request.url.split("?")[0].rpartition("/")[2]))
            if self.left.get(operation, 0):
                self.left[operation] -= 1
                raise EndpointConnectionError(endpoint_url="http://gone")

        return fail


def test_a_run_resumes_from_the_bucket_on_another_machine(s3: LocalS3, place: str, tmp_path: Path) -> None:
    mirror = Mirror(Bucket(place), keep=2)
    for step in (2, 4, 6):
        mirror.submit(save(tmp_path / "first" / "checkpoints" / f"ba{step}-rank0.pt"))
    assert mirror.finish() == {}
    assert keys(s3) == ["runs/one/ba4-rank0.pt", "runs/one/ba6-rank0.pt"]
    fresh = tmp_path / "second"
    point = find_resume_point(CheckpointsConfig(save_folder=place), str(fresh))
    assert point is not None
    assert (point.path, point.step) == (str(fresh / "checkpoints" / "ba6-rank0.pt"), 6)
    assert torch.equal(torch.load(point.path)["weight"], torch.arange(100.0))
    assert [path.name for path in (fresh / "checkpoints").iterdir()] == ["ba6-rank0.pt"]


def test_a_sharded_checkpoint_is_uploaded_and_downloaded_completely(s3: LocalS3, place: str, tmp_path: Path) -> None:
    mirror = Mirror(Bucket(place), keep=1)
    for step in (3, 5):
        mirror.submit(save_sharded(tmp_path / f"ep0-ba{step}"))
    assert mirror.finish() == {}
    assert keys(s3) == ["runs/one/ep0-ba5/.metadata", "runs/one/ep0-ba5/__0_0.distcp"]
    point = find_resume_point(CheckpointsConfig(save_folder=place), str(tmp_path / "fresh"))
    assert point is not None
    assert point.path == str(tmp_path / "fresh" / "checkpoints" / "ep0-ba5")
    s3.delete("runs/one/ep0-ba5/.metadata")
    assert find_resume_point(CheckpointsConfig(save_folder=place), str(tmp_path / "other")) is None


def test_a_damaged_newest_checkpoint_is_skipped_after_download(s3: LocalS3, place: str, tmp_path: Path) -> None:
    bucket = Bucket(place)
    bucket.send(save(tmp_path / "ba2-rank0.pt"))
    newest = save(tmp_path / "ba4-rank0.pt")
    flip(newest, newest.read_bytes().index(torch.arange(100.0).numpy().tobytes()) + 9)
    bucket.send(newest)
    point = find_resume_point(CheckpointsConfig(save_folder=place), str(tmp_path / "fresh"))
    assert point is not None
    assert point.step == 2
    assert point.damaged[0].startswith(f"{place}/ba4-rank0.pt: ")
    s3.delete("runs/one/ba2-rank0.pt")
    with pytest.raises(DataError, match=rf"all checkpoints of this run are damaged \({place}/ba4-rank0.pt"):
        find_resume_point(CheckpointsConfig(save_folder=place), str(tmp_path / "another"))


def test_a_damaged_file_on_this_disk_is_replaced_by_the_copy(s3: LocalS3, place: str, tmp_path: Path) -> None:
    here = save(tmp_path / "checkpoints" / "ba4-rank0.pt")
    Bucket(place).send(here)
    here.write_bytes(here.read_bytes()[:200])
    point = find_resume_point(CheckpointsConfig(save_folder=place), str(tmp_path))
    assert point is not None
    assert (point.path, point.step) == (str(here), 4)
    assert torch.equal(torch.load(here)["weight"], torch.arange(100.0))


def test_a_run_with_a_longer_name_in_the_bucket_is_another_run(s3: LocalS3, place: str, tmp_path: Path) -> None:
    for key in ("one/ba5-rank0.pt", "one_small/ba9000-rank0.pt", "one/old/ba7-rank0.pt", "one/ep0-ba6/.metadata"):
        s3.write(f"runs/{key}", b"")
    assert Bucket(place).steps() == {"ba5-rank0.pt": 5, "ep0-ba6": 6}


def test_uploads_are_tried_again(s3: LocalS3, place: str, tmp_path: Path, no_pauses: None) -> None:
    bucket = Bucket(place)
    outage = Outage(bucket)
    outage.left = {"PutObject": ATTEMPTS - 1}
    mirror = Mirror(bucket, keep=-1)
    mirror.submit(save(tmp_path / "ba2-rank0.pt"))
    assert mirror.finish() == {}
    assert outage.left == {"PutObject": 0}
    assert keys(s3) == ["runs/one/ba2-rank0.pt"]


def test_a_failed_upload_is_repeated_with_the_next_one_or_named(
    s3: LocalS3, place: str, tmp_path: Path, no_pauses: None
) -> None:
    bucket = Bucket(place)
    outage = Outage(bucket)
    outage.left = {"PutObject": ATTEMPTS}
    mirror = Mirror(bucket, keep=-1)
    first, second = save(tmp_path / "ba2-rank0.pt"), save(tmp_path / "ba4-rank0.pt")
    mirror.submit(first)
    while not mirror.failed:
        threading.Event().wait(0.01)
    assert mirror.pending() == {first}, "a checkpoint that is not in the bucket yet must stay on the disk"
    mirror.submit(second)
    assert mirror.finish() == {}
    assert keys(s3) == ["runs/one/ba2-rank0.pt", "runs/one/ba4-rank0.pt"]
    outage.left = {"PutObject": 999}
    hopeless = Mirror(bucket, keep=-1)
    hopeless.submit(first)
    (reason,) = hopeless.finish().values()
    assert 'Could not connect to the endpoint URL: "http://gone"' in reason


def test_the_last_checkpoint_is_sent_again_at_the_end_of_the_run(
    s3: LocalS3, place: str, tmp_path: Path, no_pauses: None
) -> None:
    bucket = Bucket(place)
    outage = Outage(bucket)
    outage.left = {"PutObject": ATTEMPTS}
    mirror = Mirror(bucket, keep=-1)
    mirror.submit(save(tmp_path / "ba2-rank0.pt"))
    while not mirror.failed:
        threading.Event().wait(0.01)
    assert keys(s3) == []
    assert mirror.finish() == {}
    assert keys(s3) == ["runs/one/ba2-rank0.pt"]


def test_listing_and_deletion_are_retried(s3: LocalS3, place: str, tmp_path: Path, no_pauses: None) -> None:
    bucket = Bucket(place)
    outage = Outage(bucket)
    outage.left = {"ListObjectsV2": 3, "DeleteObject": 3}
    mirror = Mirror(bucket, keep=1)
    for step in (2, 4):
        mirror.submit(save(tmp_path / f"ba{step}-rank0.pt"))
    assert mirror.finish() == {}
    assert outage.left == {"ListObjectsV2": 0, "DeleteObject": 0}
    assert keys(s3) == ["runs/one/ba4-rank0.pt"]
    # A failed deletion of old checkpoints does not undo the upload.
    outage.left = {"ListObjectsV2": 99}
    mirror = Mirror(bucket, keep=1)
    mirror.submit(save(tmp_path / "ba6-rank0.pt"))
    assert mirror.finish() == {}
    assert keys(s3) == ["runs/one/ba4-rank0.pt", "runs/one/ba6-rank0.pt"]


def test_the_metadata_of_a_sharded_checkpoint_is_sent_last_and_deleted_first(
    s3: LocalS3, place: str, tmp_path: Path
) -> None:
    """A sharded checkpoint counts where its `.metadata` exists, whose name would come first."""
    checkpoint = save_sharded(tmp_path / "ep0-ba3")
    names = sorted(path.name for path in checkpoint.iterdir())
    assert names[0] == ".metadata"
    assert len(names) > 1
    bucket = Bucket(place)
    outage = Outage(bucket)
    bucket.send(checkpoint)
    assert [name for operation, name in outage.seen if operation == "PutObject"] == [*names[1:], ".metadata"]
    bucket.delete("ep0-ba3")
    assert [name for operation, name in outage.seen if operation == "DeleteObject"] == [".metadata", *names[1:]]


def test_a_file_that_arrives_cut_short_is_downloaded_again(
    s3: LocalS3, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a proxy that adjusts the length: boto3 takes it for a success."""
    Bucket(place).send(save(tmp_path / "ba4-rank0.pt"))
    download, cut = S3Prefix.download, [True, True]

    def spoiled(objects: S3Prefix, name: str, file: Path) -> None:
        download(objects, name, file)
        if cut and cut.pop():
            file.write_bytes(file.read_bytes()[:100])

    monkeypatch.setattr(S3Prefix, "download", spoiled)
    point = find_resume_point(CheckpointsConfig(save_folder=place), str(tmp_path / "fresh"))
    assert point is not None
    assert torch.equal(torch.load(point.path)["weight"], torch.arange(100.0))
    cut += [True] * 9
    with pytest.raises(Unreachable, match=r"ba4-rank0\.pt cannot be downloaded \(100 of [\d,]+ bytes arrived\)"):
        find_resume_point(CheckpointsConfig(save_folder=place), str(tmp_path / "other"))


def test_a_checkpoint_that_is_damaged_in_transfer_is_downloaded_again(
    s3: LocalS3, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bucket(place).send(save(tmp_path / "ba4-rank0.pt"))
    Bucket(place).send(save(tmp_path / "ba6-rank0.pt"))
    fetch, damaged = Bucket.fetch, ["ba6-rank0.pt"]

    def spoiled(bucket: Bucket, name: str, target: Path) -> None:
        fetch(bucket, name, target)
        if name in damaged:
            damaged.remove(name)
            flip(target, target.read_bytes().index(torch.arange(100.0).numpy().tobytes()) + 50)

    monkeypatch.setattr(Bucket, "fetch", spoiled)
    point = find_resume_point(CheckpointsConfig(save_folder=place), str(tmp_path / "fresh"))
    assert point is not None
    assert (point.step, point.damaged, damaged) == (6, (), [])


def test_a_checkpoint_that_is_unreachable_is_not_skipped(
    s3: LocalS3, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage is at fault, not the checkpoint: resuming from an older one would repeat steps."""
    for step in (4, 6):
        Bucket(place).send(save(tmp_path / f"ba{step}-rank0.pt"))

    def gone(*_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="http://gone")

    monkeypatch.setattr(Bucket, "_fetch_file", gone)
    with pytest.raises(Unreachable, match=r"ba6-rank0\.pt cannot be downloaded"):
        find_resume_point(CheckpointsConfig(save_folder=place), str(tmp_path / "fresh"))


def test_training_does_not_wait_for_an_upload(s3: LocalS3, place: str, tmp_path: Path) -> None:
    bucket = Bucket(place)
    outage = Outage(bucket)
    outage.gate.clear()
    mirror = Mirror(bucket, keep=-1)
    mirror.submit(save(tmp_path / "ba2-rank0.pt"))
    assert keys(s3) == []
    assert mirror.pending() == {tmp_path / "ba2-rank0.pt"}
    outage.gate.set()
    assert mirror.finish() == {}
    assert keys(s3) == ["runs/one/ba2-rank0.pt"]


def test_a_missing_bucket_is_one_line(s3: LocalS3, place: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"save_folder: s3://nowhere cannot be listed .*NoSuchBucket.*credentials"):
        find_resume_point(CheckpointsConfig(save_folder="s3://nowhere"), str(tmp_path))

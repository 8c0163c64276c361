"""Copies of checkpoints in S3, over real HTTP on the loopback: sent in the background, kept few, checked when read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import torch
from botocore.exceptions import EndpointConnectionError
from moto.server import ThreadedMotoServer

from elc_composer.checkpoints.resume import CheckpointsConfig, find_resume_point
from elc_composer.checkpoints.s3 import Bucket, Mirror, Place
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.storage import Unreachable
from tests.checkpoints.damage import flip, save, save_sharded

PLACE = Place.parse("s3://bucket/runs/one/")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("S3_ENDPOINT_URL", server)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url=server)
    client.create_bucket(Bucket="bucket")
    for entry in client.list_objects_v2(Bucket="bucket").get("Contents", []):
        client.delete_object(Bucket="bucket", Key=entry["Key"])
    return client


def keys(s3: Any) -> list[str]:
    return sorted(entry["Key"] for entry in s3.list_objects_v2(Bucket="bucket").get("Contents", []))


def test_a_run_goes_on_from_the_bucket_on_a_fresh_machine(s3: Any, tmp_path: Path) -> None:
    mirror = Mirror(Bucket(PLACE), keep=2)
    for step in (2, 4, 6):
        mirror.submit(save(tmp_path / "first" / "checkpoints" / f"ba{step}-rank0.pt"))
    assert mirror.finish() == {}
    assert keys(s3) == ["runs/one/ba4-rank0.pt", "runs/one/ba6-rank0.pt"]
    fresh = tmp_path / "second"
    point = find_resume_point(CheckpointsConfig(save_folder=str(PLACE)), str(fresh))
    assert point is not None
    assert (point.path, point.step) == (str(fresh / "checkpoints" / "ba6-rank0.pt"), 6)
    assert torch.equal(torch.load(point.path)["weight"], torch.arange(100.0))
    assert [path.name for path in (fresh / "checkpoints").iterdir()] == ["ba6-rank0.pt"]


def test_a_sharded_checkpoint_goes_and_comes_as_a_whole(s3: Any, tmp_path: Path) -> None:
    mirror = Mirror(Bucket(PLACE), keep=1)
    for step in (3, 5):
        mirror.submit(save_sharded(tmp_path / f"ep0-ba{step}"))
    assert mirror.finish() == {}
    assert keys(s3) == ["runs/one/ep0-ba5/.metadata", "runs/one/ep0-ba5/__0_0.distcp"]
    point = find_resume_point(CheckpointsConfig(save_folder=str(PLACE)), str(tmp_path / "fresh"))
    assert point is not None
    assert point.path == str(tmp_path / "fresh" / "checkpoints" / "ep0-ba5")
    s3.delete_object(Bucket="bucket", Key="runs/one/ep0-ba5/.metadata")
    assert find_resume_point(CheckpointsConfig(save_folder=str(PLACE)), str(tmp_path / "other")) is None


def test_a_damaged_newest_one_is_passed_over_after_download(s3: Any, tmp_path: Path) -> None:
    bucket = Bucket(PLACE)
    bucket.send(save(tmp_path / "ba2-rank0.pt"))
    newest = save(tmp_path / "ba4-rank0.pt")
    flip(newest, newest.read_bytes().index(torch.arange(100.0).numpy().tobytes()) + 9)
    bucket.send(newest)
    point = find_resume_point(CheckpointsConfig(save_folder=str(PLACE)), str(tmp_path / "fresh"))
    assert point is not None
    assert point.step == 2
    assert "s3://bucket/runs/one/ba4-rank0.pt" in point.damaged[0]
    s3.delete_object(Bucket="bucket", Key="runs/one/ba2-rank0.pt")
    with pytest.raises(DataError, match=r"all checkpoints of this run are damaged \(s3://bucket/runs/one/ba4-rank0.pt"):
        find_resume_point(CheckpointsConfig(save_folder=str(PLACE)), str(tmp_path / "another"))


def test_a_damaged_file_on_this_disk_is_replaced_by_the_copy(s3: Any, tmp_path: Path) -> None:
    here = save(tmp_path / "checkpoints" / "ba4-rank0.pt")
    Bucket(PLACE).send(here)
    here.write_bytes(here.read_bytes()[:200])
    point = find_resume_point(CheckpointsConfig(save_folder=str(PLACE)), str(tmp_path))
    assert point is not None
    assert (point.path, point.step) == (str(here), 4)
    assert torch.equal(torch.load(here)["weight"], torch.arange(100.0))


def test_another_run_of_a_longer_name_in_the_bucket_is_not_ours(s3: Any, tmp_path: Path) -> None:
    for key in ("one/ba5-rank0.pt", "one_small/ba9000-rank0.pt", "one/old/ba7-rank0.pt", "one/ep0-ba6/.metadata"):
        s3.put_object(Bucket="bucket", Key=f"runs/{key}", Body=b"")
    assert Bucket(PLACE).steps() == {"ba5-rank0.pt": 5, "ep0-ba6": 6}


class Faulty(Bucket):
    """A bucket whose first requests fail."""

    def __init__(self, failures: int) -> None:
        super().__init__(PLACE, wait=0.0)
        self.failures = failures
        self.gate = threading.Event()
        self.gate.set()

    def _send_file(self, file: Path, name: str) -> None:
        self.gate.wait(30)
        if self.failures:
            self.failures -= 1
            raise EndpointConnectionError(endpoint_url="http://gone")
        super()._send_file(file, name)


def test_uploads_are_tried_again(s3: Any, tmp_path: Path) -> None:
    mirror = Mirror(Faulty(5), keep=-1)
    mirror.submit(save(tmp_path / "ba2-rank0.pt"))
    assert mirror.finish() == {}
    assert keys(s3) == ["runs/one/ba2-rank0.pt"]


def test_what_cannot_be_sent_is_sent_with_the_next_one_or_named(s3: Any, tmp_path: Path) -> None:
    bucket = Faulty(6)
    mirror = Mirror(bucket, keep=-1)
    first, second = save(tmp_path / "ba2-rank0.pt"), save(tmp_path / "ba4-rank0.pt")
    mirror.submit(first)
    while not mirror.failed:
        threading.Event().wait(0.01)
    assert mirror.pending() == {first}, "a checkpoint that is not in the bucket yet must stay on the disk"
    mirror.submit(second)
    assert mirror.finish() == {}
    assert keys(s3) == ["runs/one/ba2-rank0.pt", "runs/one/ba4-rank0.pt"]
    hopeless = Mirror(Faulty(999), keep=-1)
    hopeless.submit(first)
    assert hopeless.finish() == {first: 'Could not connect to the endpoint URL: "http://gone"'}


def test_a_bucket_that_fails_for_a_while_is_listed_and_tidied_all_the_same(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing: list[str] = []

    def slow_down(operation_name: str, **_: Any) -> None:
        if operation_name in failing:
            failing.remove(operation_name)
            raise EndpointConnectionError(endpoint_url="http://gone")

    bucket = Bucket(PLACE, wait=0.0)
    for operation in ("ListObjectsV2", "DeleteObject"):
        bucket.client.meta.events.register(
            f"before-call.s3.{operation}", lambda model, **_: slow_down(model.name), unique_id=operation
        )
    failing += ["ListObjectsV2"] * 3 + ["DeleteObject"] * 3
    mirror = Mirror(bucket, keep=1)
    for step in (2, 4):
        mirror.submit(save(tmp_path / f"ba{step}-rank0.pt"))
    assert mirror.finish() == {}
    assert failing == []
    assert keys(s3) == ["runs/one/ba4-rank0.pt"]
    # One that cannot be tidied has been sent nevertheless.
    failing += ["ListObjectsV2"] * 99
    mirror = Mirror(bucket, keep=1)
    mirror.submit(save(tmp_path / "ba6-rank0.pt"))
    assert mirror.finish() == {}
    assert keys(s3) == ["runs/one/ba4-rank0.pt", "runs/one/ba6-rank0.pt"]


def test_a_checkpoint_that_is_damaged_on_the_way_is_fetched_again(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bucket(PLACE).send(save(tmp_path / "ba4-rank0.pt"))
    Bucket(PLACE).send(save(tmp_path / "ba6-rank0.pt"))
    fetch, damaged = Bucket.fetch, ["ba6-rank0.pt"]

    def spoiled(bucket: Bucket, name: str, target: Path) -> None:
        fetch(bucket, name, target)
        if name in damaged:
            damaged.remove(name)
            flip(target, target.read_bytes().index(torch.arange(100.0).numpy().tobytes()) + 50)

    monkeypatch.setattr(Bucket, "fetch", spoiled)
    point = find_resume_point(CheckpointsConfig(save_folder=str(PLACE)), str(tmp_path / "fresh"))
    assert point is not None
    assert (point.step, point.damaged, damaged) == (6, (), [])


def test_a_checkpoint_that_cannot_be_had_now_is_not_passed_over(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older one would be the wrong one to go on from: the storage, and not the checkpoint, is at fault."""
    for step in (4, 6):
        Bucket(PLACE).send(save(tmp_path / f"ba{step}-rank0.pt"))

    def gone(*_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="http://gone")

    monkeypatch.setattr(Bucket, "_fetch_file", gone)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(Unreachable, match=r"ba6-rank0\.pt cannot be downloaded"):
        find_resume_point(CheckpointsConfig(save_folder=str(PLACE)), str(tmp_path / "fresh"))


def test_training_does_not_wait_for_an_upload(s3: Any, tmp_path: Path) -> None:
    bucket = Faulty(0)
    bucket.gate.clear()
    mirror = Mirror(bucket, keep=-1)
    mirror.submit(save(tmp_path / "ba2-rank0.pt"))
    assert keys(s3) == []
    assert mirror.pending() == {tmp_path / "ba2-rank0.pt"}
    bucket.gate.set()
    assert mirror.finish() == {}
    assert keys(s3) == ["runs/one/ba2-rank0.pt"]


def test_a_bucket_that_is_not_there_is_one_sentence(s3: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"save_folder: s3://nowhere/ cannot be listed .*NoSuchBucket.*credentials"):
        find_resume_point(CheckpointsConfig(save_folder="s3://nowhere"), str(tmp_path))

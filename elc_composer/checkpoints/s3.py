"""Checkpoints in S3: listed and fetched when a run starts, sent in the background while it trains."""

from __future__ import annotations

import logging
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from elc_composer.checkpoints.names import step_of
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.storage import Unreachable, may_pass

log = logging.getLogger(__name__)

FAULTS = (BotoCoreError, ClientError, Boto3Error, OSError)
ATTEMPTS = 6
"""How often a file is sent or fetched before it counts as failed, after S3's client has tried each request again."""


@dataclass(frozen=True)
class Place:
    """A prefix in a bucket."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> Place:
        """From `s3://bucket/prefix`.

        Raises:
            ConfigError: for another scheme, or without a bucket.
        """
        scheme, _, rest = uri.partition("://")
        bucket, _, prefix = rest.partition("/")
        if scheme != "s3" or not bucket:
            raise ConfigError(f"checkpoints.save_folder is {uri}; it must be a folder, or s3://bucket/prefix")
        return cls(bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else "")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


class Bucket:
    """What is needed of S3, with retries. `S3_ENDPOINT_URL` names another server; credentials are boto3's own."""

    def __init__(self, place: Place, wait: float = 1.0) -> None:
        self.place = place
        self.wait = wait
        retries: Any = {"mode": "standard", "max_attempts": 4}
        self.client = boto3.client(
            "s3",
            endpoint_url=os.environ.get("S3_ENDPOINT_URL") or None,
            config=Config(retries=retries, connect_timeout=10, read_timeout=60),
        )

    def files(self) -> dict[str, int]:
        """Every object below the prefix, by its name there, with its size in bytes.

        Raises:
            Unreachable: if the storage does not answer as it should.
            ConfigError: if the bucket cannot be listed.
        """
        objects: list[dict[str, Any]] = []
        try:
            self._insist(lambda: objects.extend(self._list()))
        except FAULTS as error:
            kind = Unreachable if may_pass(error) else ConfigError
            raise kind(
                f"checkpoints.save_folder: {self.place} cannot be listed ({one_line(error)}); check the bucket, "
                "S3_ENDPOINT_URL and credentials"
            ) from error
        return {entry["Key"].removeprefix(self.place.prefix): entry["Size"] for entry in objects}

    def _list(self) -> list[dict[str, Any]]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.place.bucket, Prefix=self.place.prefix
        )
        return [entry for page in pages for entry in page.get("Contents", [])]

    def steps(self) -> dict[str, int]:
        """The checkpoints, by name, with their steps: files, and folders that hold their `.metadata`."""
        names = (name.removesuffix("/.metadata") for name in self.files())
        # Listing goes by prefix: what lies deeper is another run's, or a part of a sharded checkpoint.
        return {name: step for name in names if "/" not in name and (step := step_of(name)) is not None}

    def fetch(self, name: str, target: Path) -> None:
        """Download a checkpoint, file or folder, to a path that appears only once it is there in full.

        Raises:
            Unreachable: if the storage does not answer as it should, after the last attempt.
            DataError: if it answers that there is no such checkpoint, or not for us.
        """
        unfinished = target.with_name(f".{target.name}.fetching")
        files = {file: size for file, size in self.files().items() if file == name or file.startswith(f"{name}/")}
        try:
            for file, size in files.items():
                place = unfinished if file == name else unfinished / file.removeprefix(f"{name}/")
                place.parent.mkdir(parents=True, exist_ok=True)
                self._insist(partial(self._fetch_file, file, place, size))
        except FAULTS as error:
            remove(unfinished)
            kind = Unreachable if may_pass(error) else DataError
            raise kind(f"{self.place}{name} cannot be downloaded ({one_line(error)})") from error
        remove(target)
        os.replace(unfinished, target)

    def _fetch_file(self, name: str, place: Path, size: int) -> None:
        self.client.download_file(self.place.bucket, self.place.prefix + name, str(place))
        if place.stat().st_size != size:
            raise OSError(f"{place.stat().st_size:,} of {size:,} bytes came")

    def send(self, path: Path) -> None:
        """Upload a checkpoint, file or folder; a sharded one counts once its `.metadata` is there, which comes last.

        Raises:
            BotoCoreError, ClientError, Boto3Error, OSError: after the last attempt.
        """
        files = sorted(path.iterdir(), key=lambda file: file.name == ".metadata") if path.is_dir() else [path]
        for file in files:
            name = file.name if file == path else f"{path.name}/{file.name}"
            self._insist(partial(self._send_file, file, name))

    def _send_file(self, file: Path, name: str) -> None:
        key = self.place.prefix + name
        # One thread: uploading must leave the processors to training.
        self.client.upload_file(str(file), self.place.bucket, key, Config=TransferConfig(use_threads=False))
        sent = self.client.head_object(Bucket=self.place.bucket, Key=key)["ContentLength"]
        if sent != file.stat().st_size:
            raise OSError(f"{sent:,} of {file.stat().st_size:,} bytes arrived")

    def delete(self, name: str) -> None:
        """Delete a checkpoint, a sharded one's `.metadata` first, so that half of it never counts."""
        files = [file for file in self.files() if file == name or file.startswith(f"{name}/")]
        for file in sorted(files, key=lambda file: not file.endswith("/.metadata")):
            self._insist(partial(self._delete_file, file))

    def _delete_file(self, name: str) -> None:
        self.client.delete_object(Bucket=self.place.bucket, Key=self.place.prefix + name)

    def _insist(self, action: Callable[[], None]) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return action()
            except FAULTS as error:
                if attempt == ATTEMPTS or not may_pass(error):
                    raise
                log.warning("%s: attempt %d of %d failed: %s", self.place, attempt, ATTEMPTS, one_line(error))
                time.sleep(self.wait * 2 ** (attempt - 1))


class Mirror:
    """Sends checkpoints to S3 in a thread of its own and keeps the newest `keep` there.

    A checkpoint that cannot be sent is tried again after the next one, and at the end of the run.
    """

    def __init__(self, bucket: Bucket, keep: int) -> None:
        self.bucket = bucket
        self.keep = keep
        self.failed: dict[Path, str] = {}
        self._waiting: queue.Queue[Path | None] = queue.Queue()
        self._busy: set[Path] = set()
        self._thread = threading.Thread(target=self._work, name="checkpoint-upload", daemon=True)
        self._thread.start()

    def submit(self, path: Path) -> None:
        """Send a checkpoint, and again those that failed before; returns at once."""
        for each in [*self.failed, path]:
            self.failed.pop(each, None)
            self._busy.add(each)
            self._waiting.put(each)

    def pending(self) -> set[Path]:
        """What must not be deleted yet."""
        return set(self._busy) | set(self.failed)

    def finish(self) -> dict[Path, str]:
        """Wait for everything that is under way; returns what could not be sent, and why."""
        for path in list(self.failed):
            self.failed.pop(path)
            self._busy.add(path)
            self._waiting.put(path)
        self._waiting.put(None)
        self._thread.join()
        return self.failed

    def _work(self) -> None:
        while (path := self._waiting.get()) is not None:
            try:
                self.bucket.send(path)
            except FAULTS as error:
                self.failed[path] = one_line(error)
                log.warning("checkpoint %s could not be sent to %s: %s", path, self.bucket.place, one_line(error))
            else:
                self._prune(step_of(path.name) or 0)
            finally:
                self._busy.discard(path)

    def _prune(self, step: int) -> None:
        try:
            for name in surplus(self.bucket.steps(), self.keep, step):
                self.bucket.delete(name)
        except (*FAULTS, ConfigError, DataError) as error:
            log.warning("old checkpoints in %s stay for now: %s", self.bucket.place, one_line(error))


def surplus(steps: dict[str, int], keep: int, newest: int) -> list[str]:
    """Names of all but the last `keep` (-1: of none) up to step `newest`; what lies beyond is none of this run's."""
    newest_first = sorted((name for name in steps if steps[name] <= newest), key=lambda name: steps[name], reverse=True)
    return [] if keep < 0 else newest_first[keep:]


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def one_line(error: BaseException) -> str:
    """An error's text without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__

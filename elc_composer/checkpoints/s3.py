"""Checkpoints in S3: list and download them when a run starts, upload them in the background while it trains."""

from __future__ import annotations

import logging
import os
import queue
import shutil
import threading
from pathlib import Path

from elc_composer.checkpoints.names import step_of
from elc_composer.common.addresses import Address, parse_address
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.s3 import S3_ERRORS, S3Prefix
from elc_composer.common.storage import Unreachable, describe, is_transient

log = logging.getLogger(__name__)

DOWNLOADS = 3
"""Downloads of a file that arrives with another size; boto3 repeats only requests that fail."""
_COPY_IT = "; to resume a run that was saved there, copy its files to another prefix and set that"


def parse_save_folder(text: str) -> Address:
    """The address in `checkpoints.save_folder`, `s3://bucket/prefix`.

    Raises:
        ConfigError: another scheme, no bucket, user information, `#` or `?`.
    """
    return parse_address(text, "checkpoints.save_folder", ["s3"], remedy=_COPY_IT)


class Bucket:
    """The checkpoints below one prefix of a bucket.

    Args:
        save_folder: `s3://bucket/prefix`.
    """

    def __init__(self, save_folder: str) -> None:
        self.address = parse_save_folder(save_folder)
        self.objects = S3Prefix(self.address)

    def files(self) -> dict[str, int]:
        """The size in bytes of every object below the prefix, by name.

        Raises:
            Unreachable: a transient storage failure.
            ConfigError: a bucket that cannot be listed.
        """
        try:
            return self.objects.sizes()
        except S3_ERRORS as error:
            kind = Unreachable if is_transient(error) else ConfigError
            raise kind(
                f"checkpoints.save_folder: {self.address} cannot be listed ({describe(error)}); check the bucket, "
                "S3_ENDPOINT_URL and credentials"
            ) from error

    def steps(self) -> dict[str, int]:
        """The step of each checkpoint, by name: files, and folders that hold their `.metadata`."""
        names = (name.removesuffix("/.metadata") for name in self.files())
        # The list goes by prefix: a deeper name belongs to another run or is a part of a sharded checkpoint.
        return {name: step for name in names if "/" not in name and (step := step_of(name)) is not None}

    def fetch(self, name: str, target: Path) -> None:
        """Download a checkpoint, file or folder, to a path that appears when it is complete.

        Raises:
            Unreachable: a transient storage failure.
            DataError: no such checkpoint, or no access to it.
        """
        unfinished = target.with_name(f".{target.name}.fetching")
        files = {file: size for file, size in self.files().items() if file == name or file.startswith(f"{name}/")}
        try:
            for file, size in files.items():
                path = unfinished if file == name else unfinished / file.removeprefix(f"{name}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                self._fetch_file(file, path, size)
        except S3_ERRORS as error:
            remove(unfinished)
            kind = Unreachable if is_transient(error) else DataError
            raise kind(f"{self.address}/{name} cannot be downloaded ({describe(error)})") from error
        remove(target)
        os.replace(unfinished, target)

    def _fetch_file(self, name: str, path: Path, size: int) -> None:
        found = -1
        for _ in range(DOWNLOADS):
            self.objects.download(name, path)
            found = path.stat().st_size
            if found == size:
                return
            log.warning("%s/%s: %d of %d bytes arrived; downloading it again", self.address, name, found, size)
        raise OSError(f"{found:,} of {size:,} bytes arrived")

    def send(self, path: Path) -> None:
        """Upload a checkpoint, file or folder.

        A sharded checkpoint counts once its `.metadata` exists, so that file is uploaded last.

        Raises:
            BotoCoreError, ClientError, Boto3Error, OSError: after boto3's last attempt.
        """
        files = sorted(path.iterdir(), key=lambda file: file.name == ".metadata") if path.is_dir() else [path]
        for file in files:
            self._send_file(file, file.name if file == path else f"{path.name}/{file.name}")

    def _send_file(self, file: Path, name: str) -> None:
        self.objects.upload(file, name)
        sent = self.objects.size(name)
        if sent != file.stat().st_size:
            raise OSError(f"{sent:,} of {file.stat().st_size:,} bytes arrived")

    def delete(self, name: str) -> None:
        """Delete a checkpoint; a sharded one's `.metadata` first, so that an incomplete one never counts."""
        files = [file for file in self.files() if file == name or file.startswith(f"{name}/")]
        for file in sorted(files, key=lambda file: not file.endswith("/.metadata")):
            self.objects.delete(file)


class Mirror:
    """Uploads checkpoints in a thread of its own and keeps the newest `keep` in the bucket.

    A checkpoint that cannot be uploaded is tried again after the next one, and at the end of the run. This and boto3's
    retries suffice: training does not wait, and the file stays on the disk meanwhile.
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
        """Upload a checkpoint, and again those that failed before; returns at once."""
        for each in [*self.failed, path]:
            self.failed.pop(each, None)
            self._busy.add(each)
            self._waiting.put(each)

    def pending(self) -> set[Path]:
        """Checkpoints that are still uploading or failed to upload; do not delete them."""
        return set(self._busy) | set(self.failed)

    def finish(self) -> dict[Path, str]:
        """Wait for all uploads; returns the checkpoints that could not be uploaded, each with the reason."""
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
            except S3_ERRORS as error:
                self.failed[path] = describe(error)
                log.warning("checkpoint %s could not be uploaded to %s: %s", path, self.bucket.address, describe(error))
            else:
                self._prune(step_of(path.name) or 0)
            finally:
                self._busy.discard(path)

    def _prune(self, step: int) -> None:
        try:
            for name in surplus(self.bucket.steps(), self.keep, step):
                self.bucket.delete(name)
        except (*S3_ERRORS, ConfigError, DataError) as error:
            log.warning("old checkpoints in %s are not deleted yet: %s", self.bucket.address, describe(error))


def surplus(steps: dict[str, int], keep: int, newest: int) -> list[str]:
    """Names of checkpoints to delete: all but the newest `keep` (-1: delete none) up to step `newest`.

    Later steps belong to another run.
    """
    newest_first = sorted((name for name in steps if steps[name] <= newest), key=lambda name: steps[name], reverse=True)
    return [] if keep < 0 else newest_first[keep:]


def remove(path: Path) -> None:
    """Delete a file or folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""Writes `metadata.json`: package versions, machine, git commit and data hashes of a run."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from composer.utils import dist

from elc_composer.common.addresses import is_address, local_path
from elc_composer.common.errors import DataError
from elc_composer.common.files import sha256_file, write_json
from elc_composer.common.json_files import read_json
from elc_composer.common.run_folder import METADATA
from elc_composer.common.storage import fetch
from elc_composer.data.config import DataConfig, StreamConfig
from elc_composer.prepared.layout import MANIFEST

PACKAGES = ("elc-composer", "torch", "mosaicml", "mosaicml-streaming", "transformers", "tokenizers", "numpy")


def run_metadata(data: DataConfig) -> dict[str, Any]:
    """Package versions, ranks, machine, git commit (None outside a checkout) and manifest hashes of the streams."""
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "git": _commit(Path(__file__).resolve().parent),
        "ranks": dist.get_world_size(),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        },
        "data": [{"stream": stream.name, "manifest_sha256": _manifest_hash(stream)} for stream in data.streams],
    }


def write_metadata(folder: Path, data: DataConfig) -> None:
    """Write `metadata.json`. If an earlier process of the run wrote other values, they are kept under `earlier`.

    A damaged file of an earlier process is replaced.
    """
    path, now = folder / METADATA, run_metadata(data)
    earlier: list[Any] = []
    try:
        before = read_json(path)
    except DataError:
        before = None
    if isinstance(before, dict):
        kept = before.pop("earlier", [])
        earlier = kept if isinstance(kept, list) else []
        if before != now:
            earlier = [*earlier, before]
    write_json(path, {**now, "earlier": earlier}, sort_keys=False)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit(package: Path) -> dict[str, Any] | None:
    if not (package.parent / ".git").exists():
        return None
    git = ["git", "-C", str(package)]
    try:
        commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True, timeout=20)
        status = subprocess.check_output([*git, "status", "--porcelain", "-uno"], text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.strip(), "changed": bool(status.strip())}


def _manifest_hash(stream: StreamConfig) -> str | None:
    """SHA-256 of a stream's `manifest.json`, which holds all hashes of the data; None if it cannot be read."""
    root = local_path(stream.remote or stream.local or "").rstrip("/")
    try:
        if is_address(root):
            return hashlib.sha256(fetch(f"{root}/{MANIFEST}")).hexdigest()
        return sha256_file(Path(root) / MANIFEST)
    except (DataError, OSError):  # data without a manifest can be trained on as well
        return None

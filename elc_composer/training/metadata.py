"""What made a run: versions, machine, commit and data, in `metadata.json` beside the resolved config."""

from __future__ import annotations

import hashlib
import json
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
from elc_composer.common.storage import fetch
from elc_composer.data.config import DataConfig, StreamConfig

FILE = "metadata.json"
PACKAGES = ("elc-composer", "torch", "mosaicml", "mosaicml-streaming", "transformers", "tokenizers", "numpy")


def run_metadata(data: DataConfig) -> dict[str, Any]:
    """Versions, ranks, device, commit of the code (None outside a git checkout), and the streams' manifests."""
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
    """Write `metadata.json`; what an earlier process of the run wrote is kept under `earlier`, if it differs."""
    path, now = folder / FILE, run_metadata(data)
    try:
        before = json.loads(path.read_text())
        earlier = before.pop("earlier", [])
    except (OSError, ValueError, AttributeError):
        before, earlier = now, []
    if before != now:
        earlier = [*earlier, before]
    path.write_text(json.dumps({**now, "earlier": earlier}, indent=2) + "\n")


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
    """SHA-256 of a stream's `manifest.json`, which holds those of sources and shards; None where there is none."""
    root = local_path(stream.remote or stream.local or "").rstrip("/")
    if is_address(root):
        try:
            return hashlib.sha256(fetch(f"{root}/manifest.json")).hexdigest()
        except DataError:  # data without a manifest can be trained on as well
            return None
    path = Path(root) / "manifest.json"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None

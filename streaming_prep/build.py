"""The whole preparation: corpus folders in; tokenizer, shards and manifest out. Resumable at any point."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elc_composer.errors import ConfigError, DataError
from streaming_prep.atomic import digest, sha256_file, write_json
from streaming_prep.engines import open_engine
from streaming_prep.jobs import sweep
from streaming_prep.manifest import FORMAT_VERSION, MANIFEST, Manifest, read_manifest, versions
from streaming_prep.pipeline import Pipeline, scan_sources
from streaming_prep.publish import publish
from streaming_prep.remote import Upload, is_remote
from streaming_prep.screen import Screen
from streaming_prep.settings import BuildSettings

WORK = ".work"


def build(
    settings: BuildSettings,
    out: str | Path,
    *,
    workers: int = 1,
    engine: str = "local",
    work: Path | None = None,
    keep_work: bool = False,
    screen: Screen | None = None,
) -> Manifest:
    """Prepare a corpus for training; returns the manifest.

    The bytes written depend on the settings and the corpus alone. Finished jobs are kept in a work folder until the
    end, so that the same call goes on after any interruption.

    Args:
        out: a folder, or a URL that Streaming's uploader takes (`s3://bucket/prefix`, ...).
        workers: processes (or Ray tasks at a time).
        engine: `local` or `ray`.
        work: the work folder; `out/.work`, for a URL a folder of the user's cache. Ray needs it on a shared disk.
        keep_work: leave the work folder there.
        screen: where progress goes; silent without one.

    Raises:
        ConfigError, DataError: settings, corpus or place that cannot work. OSError: disk full, no permission.
    """
    settings.check()
    screen = screen or Screen(silent=True)
    remote = is_remote(out)
    work = Path(work) if work is not None else (_cache_folder(str(out)) if remote else Path(out) / WORK)
    folder = work / "out" if remote else Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(work), open_engine(engine, workers) as run:
        upload = Upload(folder, str(out), work / "uploaded") if remote else None
        sources = scan_sources(settings, run, screen)
        inputs = {
            "settings": settings.recorded(),
            "sources": [source.described() for source in sources],
            "tokenizer": sha256_file(_tokenizer_file(settings.tokenizer)) if settings.tokenizer else None,
            "versions": versions(),
        }
        finished = _finished(folder, inputs)
        if finished is None or upload is not None:
            _announce_changes(work, folder, inputs, screen)
        if finished is None:
            for stale in folder.glob(f"*{MANIFEST}*"):  # a killed build's temporary one, too
                stale.unlink()
            if upload is not None:
                upload.withdraw()
            sweep(work, {})
            write_json(work / "inputs.json", inputs)
            pipeline = Pipeline(settings, sources, work, run, screen, digest(inputs["versions"]))
            finished = publish(pipeline.run(), inputs, folder)
        else:
            screen.say(f"{out} is complete already: same settings, same sources")
        if upload is not None:
            _upload(upload, folder, finished, screen)
    if not keep_work:
        shutil.rmtree(work, ignore_errors=True)
    screen.report(finished, str(out))
    return finished


def _tokenizer_file(path: Path) -> Path:
    return path / "tokenizer.json" if path.is_dir() else path


def _cache_folder(url: str) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "streaming_prep" / digest(url.rstrip("/"))[:16]


@contextmanager
def _only_one(work: Path) -> Iterator[None]:
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another build is at work in {work}; wait for it or give another --out") from None
        yield


def _finished(folder: Path, inputs: dict[str, Any]) -> Manifest | None:
    """The manifest in the folder, if it stands for a whole build of just these inputs."""
    try:
        manifest = read_manifest(folder)
    except DataError:
        return None
    if manifest.get("inputs") != digest(inputs):
        return None
    for name, output in manifest["outputs"].items():
        for shard in output["shards"]:
            path = folder / name / shard["file"]
            if not path.is_file() or path.stat().st_size != shard["bytes"]:
                return None
    return manifest


def _announce_changes(work: Path, folder: Path, inputs: dict[str, Any], screen: Screen) -> None:
    try:
        before = json.loads((work / "inputs.json").read_bytes())
    except (FileNotFoundError, ValueError):
        if (folder / MANIFEST).exists():
            screen.say(f"{folder} holds another build, or a part of one; it is replaced")
        return
    if before == inputs:
        screen.say("going on from what an earlier run has finished")
        return
    changed = [
        f"settings ({', '.join(sorted(k for k in inputs['settings'] if inputs['settings'][k] != old.get(k)))})"
        if part == "settings" and isinstance(old := before.get(part), dict)
        else part
        for part in inputs
        if inputs[part] != before.get(part)
    ]
    screen.say(f"{' and '.join(changed)} changed since the last run; the jobs that depend on them start anew")


def _upload(upload: Upload, folder: Path, manifest: Manifest, screen: Screen) -> None:
    shards = [f"{name}/{shard['file']}" for name, output in manifest["outputs"].items() for shard in output["shards"]]
    indexes = [f"{name}/index.json" for name in manifest["outputs"]]
    tokenizer = sorted(path.relative_to(folder).as_posix() for path in (folder / "tokenizer").iterdir())
    files = [*shards, *tokenizer, *indexes, MANIFEST]
    with screen.stage("upload", len(files), "file") as progress:
        for file in files:
            upload.send(file)
            progress(1)


__all__ = ["FORMAT_VERSION", "build"]

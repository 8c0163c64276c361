"""The whole preparation: corpus folders in; tokenizer, shards and manifest out. Resumable at any point."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.files import digest, sha256_file, write_json
from elc_composer.prepared.tokenizer_files import load_tokenizer, tokenizer_file
from streaming_prep.engines import open_engine
from streaming_prep.manifest import FORMAT_VERSION, MANIFEST, Manifest, read_manifest, versions
from streaming_prep.pipeline import Pipeline, scan_sources
from streaming_prep.publish import publish
from streaming_prep.screen import Screen
from streaming_prep.settings import BuildSettings
from streaming_prep.transfer import Upload, is_remote
from streaming_prep.work_folder import WORK, alone_in, cache_folder, remove_work, work_folder


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
    if settings.tokenizer is not None:
        load_tokenizer(settings.tokenizer)  # a wrong one stops here, not when all the text is clean
    screen = screen or Screen(silent=True)
    remote = is_remote(out)
    work = Path(work) if work is not None else (cache_folder(str(out)) if remote else Path(out) / WORK)
    folder = work / "out" if remote else Path(out)
    if not remote:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_foreign_manifest(folder)
    alone = nullcontext() if remote else alone_in(folder)
    with alone, work_folder(work), open_engine(engine, workers) as run:
        folder.mkdir(exist_ok=True)
        upload = Upload(folder, str(out), work / "uploaded") if remote else None
        sources = scan_sources(settings, run, screen)
        inputs = {
            "settings": settings.recorded(),
            "sources": [source.described() for source in sources],
            "tokenizer": sha256_file(tokenizer_file(settings.tokenizer)) if settings.tokenizer else None,
            "versions": versions(),
        }
        finished = _finished(folder, inputs)
        if finished is None or upload is not None:
            _announce_changes(work, folder, inputs, screen)
        if finished is None:
            write_json(work / "inputs.json", inputs)
            pipeline = Pipeline(settings, sources, work, run, screen, digest(inputs["versions"]))
            finished = publish(pipeline.run(), inputs, folder)
        else:
            screen.say(f"{out} is complete already: same settings, same sources")
        if upload is not None:
            _upload(upload, folder, finished, screen)
        if not keep_work:
            remove_work(work)
    screen.report(finished, str(out))
    return finished


def _refuse_foreign_manifest(folder: Path) -> None:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, ValueError):
        return
    if not isinstance(manifest, dict) or "format_version" not in manifest:
        raise ConfigError(f"{folder / MANIFEST} is there and not from a build; give another --out, or move it away")


def _finished(folder: Path, inputs: dict[str, Any]) -> Manifest | None:
    """The manifest in the folder, if it stands for a whole build of just these inputs; every byte is looked at."""
    try:
        manifest = read_manifest(folder)
    except DataError:
        return None
    if manifest.get("inputs") != digest(inputs):
        return None
    expected = {manifest["tokenizer"]["file"]: manifest["tokenizer"]["sha256"]}
    for name, output in manifest["outputs"].items():
        expected[f"{name}/index.json"] = output["index_sha256"]
        expected |= {f"{name}/{shard['file']}": shard["sha256"] for shard in output["shards"]}
    for file, sha256 in expected.items():
        if not (folder / file).is_file() or sha256_file(folder / file) != sha256:
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
        for _ in upload.send_all(files):
            progress(1)


__all__ = ["FORMAT_VERSION", "build"]

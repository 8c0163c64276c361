"""Build a prepared folder: corpus folders in; tokenizer, shards and manifest out. Resumes after any interruption."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.common.files import digest, sha256_file, write_json
from elc_composer.common.json_files import parse_json, read_json
from elc_composer.prepared.layout import MANIFEST, TOKENIZER
from elc_composer.prepared.tokenizer_files import load_tokenizer, tokenizer_file
from streaming_prep.engines import open_engine
from streaming_prep.manifest import Manifest
from streaming_prep.manifest_reading import read_manifest
from streaming_prep.pipeline import run_pipeline
from streaming_prep.publish import publish
from streaming_prep.screen import Screen
from streaming_prep.settings import BuildSettings
from streaming_prep.sources import scan_sources
from streaming_prep.stage_runner import StageRunner
from streaming_prep.transfer import Upload, is_remote
from streaming_prep.versions import versions
from streaming_prep.work_folder import INPUTS, WORK, alone_in, cache_folder, remove_work, work_folder


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

    The output depends only on the settings and the corpus. Finished jobs stay in a work folder until the build
    completes, so the same call resumes after any interruption.

    Args:
        out: a folder, or a URL that Streaming's uploader accepts (`s3://bucket/prefix`, ...).
        workers: number of processes, or of Ray tasks at a time.
        engine: `local` or `ray`.
        work: the work folder; by default `out/.work`, for a URL a folder in the user's cache. Ray needs a shared disk.
        keep_work: keep the work folder at the end.
        screen: shows the progress; nothing is shown without one.

    Raises:
        ConfigError: invalid settings, or an output place that cannot be used.
        DataError: the corpus or the tokenizer cannot be used.
        OSError: disk full, no permission.
    """
    settings.check()
    if settings.tokenizer is not None:
        load_tokenizer(settings.tokenizer)  # fails now rather than after cleaning all the text
    screen = screen or Screen(silent=True)
    remote = is_remote(out)
    work = Path(work) if work is not None else (cache_folder(str(out)) if remote else Path(out) / WORK)
    folder = work / "out" if remote else Path(out)
    if not remote:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_foreign_manifest(folder / MANIFEST)
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
        manifest = _complete_manifest(folder, inputs)
        if manifest is None or upload is not None:
            _announce_changes(work, folder, inputs, screen)
        if manifest is None:
            write_json(work / INPUTS, inputs)
            runner = StageRunner(settings, work, run, screen, digest(inputs["versions"]))
            manifest = publish(run_pipeline(runner, sources), inputs, folder)
        else:
            screen.say(f"{out} is complete already: same settings, same sources")
        if upload is not None:
            _upload(upload, folder, manifest, screen)
        if not keep_work:
            remove_work(work)
    screen.report(manifest, str(out))
    return manifest


def _refuse_foreign_manifest(path: Path) -> None:
    """Raise `ConfigError` for a manifest.json of another program; a damaged one may be ours and is replaced."""
    foreign = ConfigError(f"{path} exists but was not written by streaming_prep; choose another --out or move it")
    try:
        manifest = parse_json(path.read_bytes(), path)
    except (FileNotFoundError, DataError):
        return
    except IsADirectoryError:
        raise foreign from None
    if not isinstance(manifest, dict) or "format_version" not in manifest:
        raise foreign


def _complete_manifest(folder: Path, inputs: dict[str, Any]) -> Manifest | None:
    """The manifest in the folder if it is of a complete build of these inputs; compares the checksum of every file."""
    try:
        manifest = read_manifest(folder)
    except DataError:
        return None
    if manifest.inputs != digest(inputs):
        return None
    expected = {manifest.tokenizer.file: manifest.tokenizer.sha256}
    for name, output in manifest.outputs.items():
        expected[f"{name}/index.json"] = output.index_sha256
        for shard in output.shards:
            expected[f"{name}/{shard.file}"] = shard.sha256
    for file, sha256 in expected.items():
        if not (folder / file).is_file() or sha256_file(folder / file) != sha256:
            return None
    return manifest


def _announce_changes(work: Path, folder: Path, inputs: dict[str, Any], screen: Screen) -> None:
    """Say whether the build resumes an earlier one, replaces it, or repeats a part of it."""
    try:
        before = read_json(work / INPUTS)
    except DataError:
        before = None
    if not isinstance(before, dict):
        if (folder / MANIFEST).exists():
            screen.say(f"{folder} holds another build, or part of one; it is replaced")
        return
    changed = _changed_parts(before, inputs)
    if changed:
        screen.say(f"{' and '.join(changed)} changed since the last run; repeating the jobs that depend on them")
    else:
        screen.say("resuming from the finished jobs of an earlier run")


def _changed_parts(before: dict[str, Any], inputs: dict[str, Any]) -> list[str]:
    """The parts of `inputs` that differ from the earlier run's, settings with the names of those that differ."""
    changed = []
    for part, value in inputs.items():
        old = before.get(part)
        if old == value:
            continue
        if part == "settings" and isinstance(old, dict):
            names = [name for name in sorted(value) if name not in old or old[name] != value[name]]
            changed.append(f"settings ({', '.join(names)})")
        else:
            changed.append(part)
    return changed


def _upload(upload: Upload, folder: Path, manifest: Manifest, screen: Screen) -> None:
    files = [f"{name}/{shard.file}" for name, output in manifest.outputs.items() for shard in output.shards]
    files += sorted(path.relative_to(folder).as_posix() for path in (folder / TOKENIZER).iterdir() if path.is_file())
    files += [f"{name}/index.json" for name in manifest.outputs]
    files.append(MANIFEST)
    with screen.stage("upload", len(files), "file") as progress:
        for _ in upload.send_all(files):
            progress(1)

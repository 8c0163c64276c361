"""From finished jobs to the prepared folder: shards first, then indexes and tokenizer, the manifest last."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from elc_composer.common.errors import DataError
from elc_composer.common.files import atomic_file, digest, fsync_folder, place, sha256_file, write_json
from elc_composer.prepared.tokenizer_files import load_tokenizer, save_tokenizer, vocabulary_size
from streaming_prep.corpus_files import SPLITS
from streaming_prep.manifest import FORMAT_VERSION, MANIFEST, Manifest
from streaming_prep.mds_shards import name_shard, write_index
from streaming_prep.pipeline import Built, Output


def publish(built: Built, inputs: dict[str, Any], folder: Path) -> Manifest:
    """Put everything in its place under `folder`; returns the manifest. May be cut short and called again.

    An earlier build's manifest goes first, so that shards of two builds never look like one whole. Raises `DataError`
    where a shard is no longer what its job wrote.
    """
    for manifest in [*folder.glob(MANIFEST), *folder.glob(f".{MANIFEST}.*.tmp")]:
        manifest.unlink()
    fsync_folder(folder)
    outputs = {output.name: _publish_output(output, folder / output.name) for output in built.outputs}
    _remove_other_outputs(folder, set(outputs))
    described: Manifest = {
        "format_version": FORMAT_VERSION,
        "inputs": digest(inputs),
        "sources": [source | counts for source, counts in zip(inputs["sources"], built.counts)],
        "tokenizer": _publish_tokenizer(built, folder / "tokenizer"),
        "settings": inputs["settings"],
        "outputs": outputs,
        "versions": inputs["versions"],
    }
    write_json(folder / MANIFEST, described)
    return described


def _remove_other_outputs(folder: Path, kept: set[str]) -> None:
    for path in [path for split in SPLITS for path in folder.glob(f"seq_*/{split}")]:
        if re.fullmatch(r"seq_\d+", path.parent.name) and f"{path.parent.name}/{path.name}" not in kept:
            (path / "index.json").unlink(missing_ok=True)
            for shard in path.glob("shard.*.mds*"):
                shard.unlink()
            with suppress(OSError):  # what else is there is not ours
                path.rmdir()
                path.parent.rmdir()


def _publish_output(output: Output, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    entries = [name_shard(record["entry"], number) for number, (_, record) in enumerate(output.shards)]
    names = [entry["zip_data"]["basename"] for entry in entries]
    for path in [*folder.glob("shard.*.mds*"), *folder.glob(".*.tmp")]:
        if path.name not in names:
            path.unlink()
    for (job, _), entry in zip(output.shards, entries):
        if sha256_file(job.data) != entry["zip_data"]["hashes"]["sha256"]:
            job.record_path.unlink()
            raise DataError(f"{job.data} was damaged after it was written; run the same command again to renew it")
        place(job.data, folder / entry["zip_data"]["basename"])
    write_index(entries, folder / "index.json")
    shards = [
        {
            "file": entry["zip_data"]["basename"],
            "sha256": entry["zip_data"]["hashes"]["sha256"],
            "bytes": entry["zip_data"]["bytes"],
            "samples": entry["samples"],
        }
        for entry in entries
    ]
    kept = ("samples", "tokens", "utilisation", "duplication", "dropped", "source_tokens")
    return {name: output.figures[name] for name in kept} | {
        "column_dtype": output.encoding.split(":")[1],
        "index_sha256": sha256_file(folder / "index.json"),
        "shards": shards,
    }


def _publish_tokenizer(built: Built, folder: Path) -> dict[str, Any]:
    tokenizer = load_tokenizer(built.tokenizer)
    for temporary in folder.glob(".*.tmp"):  # a killed build's
        temporary.unlink()
    save_tokenizer(tokenizer, folder)
    # Not .txt: where the folder lies within a corpus's own, the next build would take the report for text.
    with atomic_file(folder / "report.md") as file:
        file.write(b"```text\n" + built.report.read_bytes() + b"```\n")
    return {
        "file": "tokenizer/tokenizer.json",
        "sha256": sha256_file(folder / "tokenizer.json"),
        "vocab_size": vocabulary_size(tokenizer),
    }

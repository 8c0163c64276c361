"""From finished jobs to the prepared folder: shards first, then indexes and tokenizer, the manifest last."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from streaming_prep.atomic import digest, place, sha256_file, write_json
from streaming_prep.manifest import FORMAT_VERSION, MANIFEST, Manifest
from streaming_prep.pipeline import Built, Output
from streaming_prep.shards import name_shard, write_index
from streaming_prep.tokenizer import load_tokenizer, save_tokenizer


def publish(built: Built, inputs: dict[str, Any], folder: Path) -> Manifest:
    """Put everything in its place under `folder`; returns the manifest. May be cut short and called again."""
    outputs = {output.name: _publish_output(output, folder / output.name) for output in built.outputs}
    for stale in {path.parent.parent for path in folder.glob("seq_*/*/index.json")}:
        for split in stale.iterdir():
            if f"{stale.name}/{split.name}" not in outputs:
                shutil.rmtree(split)
    manifest = {
        "format_version": FORMAT_VERSION,
        "inputs": digest(inputs),
        "sources": [source | counts for source, counts in zip(inputs["sources"], built.counts)],
        "tokenizer": _publish_tokenizer(built.tokenizer, folder / "tokenizer"),
        "settings": inputs["settings"],
        "outputs": outputs,
        "versions": inputs["versions"],
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def _publish_output(output: Output, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    entries = [name_shard(record["entry"], number) for number, (_, record) in enumerate(output.shards)]
    names = [entry["zip_data"]["basename"] for entry in entries]
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()
    for (job, _), name in zip(output.shards, names):
        place(job.data, folder / name)
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


def _publish_tokenizer(path: Path, folder: Path) -> dict[str, Any]:
    tokenizer = load_tokenizer(path)
    save_tokenizer(tokenizer, folder)
    return {
        "file": "tokenizer/tokenizer.json",
        "sha256": sha256_file(folder / "tokenizer.json"),
        "vocab_size": tokenizer.get_vocab_size(),
    }

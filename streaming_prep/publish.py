"""Move finished jobs into the prepared folder: shards first, then indexes and tokenizer, the manifest last."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from elc_composer.common.errors import DataError
from elc_composer.common.files import atomic_file, digest, fsync_folder, place, sha256_file, write_json
from elc_composer.prepared.layout import MANIFEST, TOKENIZER, parse_dataset_name
from elc_composer.prepared.tokenizer_files import load_tokenizer, save_tokenizer
from streaming_prep.corpus_files import SPLITS
from streaming_prep.manifest import Manifest, OutputEntry, ShardEntry, SourceEntry, TokenizerEntry
from streaming_prep.mds_shards import dtype_of, name_shard, write_index
from streaming_prep.outputs import Output
from streaming_prep.pipeline import Built, SourcePart


def publish(built: Built, inputs: dict[str, Any], folder: Path) -> Manifest:
    """Place all results under `folder`; returns the manifest. May be interrupted and called again.

    The manifest of an earlier build is removed first, so that shards of two builds never look complete.

    Raises:
        DataError: a shard differs from what its job wrote.
    """
    for manifest in [*folder.glob(MANIFEST), *folder.glob(f".{MANIFEST}.*.tmp")]:
        manifest.unlink()
    fsync_folder(folder)
    outputs = {output.name: _publish_output(output, folder / output.name) for output in built.outputs}
    _remove_other_outputs(folder, set(outputs))
    described = Manifest(
        inputs=digest(inputs),
        sources=[_source_entry(part, inputs["sources"][part.source]) for part in built.parts],
        tokenizer=_publish_tokenizer(built, folder / TOKENIZER),
        settings=inputs["settings"],
        outputs=outputs,
        versions=inputs["versions"],
    )
    write_json(folder / MANIFEST, described.to_json())
    return described


def _source_entry(part: SourcePart, described: dict[str, Any]) -> SourceEntry:
    # The dev part of a train file has an entry of its own.
    return SourceEntry(**{**described, "split": part.split, **asdict(part.counts)})


def _remove_other_outputs(folder: Path, kept: set[str]) -> None:
    for split in SPLITS:
        for path in folder.glob(f"*/{split}"):
            name = path.relative_to(folder).as_posix()
            if name in kept or parse_dataset_name(name) is None:
                continue
            (path / "index.json").unlink(missing_ok=True)
            for shard in path.glob("shard.*.mds*"):
                shard.unlink()
            with suppress(OSError):  # the folder may hold files of the user
                path.rmdir()
                path.parent.rmdir()


def _publish_output(output: Output, folder: Path) -> OutputEntry:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    entries = [name_shard(shard.entry, number) for number, (_, shard) in enumerate(output.shards)]
    names = [entry["zip_data"]["basename"] for entry in entries]
    for path in [*folder.glob("shard.*.mds*"), *folder.glob(".*.tmp")]:
        if path.name not in names:
            path.unlink()
    for (job, _), entry in zip(output.shards, entries):
        if sha256_file(job.data) != entry["zip_data"]["hashes"]["sha256"]:
            job.record_path.unlink()
            raise DataError(f"{job.data} was damaged after it was written; rerun the same command to write it again")
        place(job.data, folder / entry["zip_data"]["basename"])
    write_index(entries, folder / "index.json")
    packed = output.packed
    shares = packed.shares(output.seq_length - 2)
    return OutputEntry(
        samples=packed.samples,
        tokens=packed.tokens,
        source_tokens=packed.source_tokens,
        utilisation=shares.utilisation,
        duplication=shares.duplication,
        dropped=shares.dropped,
        column_dtype=dtype_of(output.encoding),
        index_sha256=sha256_file(folder / "index.json"),
        shards=[_shard_entry(entry) for entry in entries],
    )


def _shard_entry(entry: dict[str, Any]) -> ShardEntry:
    part = entry["zip_data"]
    return ShardEntry(part["basename"], part["hashes"]["sha256"], part["bytes"], entry["samples"])


def _publish_tokenizer(built: Built, folder: Path) -> TokenizerEntry:
    for temporary in folder.glob(".*.tmp"):  # of a killed build
        temporary.unlink()
    save_tokenizer(load_tokenizer(built.tokenizer.path), folder)
    # Not .txt: the prepared folder may lie within the corpus folder, and an unfinished one would be read as text.
    with atomic_file(folder / "report.md") as file:
        file.write(b"```text\n" + built.report.data.read_bytes() + b"```\n")
    place(built.report.frequencies, folder / "frequencies.tsv")
    sha256 = sha256_file(folder / "tokenizer.json")
    return TokenizerEntry(f"{TOKENIZER}/tokenizer.json", sha256, built.tokenizer.vocab_size)

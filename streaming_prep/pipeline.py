"""The stages of a build in their order, each a list of jobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elc_composer.common.errors import DataError
from elc_composer.common.files import atomic_file, sha256_file
from elc_composer.prepared.tokenizer_files import load_tokenizer, tokenizer_file, vocabulary_size
from streaming_prep.chunks import Scan, scan
from streaming_prep.cleaners import CLEANERS
from streaming_prep.corpus_files import SPLITS, name_files
from streaming_prep.discover import Source, discover, notes_on
from streaming_prep.job_functions import (
    clean_chunk,
    counts_path,
    lengths_path,
    plan_segments,
    read_plan,
    report_on_tokenizer,
    tokenize_chunk,
    write_planned_shard,
)
from streaming_prep.jobs import Engine, Job, Record, run_jobs
from streaming_prep.mds_shards import column_encoding, samples_per_shard
from streaming_prep.screen import Screen
from streaming_prep.settings import BuildSettings
from streaming_prep.word_counts import PieceCounts, train_from_counts

_TOKENS_WORTH_WORKERS = 20_000_000


@dataclass
class ScannedSource:
    """A corpus file and what one pass over its bytes found."""

    source: Source
    scan: Scan

    def described(self) -> dict[str, Any]:
        """Its entry in the manifest, less the counts of words and tokens."""
        source = self.source
        return {
            "corpus": source.corpus,
            "split": source.split,
            "file": source.file,
            "cleaner": source.cleaner,
            "sha256": self.scan.sha256,
            "bytes": self.scan.bytes,
        }


@dataclass
class Output:
    """One split at one sequence length: its plan's figures and its shards, each a finished job."""

    name: str
    figures: Record
    shards: list[tuple[Job, Record]]
    encoding: str


@dataclass
class Built:
    """Everything that a build computed, still in the work folder."""

    tokenizer: Path
    report: Path
    """How well the tokenizer fits the train files, as text."""
    counts: list[Record]
    """Words, sentences, documents and tokens of each source."""
    outputs: list[Output]


def scan_sources(settings: BuildSettings, engine: Engine, screen: Screen) -> list[ScannedSource]:
    """Find the corpus files, digest them and find where to cut them. Raises `DataError`; see `discover` and `scan`."""
    sources = discover(settings.corpus, settings.cleaner)
    for note in notes_on(settings.corpus, sources, settings.cleaner):
        screen.say(note)
    with screen.stage("scan", len(sources), "file") as progress:
        scans: dict[int, Scan] = {}
        tasks = [(source, settings.errors, settings.chunk_bytes, settings.max_line_bytes) for source in sources]
        for index, result in engine(_scan, tasks):
            scans[index] = result
            progress(1)
    same = _same_content(sources, scans)
    if same:
        screen.say(f"files of the same content, all read: {name_files(same)}; if one is a copy, remove it")
    return [ScannedSource(source, scans[index]) for index, source in enumerate(sources)]


def _same_content(sources: list[Source], scans: dict[int, Scan]) -> list[Path]:
    """The first group of files with equal bytes; empty if all files differ."""
    groups: dict[str, list[Path]] = {}
    for index, source in enumerate(sources):
        groups.setdefault(scans[index].sha256, []).append(source.path)
    return next((paths for paths in groups.values() if len(paths) > 1), [])


def _scan(task: tuple[Source, str, int, int]) -> Scan:
    source, errors, chunk_bytes, max_line = task
    # Each row of a .jsonl is cleaned by itself, so any line may begin a chunk.
    may_cut = CLEANERS["none" if source.form == "jsonl" else source.cleaner].may_cut
    return scan(source.path, may_cut, errors, chunk_bytes, max_line)


class Pipeline:
    """Runs the stages; `version` is a digest of the packages that have a say in the results."""

    def __init__(
        self,
        settings: BuildSettings,
        sources: list[ScannedSource],
        work: Path,
        engine: Engine,
        screen: Screen,
        version: str,
    ) -> None:
        self.settings = settings
        self.sources = sources
        self.work = work
        self.engine = engine
        self.screen = screen
        self.version = version
        self._chunks = [(number, chunk) for number, source in enumerate(sources) for chunk in source.scan.chunks]

    def run(self) -> Built:
        """All stages in order, each going on from what is finished."""
        cleaning = [self._clean_job(number, chunk) for number, chunk in self._chunks]
        cleaned = self._run("clean", cleaning)
        tokenizer = self._tokenizer(cleaning)
        self._encoding = column_encoding(vocabulary_size(load_tokenizer(tokenizer)))
        tokenizer_sha256 = sha256_file(tokenizer)
        tokenizing = [self._tokenize_job(job, tokenizer, tokenizer_sha256) for job in cleaning]
        tokenized = self._run("tokenize", tokenizing)
        plans = [
            (f"seq_{seq_length}/{split}", self._plan_job(split, seq_length, tokenizing, tokenized))
            for split in self._splits()
            for seq_length in self.settings.recorded()["seq_lengths"]
        ]
        planned = self._run("pack", [job for _, job in plans])
        report = self._report(tokenizer, tokenizing, tokenized)
        counts = self._counts(cleaned, tokenized)
        return Built(tokenizer, report, counts, self._write(plans, planned, tokenizing, tokenized))

    def _report(self, tokenizer: Path, tokenizing: list[Job], tokenized: list[Record]) -> Path:
        train = self._of_split("train")
        spec = {
            "tokens_of": [tokenizing[index].key for index in train],
            "words": sum(tokenized[index]["cleaned_words"] for index in train),
            "dtype": self._encoding.split(":")[1],
        }
        inputs = {
            "tokenizer": str(tokenizer),
            "tokens": [str(tokenizing[index].data) for index in train],
            "sentences": [tokenizing[index].inputs["sentences"] for index in train],
        }
        job = Job(report_on_tokenizer, "report", spec, self.work, inputs)
        self._run("report", [job], _in_this_process)
        return job.data

    def _run(self, name: str, jobs: list[Job], engine: Engine | None = None) -> list[Record]:
        with self.screen.stage(name, len(jobs)) as progress:
            return run_jobs(jobs, engine or self.engine, progress)

    def _splits(self) -> list[str]:
        present = {scanned.source.split for scanned in self.sources}
        return [split for split in SPLITS if split in present]

    def _clean_job(self, number: int, chunk: Any) -> Job:
        source = self.sources[number].source
        spec = {
            "sha256": chunk.sha256,
            "opens_file": chunk.start == 0,
            "cleaner": source.cleaner,
            "form": source.form,
            "errors": self.settings.errors,
            "count": self.settings.tokenizer is None and source.split == "train",
            "version": self.version,
        }
        place = {"path": str(source.path), "start": chunk.start, "size": chunk.size, "first_line": chunk.first_line}
        return Job(clean_chunk, "clean", spec, self.work, place)

    def _tokenizer(self, cleaning: list[Job]) -> Path:
        settings = self.settings
        if settings.tokenizer is not None:
            file = tokenizer_file(settings.tokenizer)
            spec: dict[str, Any] = {"given": sha256_file(file), "version": self.version}
            job = Job(_take_tokenizer, "tokenizer", spec, self.work, {"path": str(file)})
        else:
            train = [job for job, (number, _) in zip(cleaning, self._chunks) if self._split_of(number) == "train"]
            spec = {
                "sentences": [job.key for job in train],
                "vocab_size": settings.vocab_size,
                "min_frequency": settings.min_frequency,
                "version": self.version,
            }
            counts = [str(counts_path(job.data)) for job in train]
            job = Job(_train_tokenizer, "tokenizer", spec, self.work, {"counts": counts})
        # Training is one job that uses every core by itself.
        self._run("tokenizer", [job], _in_this_process)
        return job.data

    def _split_of(self, number: int) -> str:
        return self.sources[number].source.split

    def _tokenize_job(self, cleaning: Job, tokenizer: Path, sha256: str) -> Job:
        spec = {
            "sentences": cleaning.key,
            "tokenizer": sha256,
            "dtype": self._encoding.split(":")[1],
            "version": self.version,
        }
        return Job(
            tokenize_chunk, "tokenize", spec, self.work, {"sentences": str(cleaning.data), "tokenizer": str(tokenizer)}
        )

    def _of_split(self, split: str) -> list[int]:
        return [index for index, (number, _) in enumerate(self._chunks) if self._split_of(number) == split]

    def _plan_job(self, split: str, seq_length: int, tokenizing: list[Job], tokenized: list[Record]) -> Job:
        own = self._of_split(split)
        ends = [index + 1 == len(self._chunks) or self._chunks[index + 1][0] != self._chunks[index][0] for index in own]
        spec = {
            "tokens_of": [tokenizing[index].key for index in own],
            "ends_document": [end and self.settings.packing != "published" for end in ends],
            "tokens": sum(tokenized[index]["tokens"] for index in own),
            "seq_length": seq_length,
            "packing": self.settings.packing,
            "document_aware": self.settings.document_aware,
        }
        lengths = [str(lengths_path(tokenizing[index].data)) for index in own]
        return Job(plan_segments, "plan", spec, self.work, {"lengths": lengths, "split": split})

    def _write(
        self, plans: list[tuple[str, Job]], planned: list[Record], tokenizing: list[Job], tokenized: list[Record]
    ) -> list[Output]:
        jobs: list[Job] = []
        owners: list[int] = []
        for number, ((name, plan), figures) in enumerate(zip(plans, planned)):
            if not figures["samples"]:
                raise DataError(
                    f"{name} would hold nothing: no text is left after cleaning; see the files of that split"
                )
            pieces = self._pieces(plan.inputs["split"], tokenizing, tokenized)
            for job in self._shard_jobs(plan, figures["samples"], pieces):
                jobs.append(job)
                owners.append(number)
        # Every worker that writes shards first imports Streaming, and torch with it; for little text that is no gain.
        little = sum(figures["tokens"] for figures in planned) < _TOKENS_WORTH_WORKERS
        records = self._run("shards", jobs, _in_this_process if little else self.engine)
        outputs = [Output(name, figures, [], self._encoding) for (name, _), figures in zip(plans, planned)]
        for owner, job, record in zip(owners, jobs, records):
            outputs[owner].shards.append((job, record))
        return outputs

    def _pieces(self, split: str, tokenizing: list[Job], tokenized: list[Record]) -> list[dict[str, Any]]:
        own = self._of_split(split)
        starts = np.cumsum([0, *(tokenized[index]["tokens"] for index in own)]).tolist()
        dtype = self._encoding.split(":")[1]
        return [
            {"path": str(tokenizing[index].data), "start": start, "tokens": tokenized[index]["tokens"], "dtype": dtype}
            for index, start in zip(own, starts)
        ]

    def _shard_jobs(self, plan: Job, samples: int, pieces: list[dict[str, Any]]) -> Iterator[Job]:
        size = samples_per_shard(self.settings.shard_bytes, plan.spec["seq_length"], self._encoding)
        for first in range(0, samples, size):
            count = min(size, samples - first)
            begin = int(read_plan(plan.data, first, 1)[0, 0])
            end = int(read_plan(plan.data, first + count - 1, 1).sum())
            own = [piece for piece in pieces if piece["start"] < end and piece["start"] + piece["tokens"] > begin]
            spec = {"plan": plan.key, "first": first, "samples": count, "encoding": self._encoding}
            spec["version"] = self.version
            yield Job(write_planned_shard, "shard", spec, self.work, {"plan": str(plan.data), "tokens": own})

    def _counts(self, cleaned: list[Record], tokenized: list[Record]) -> list[Record]:
        counts = [{"words": 0, "sentences": 0, "documents": 0, "tokens": 0} for _ in self.sources]
        inside = False
        for (number, chunk), clean, tokens in zip(self._chunks, cleaned, tokenized):
            counts[number]["words"] += clean["words"]
            for name in ("sentences", "documents", "tokens"):
                counts[number][name] += tokens[name]
            if inside and chunk.start and tokens["begins_inside"]:
                counts[number]["documents"] -= 1  # begun in the chunk before
            if tokens["ends_inside"] is not None or not chunk.start:
                inside = bool(tokens["ends_inside"])
        return counts


def _in_this_process(function: Any, items: Any) -> Iterator[Any]:
    for index, item in enumerate(items):
        yield index, function(item)


def _take_tokenizer(job: Job) -> Record:
    _save(load_tokenizer(Path(job.inputs["path"])), job.data)
    return {}


def _train_tokenizer(job: Job) -> Record:
    spec = job.spec
    counts = PieceCounts()
    for path in job.inputs["counts"]:
        counts.add_json(Path(path))
    _save(train_from_counts(counts, spec["vocab_size"], spec["min_frequency"]), job.data)
    return {}


def _save(tokenizer: Any, path: Path) -> None:
    with atomic_file(path) as file:
        file.write(tokenizer.to_str(pretty=True).encode())

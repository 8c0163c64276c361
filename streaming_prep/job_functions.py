"""What the jobs of a build do: clean a chunk, tokenize it, plan segments, write a shard."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from elc_composer.common.files import atomic_file
from elc_composer.prepared.tokenizer_files import vocabulary_size
from streaming_prep.chunks import Chunk, read_texts
from streaming_prep.cleaners import CLEANERS
from streaming_prep.encode import Encoder
from streaming_prep.jobs import Job, Record
from streaming_prep.mds_shards import write_shard
from streaming_prep.packing import Meter, pack
from streaming_prep.sentences import split_sentences
from streaming_prep.tokenizer_report import SAMPLES, count_words, show_samples, summarize
from streaming_prep.word_counts import PieceCounts


def clean_chunk(job: Job) -> Record:
    """Raw text -> sentences, one a line, an empty line at a document's end; counts words (of the raw text).

    With `spec["count"]` the sentences' pieces are counted, too (`<key>.counts`), for the tokenizer to be trained.
    """
    spec = job.spec
    chunk = Chunk(job.inputs["start"], job.inputs["size"], job.inputs["first_line"], spec["sha256"])
    texts = read_texts(Path(job.inputs["path"]), chunk, spec["form"], spec["errors"])
    clean = CLEANERS[spec["cleaner"]].clean
    with atomic_file(job.data) as file:
        for lines in texts:
            for sentence in split_sentences(clean(lines)):
                file.write(sentence.encode() + b"\n")
            if spec["form"] == "jsonl":
                file.write(b"\n")
    if spec["count"]:
        counts = PieceCounts()
        counts.add(read_sentences(job.data))
        with atomic_file(counts_path(job.data)) as file:
            file.write(counts.to_json())
    return {"words": sum(len(line.split()) for lines in texts for line in lines)}


def counts_path(data: Path) -> Path:
    """Where a cleaned chunk's counted pieces are."""
    return data.with_name(data.name + ".counts")


def read_sentences(path: Path) -> Iterator[str]:
    """The sentences of a finished `clean_chunk`, in constant memory."""
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line[:-1]


def tokenize_chunk(job: Job) -> Record:
    """Sentences -> ids in a row (`<key>`) and the sentences' lengths (`<key>.lengths`, int32, 0 ends a document)."""
    words = 0

    def counted(sentences: Iterator[str]) -> Iterator[str]:
        nonlocal words
        for sentence in sentences:
            words += count_words(sentence)
            yield sentence

    sentences = counted(read_sentences(Path(job.inputs["sentences"])))
    ids, lengths = _encoder(job.inputs["tokenizer"]).encode(sentences)
    with atomic_file(lengths_path(job.data)) as file:
        file.write(lengths.tobytes())
    with atomic_file(job.data) as file:
        file.write(ids.astype(job.spec["dtype"]).tobytes())
    return {
        "tokens": len(ids),
        "sentences": int((lengths > 0).sum()),
        # Runs of sentences; the first may go on with the chunk before, the last with the one behind.
        "documents": int(np.count_nonzero((lengths > 0) & (np.append(0, lengths)[:-1] == 0))),
        "begins_inside": bool(len(lengths) and lengths[0] > 0),
        "ends_inside": bool(lengths[-1] > 0) if len(lengths) else None,
        "cleaned_words": words,
    }


def report_on_tokenizer(job: Job) -> Record:
    """What the `tokenizer-report` command prints, from the tokens that are there already."""
    tokenizer = Tokenizer.from_file(job.inputs["tokenizer"])
    counts = np.zeros(vocabulary_size(tokenizer), np.int64)
    for path in job.inputs["tokens"]:
        counts += np.bincount(np.fromfile(path, job.spec["dtype"]), minlength=len(counts))
    every = chain.from_iterable(read_sentences(Path(path)) for path in job.inputs["sentences"])
    samples = show_samples(tokenizer, islice(filter(None, every), SAMPLES))
    with atomic_file(job.data) as file:
        file.write((summarize(counts, job.spec["words"], samples).render() + "\n").encode())
    return {}


@lru_cache(maxsize=2)
def _encoder(path: str) -> Encoder:
    return Encoder(Tokenizer.from_file(path))


def lengths_path(data: Path) -> Path:
    """Where a tokenized chunk's sentence lengths are."""
    return data.with_name(data.name + ".lengths")


def plan_segments(job: Job) -> Record:
    """All segments of a split at one sequence length: int64 [samples, 2] as `streaming_prep.packing` has them."""
    spec = job.spec
    blocks = (np.fromfile(path, np.int32) for path in job.inputs["lengths"])
    # The published text runs from one file on into the next; a document ends at a blank line only.
    ended = (np.append(block, 0) if end else block for block, end in zip(blocks, spec["ends_document"]))
    meter = Meter()
    with atomic_file(job.data) as file:
        for segments in pack(ended, spec["seq_length"], spec["packing"], spec["document_aware"]):
            meter.add(segments)
            file.write(segments.tobytes())
    report = meter.finish(spec["tokens"])
    return vars(report) | report.figures(spec["seq_length"] - 2)


def write_planned_shard(job: Job) -> Record:
    """Rows [first, first + samples) of a plan -> one shard."""
    rows = read_plan(Path(job.inputs["plan"]), job.spec["first"], job.spec["samples"])
    offset, tokens = _token_range(job.inputs["tokens"], int(rows[0, 0]), int(rows[-1].sum()))
    job.data.parent.mkdir(parents=True, exist_ok=True)
    segments = (tokens[start - offset : start - offset + length] for start, length in rows.tolist())
    entry = write_shard(segments, job.spec["encoding"], job.data)
    return {"entry": entry, "tokens": int(rows[:, 1].sum())}


def read_plan(path: Path, first: int, samples: int) -> np.ndarray:
    """Rows of a finished `plan_segments`, int64 [samples, 2]."""
    return np.fromfile(path, np.int64, 2 * samples, offset=16 * first).reshape(-1, 2)


def _token_range(pieces: list[dict[str, Any]], begin: int, end: int) -> tuple[int, np.ndarray]:
    """Tokens of the pieces that hold [begin, end) of the stream, and where in the stream they begin."""
    wanted = [piece for piece in pieces if piece["start"] < end and piece["start"] + piece["tokens"] > begin]
    arrays = [np.fromfile(piece["path"], piece["dtype"]) for piece in wanted]
    return wanted[0]["start"], np.concatenate(arrays)

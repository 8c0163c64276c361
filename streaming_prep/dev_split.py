"""Split a dev part off the train text of a corpus without dev files: whole documents, the same ones on every run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from streaming_prep.jobs.split import LineRange, SplitChunk, SplitSpec
from streaming_prep.sources import ScannedSource
from streaming_prep.stage_runner import StageRunner
from streaming_prep.texts import CleanText, counted_markers


@dataclass(frozen=True)
class Document:
    """Consecutive sentences of one source file: lines [first, end) of its cleaned text."""

    file: str
    """Path of the source within the corpus folder."""
    source: int
    number: int
    """In its file, from 0."""
    first: int
    end: int

    @property
    def sentences(self) -> int:
        """Number of sentences."""
        return self.end - self.first


def split_off_dev(runner: StageRunner, sources: Sequence[ScannedSource], texts: Sequence[CleanText]) -> list[CleanText]:
    """Divide cleaned train texts into train and dev texts, train first.

    The dev words are counted after cleaning; the other words of the raw text count as train words.
    """
    documents = find_documents(sources, texts)
    chosen = choose_documents(documents, runner.settings.dev_share)
    runner.screen.say(_describe(chosen, documents))
    jobs = []
    for text, first in zip(texts, _first_lines(texts)):
        own = [document for document in chosen if document.source == text.source]
        ranges = _ranges_in_chunk(own, first, first + text.lines)
        spec = SplitSpec(text.key, ranges, counted_markers(runner.settings, "train"), runner.version)
        jobs.append(SplitChunk(runner.work, spec, text.sentences))
    train, dev = [], []
    for text, job, split in zip(texts, jobs, runner.run("split", jobs)):
        # Words that cleaning adds may not make the train words negative.
        dev_words = min(split.dev_words, text.words)
        train.append(replace(text, words=text.words - dev_words, key=job.key, sentences=job.data, counts=job.counts))
        if job.spec.dev:
            dev.append(replace(text, split="dev", words=dev_words, key=f"{job.key}.dev", sentences=job.dev))
    return train + dev


def find_documents(sources: Sequence[ScannedSource], texts: Sequence[CleanText]) -> list[Document]:
    """The documents of cleaned texts, in order; the end of a file ends a document."""
    documents: list[Document] = []
    ends: list[int] = []
    for text, first in zip(texts, _first_lines(texts)):
        ends += (np.fromfile(text.document_ends, np.int64) + first).tolist()
        if text.closes_source:
            ends.append(first + text.lines)
            begin = number = 0
            for end in ends:
                if end > begin:
                    documents.append(Document(sources[text.source].source.file, text.source, number, begin, end))
                    number += 1
                begin = end + 1
            ends = []
    return documents


def choose_documents(documents: Sequence[Document], share: float) -> list[Document]:
    """Documents of about `share` of all sentences, in order; never all of them.

    They are taken in the order of a hash of their file name and number, as long as they fit. If whole documents give
    less than half of the share (few long documents), the end of the longest one is added.
    """
    total = sum(document.sentences for document in documents)
    if total < 2:
        return []
    target = max(1.0, share * total)
    chosen: list[Document] = []
    size = 0
    for document in sorted(documents, key=_hash):
        if size + document.sentences <= target:
            chosen.append(document)
            size += document.sentences
    if size < target / 2:
        left = set(documents) - set(chosen)
        longest = max(left, key=lambda document: (document.sentences, -document.source, -document.number))
        wanted = min(math.ceil(target - size), longest.sentences - 1)
        chosen.append(replace(longest, first=longest.end - wanted))
    return sorted(chosen, key=lambda document: (document.source, document.first))


def _describe(chosen: Sequence[Document], documents: Sequence[Document]) -> str:
    if not chosen:
        return "no dev split: there are no dev files, and the text is too short to split some off; give --dev"
    size, total = (sum(document.sentences for document in each) for each in (chosen, documents))
    return (
        f"no dev files: {size:,} of {total:,} sentences ({len(chosen):,} documents) become the dev split; "
        "--dev or --dev-share change this"
    )


def _hash(document: Document) -> bytes:
    name = f"{document.file}\0{document.number}"
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _first_lines(texts: Sequence[CleanText]) -> list[int]:
    """The number of each text's first line in the cleaned text of its source."""
    numbers = []
    line, source = 0, -1
    for text in texts:
        line = line if text.source == source else 0
        source = text.source
        numbers.append(line)
        line += text.lines
    return numbers


def _ranges_in_chunk(documents: Sequence[Document], begin: int, end: int) -> list[LineRange]:
    """The lines [begin, end) of a source that belong to the documents, numbered from `begin`."""
    ranges = []
    for document in documents:
        first, last = max(document.first, begin), min(document.end, end)
        if first < last:
            ranges.append(LineRange(first - begin, last - begin, closes=document.end <= end))
    return ranges

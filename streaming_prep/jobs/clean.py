"""Job: clean a chunk of raw text and split it into sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np

from elc_composer.common.files import atomic_file
from streaming_prep.chunks import Chunk, read_texts
from streaming_prep.cleaners import CLEANERS
from streaming_prep.jobs.base import Job
from streaming_prep.sentences import split_sentences
from streaming_prep.word_counts import PieceCounts


@dataclass(frozen=True)
class CleanSpec:
    """What the cleaned text depends on."""

    sha256: str
    """Of the chunk's bytes."""
    opens_file: bool
    cleaner: str
    form: str
    errors: str
    count: str | None
    """Count the sentences' pieces too, to train the tokenizer with these markers; see `training_text`."""
    version: str


@dataclass(frozen=True)
class Cleaned:
    """Counts of a cleaned chunk."""

    words: int
    """Words of the raw text, separated by white space."""
    lines: int
    """Sentences and ends of documents."""


@dataclass(frozen=True)
class CleanChunk(Job[Cleaned]):
    """Raw text -> one sentence a line, an empty line at the end of a document."""

    stage: ClassVar[str] = "clean"
    result_type: ClassVar[type[Cleaned]] = Cleaned

    spec: CleanSpec
    path: Path
    start: int
    """Of the chunk in the file, in bytes, like `size`."""
    size: int
    first_line: int

    @property
    def counts(self) -> Path:
        """The counted pieces, if `spec.count`."""
        return self.beside(".counts")

    @property
    def document_ends(self) -> Path:
        """int64: the numbers of the empty lines, from 0."""
        return self.beside(".ends")

    def _run(self) -> Cleaned:
        chunk = Chunk(self.start, self.size, self.first_line, self.spec.sha256)
        texts = read_texts(self.path, chunk, self.spec.form, self.spec.errors)
        clean = CLEANERS[self.spec.cleaner].clean
        number, ends = 0, []
        with atomic_file(self.data) as file:
            for lines in texts:
                for sentence in chain(split_sentences(clean(lines)), [""] if self.spec.form == "jsonl" else []):
                    file.write(sentence.encode() + b"\n")
                    if not sentence:
                        ends.append(number)
                    number += 1
        with atomic_file(self.document_ends) as file:
            file.write(np.array(ends, np.int64).tobytes())
        if self.spec.count is not None:
            counts = PieceCounts()
            counts.add(read_sentences(self.data), self.spec.count)
            with atomic_file(self.counts) as file:
                file.write(counts.to_json())
        return Cleaned(words=sum(len(line.split()) for lines in texts for line in lines), lines=number)


def read_sentences(path: Path) -> Iterator[str]:
    """The sentences that `CleanChunk` wrote, in constant memory."""
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line[:-1]

"""Job: move the dev documents of a cleaned chunk into a file of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from elc_composer.common.files import atomic_file
from streaming_prep.jobs.base import Job
from streaming_prep.jobs.clean import read_sentences
from streaming_prep.tokenizer_report import count_words
from streaming_prep.word_counts import PieceCounts


@dataclass(frozen=True)
class LineRange:
    """Lines [first, end) of a cleaned chunk, from 0."""

    first: int
    end: int
    closes: bool
    """False if the document continues in the next chunk."""


@dataclass(frozen=True)
class SplitSpec:
    """What the two parts of a chunk depend on."""

    sentences: str
    """Key of the job that cleaned the chunk."""
    dev: list[LineRange]
    """In order, without overlap."""
    count: str | None
    """Count the train part's pieces, to train the tokenizer with these markers; see `training_text`."""
    version: str


@dataclass(frozen=True)
class SplitWords:
    """Words of the dev part, separated by white space, after cleaning."""

    dev_words: int


@dataclass(frozen=True)
class SplitChunk(Job[SplitWords]):
    """Sentences -> train sentences (`data`) and dev sentences; an empty line ends each dev document."""

    stage: ClassVar[str] = "split"
    result_type: ClassVar[type[SplitWords]] = SplitWords

    spec: SplitSpec
    sentences: Path

    @property
    def dev(self) -> Path:
        """The dev sentences."""
        return self.beside(".dev")

    @property
    def counts(self) -> Path:
        """The counted pieces of the train sentences, if `spec.count`."""
        return self.beside(".counts")

    def _run(self) -> SplitWords:
        words = 0
        ranges = iter(self.spec.dev)
        current = next(ranges, None)
        with atomic_file(self.data) as train, atomic_file(self.dev) as dev:
            for number, sentence in enumerate(read_sentences(self.sentences)):
                in_dev = current is not None and current.first <= number
                (dev if in_dev else train).write(sentence.encode() + b"\n")
                if in_dev:
                    words += count_words(sentence)
                if current is not None and number == current.end - 1:
                    if current.closes:
                        dev.write(b"\n")
                    current = next(ranges, None)
        if self.spec.count is not None:
            counts = PieceCounts()
            counts.add(read_sentences(self.data), self.spec.count)
            with atomic_file(self.counts) as file:
                file.write(counts.to_json())
        return SplitWords(words)

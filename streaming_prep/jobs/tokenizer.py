"""Jobs: take or train the tokenizer, and report how well it fits the train files."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import ClassVar

import numpy as np
from tokenizers import Tokenizer

from elc_composer.common.files import write_text
from elc_composer.prepared.tokenizer_files import load_tokenizer, vocabulary_size
from streaming_prep.jobs.base import Done, Job
from streaming_prep.jobs.clean import read_sentences
from streaming_prep.tokenizer_report import SAMPLES, show_samples, summarize
from streaming_prep.word_counts import PieceCounts, train_from_counts


@dataclass(frozen=True)
class GivenTokenizerSpec:
    """What a given tokenizer depends on."""

    given: str
    """sha256 of its file."""
    version: str


@dataclass(frozen=True)
class TrainingSpec:
    """What a trained tokenizer depends on."""

    sentences: list[str]
    """Keys of the jobs that counted the train files' pieces."""
    vocab_size: int
    min_frequency: int
    version: str


@dataclass(frozen=True)
class MadeTokenizer:
    """Size of the tokenizer in `data`."""

    vocab_size: int
    """The largest id + 1."""


@dataclass(frozen=True)
class TakeTokenizer(Job[MadeTokenizer]):
    """Copy a given tokenizer.json, without truncation and padding."""

    stage: ClassVar[str] = "tokenizer"
    result_type: ClassVar[type[MadeTokenizer]] = MadeTokenizer

    spec: GivenTokenizerSpec
    path: Path

    def _run(self) -> MadeTokenizer:
        return _save(load_tokenizer(self.path), self.data)


@dataclass(frozen=True)
class TrainTokenizer(Job[MadeTokenizer]):
    """Train a tokenizer from counted pieces."""

    stage: ClassVar[str] = "tokenizer"
    result_type: ClassVar[type[MadeTokenizer]] = MadeTokenizer

    spec: TrainingSpec
    counts: list[Path]

    def _run(self) -> MadeTokenizer:
        counts = PieceCounts()
        for path in self.counts:
            counts.add_json(path)
        return _save(train_from_counts(counts, self.spec.vocab_size, self.spec.min_frequency), self.data)


@dataclass(frozen=True)
class ReportSpec:
    """What the tokenizer report depends on."""

    tokens_of: list[str]
    """Keys of the jobs that tokenized the train files."""
    words: int
    dtype: str


@dataclass(frozen=True)
class ReportOnTokenizer(Job[Done]):
    """Write the report of the `tokenizer-report` command, from tokens that are there already."""

    stage: ClassVar[str] = "report"
    result_type: ClassVar[type[Done]] = Done

    spec: ReportSpec
    tokenizer: Path
    tokens: list[Path]
    sentences: list[Path]

    @property
    def frequencies(self) -> Path:
        """Occurrences of all pieces; see `TokenizerReport.frequency_table`."""
        return self.beside(".frequencies")

    def _run(self) -> Done:
        tokenizer = Tokenizer.from_file(str(self.tokenizer))
        counts = np.zeros(vocabulary_size(tokenizer), np.int64)
        for path in self.tokens:
            counts += np.bincount(np.fromfile(path, self.spec.dtype), minlength=len(counts))
        sentences = chain.from_iterable(read_sentences(path) for path in self.sentences)
        samples = show_samples(tokenizer, islice(filter(None, sentences), SAMPLES))
        report = summarize(tokenizer, counts, self.spec.words, samples)
        write_text(self.frequencies, report.frequency_table())
        write_text(self.data, report.render() + "\n")
        return Done()


def _save(tokenizer: Tokenizer, path: Path) -> MadeTokenizer:
    write_text(path, tokenizer.to_str(pretty=True))
    return MadeTokenizer(vocabulary_size(tokenizer))

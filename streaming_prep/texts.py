"""The stages that turn raw files into tokens: clean, make the tokenizer, tokenize, report on the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from elc_composer.common.files import sha256_file
from elc_composer.prepared.tokenizer_files import tokenizer_file
from streaming_prep.jobs.base import Job
from streaming_prep.jobs.clean import CleanChunk, CleanSpec
from streaming_prep.jobs.tokenize import TokenizeChunk, Tokenized, TokenizeSpec
from streaming_prep.jobs.tokenizer import (
    GivenTokenizerSpec,
    MadeTokenizer,
    ReportOnTokenizer,
    ReportSpec,
    TakeTokenizer,
    TrainingSpec,
    TrainTokenizer,
)
from streaming_prep.mds_shards import column_encoding, dtype_of
from streaming_prep.settings import BuildSettings
from streaming_prep.sources import ScannedSource
from streaming_prep.stage_runner import StageRunner, run_in_this_process


@dataclass(frozen=True)
class CleanText:
    """The sentences of one cleaned chunk."""

    source: int
    """Index of its file in the list of sources."""
    split: str
    closes_source: bool
    """It is the last chunk of its file."""
    words: int
    """Of the raw text."""
    lines: int
    """Sentences and ends of documents, as cleaned."""
    document_ends: Path
    """int64: the numbers of the empty lines, as cleaned."""
    key: str
    """Identifies the content of `sentences`."""
    sentences: Path
    """One sentence a line, an empty line at the end of a document."""
    counts: Path
    """Counted pieces for tokenizer training; exists for train texts if a tokenizer is trained."""


@dataclass(frozen=True)
class TokenizerFile:
    """The tokenizer of a build, in the work folder."""

    path: Path
    vocab_size: int

    @property
    def encoding(self) -> str:
        """MDS encoding of the `input_ids` column."""
        return column_encoding(self.vocab_size)


@dataclass(frozen=True)
class TokenText:
    """A cleaned chunk with its tokens."""

    clean: CleanText
    job: TokenizeChunk
    tokenized: Tokenized


def counted_markers(settings: BuildSettings, split: str) -> str | None:
    """The treatment of markers for counting a split's pieces; None if its pieces are not needed."""
    return settings.tokenizer_markers if settings.tokenizer is None and split == "train" else None


def clean_sources(runner: StageRunner, sources: Sequence[ScannedSource], *, count: bool) -> list[CleanText]:
    """Clean all chunks of all sources, in order.

    Args:
        count: count the pieces of the train texts too, for tokenizer training.
    """
    settings = runner.settings
    places: list[tuple[int, bool]] = []
    jobs: list[CleanChunk] = []
    for index, scanned in enumerate(sources):
        for number, chunk in enumerate(scanned.scan.chunks):
            source = scanned.source
            spec = CleanSpec(
                sha256=chunk.sha256,
                opens_file=chunk.start == 0,
                cleaner=source.cleaner,
                form=source.form,
                errors=settings.errors,
                count=counted_markers(settings, source.split) if count else None,
                version=runner.version,
            )
            jobs.append(CleanChunk(runner.work, spec, source.path, chunk.start, chunk.size, chunk.first_line))
            places.append((index, number == len(scanned.scan.chunks) - 1))
    return [
        CleanText(
            source=index,
            split=sources[index].source.split,
            closes_source=closes,
            words=cleaned.words,
            lines=cleaned.lines,
            document_ends=job.document_ends,
            key=job.key,
            sentences=job.data,
            counts=job.counts,
        )
        for (index, closes), job, cleaned in zip(places, jobs, runner.run("clean", jobs))
    ]


def make_tokenizer(runner: StageRunner, texts: Sequence[CleanText]) -> TokenizerFile:
    """Copy the given tokenizer, or train one on the train texts. Raises `DataError`, `ConfigError`."""
    settings = runner.settings
    job: Job[MadeTokenizer]
    if settings.tokenizer is not None:
        file = tokenizer_file(settings.tokenizer)
        job = TakeTokenizer(runner.work, GivenTokenizerSpec(sha256_file(file), runner.version), file)
    else:
        train = [text for text in texts if text.split == "train"]
        keys = [text.key for text in train]
        spec = TrainingSpec(keys, settings.vocab_size, settings.min_frequency, runner.version)
        job = TrainTokenizer(runner.work, spec, [text.counts for text in train])
    # Training is one job that uses every core by itself.
    (made,) = runner.run("tokenizer", [job], run_in_this_process)
    return TokenizerFile(job.data, made.vocab_size)


def tokenize(runner: StageRunner, texts: Sequence[CleanText], tokenizer: TokenizerFile) -> list[TokenText]:
    """Tokenize all texts, in order."""
    sha256, dtype = sha256_file(tokenizer.path), dtype_of(tokenizer.encoding)
    jobs = []
    for text in texts:
        spec = TokenizeSpec(text.key, sha256, dtype, runner.version)
        jobs.append(TokenizeChunk(runner.work, spec, text.sentences, tokenizer.path))
    results = runner.run("tokenize", jobs)
    return [TokenText(text, job, tokenized) for text, job, tokenized in zip(texts, jobs, results)]


def report_on_tokenizer(runner: StageRunner, texts: Sequence[TokenText], tokenizer: TokenizerFile) -> ReportOnTokenizer:
    """Report how well the tokenizer fits the train texts; returns the finished job."""
    train = [text for text in texts if text.clean.split == "train"]
    words = sum(text.tokenized.words for text in train)
    spec = ReportSpec([text.job.key for text in train], words, dtype_of(tokenizer.encoding))
    tokens, sentences = [text.job.data for text in train], [text.clean.sentences for text in train]
    job = ReportOnTokenizer(runner.work, spec, tokenizer.path, tokens, sentences)
    runner.run("report", [job], run_in_this_process)
    return job

"""Runs all stages of a build in order, and counts what each source file gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streaming_prep.corpus_files import SPLITS
from streaming_prep.dev_split import split_off_dev
from streaming_prep.jobs.tokenizer import ReportOnTokenizer
from streaming_prep.outputs import Output, plan_outputs, write_shards
from streaming_prep.sources import ScannedSource
from streaming_prep.stage_runner import StageRunner
from streaming_prep.texts import TokenizerFile, TokenText, clean_sources, make_tokenizer, report_on_tokenizer, tokenize


@dataclass(frozen=True)
class SourceCounts:
    """Counts of one source file: words of the raw text; sentences, documents and tokens of the cleaned text."""

    words: int
    sentences: int
    documents: int
    tokens: int


@dataclass(frozen=True)
class SourcePart:
    """The text of one source file in one split."""

    source: int
    """Index in the list of sources."""
    split: str
    counts: SourceCounts


@dataclass(frozen=True)
class Built:
    """Everything that a build computed, still in the work folder."""

    tokenizer: TokenizerFile
    report: ReportOnTokenizer
    parts: list[SourcePart]
    """By split, then in the order of the sources."""
    outputs: list[Output]


def run_pipeline(runner: StageRunner, sources: Sequence[ScannedSource]) -> Built:
    """Run all stages; each resumes from its finished jobs. Raises `DataError`, `ConfigError`, `OSError`."""
    has_dev = any(scanned.source.split == "dev" for scanned in sources)
    make_dev = not has_dev and runner.settings.dev_share > 0
    cleaned = clean_sources(runner, sources, count=not make_dev)
    if not has_dev and not make_dev:
        runner.screen.say("no dev split: there are no dev files, and --dev-share is 0")
    if make_dev:
        cleaned = split_off_dev(runner, sources, cleaned)
    tokenizer = make_tokenizer(runner, cleaned)
    texts = tokenize(runner, cleaned, tokenizer)
    outputs = plan_outputs(runner, texts, tokenizer.encoding)
    report = report_on_tokenizer(runner, texts, tokenizer)
    write_shards(runner, outputs)
    return Built(tokenizer, report, _count_parts(texts), outputs)


def _count_parts(texts: Sequence[TokenText]) -> list[SourcePart]:
    parts: dict[tuple[int, int], list[TokenText]] = {}
    for text in texts:
        parts.setdefault((SPLITS.index(text.clean.split), text.clean.source), []).append(text)
    return [SourcePart(source, SPLITS[split], _count(own)) for (split, source), own in sorted(parts.items())]


def _count(texts: Sequence[TokenText]) -> SourceCounts:
    documents, inside = 0, False
    for text in texts:
        tokenized = text.tokenized
        documents += tokenized.documents
        if inside and tokenized.begins_inside:
            documents -= 1  # it continues from the chunk before
        if tokenized.ends_inside is not None:
            inside = tokenized.ends_inside
    return SourceCounts(
        words=sum(text.clean.words for text in texts),
        sentences=sum(text.tokenized.sentences for text in texts),
        documents=documents,
        tokens=sum(text.tokenized.tokens for text in texts),
    )

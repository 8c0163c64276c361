"""The `tokenizer-report` command: report on a tokenizer over the cleaned text of a corpus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from elc_composer.common.errors import ConfigError
from elc_composer.common.files import write_text
from elc_composer.prepared.tokenizer_files import load_tokenizer
from streaming_prep.chunks import read_texts, scan
from streaming_prep.cleaners import CLEANERS
from streaming_prep.corpus_files import SPLITS
from streaming_prep.discover import Source, discover
from streaming_prep.sentences import split_sentences
from streaming_prep.tokenizer_report import report_tokenizer


def print_tokenizer_report(
    tokenizer: Path, corpus: Sequence[Path], cleaner: str, split: str, frequencies: Path | None = None
) -> None:
    """Print how well a tokenizer fits the cleaned text of a split.

    Args:
        frequencies: a file for the occurrences of all pieces (tab-separated).

    Raises:
        ConfigError: no such split or cleaner.
        DataError: the tokenizer or the corpus cannot be used.
    """
    if split not in SPLITS:
        raise ConfigError(f"--split {split} is unknown; give one of {', '.join(SPLITS)}")
    sources = [source for source in discover(corpus, cleaner) if source.split == split]
    if not sources:
        raise ConfigError(f"{corpus[0]} holds no {split} files; give --split train")
    report = report_tokenizer(load_tokenizer(tokenizer), _sentences(sources))
    print(report.render())
    if frequencies is not None:
        write_text(frequencies, report.frequency_table())
        print(f"frequencies of all pieces: {frequencies}")


def _sentences(sources: list[Source]) -> Iterator[str]:
    for source in sources:
        cleaner = CLEANERS[source.cleaner]
        may_cut = CLEANERS["none" if source.form == "jsonl" else source.cleaner].may_cut
        for chunk in scan(source.path, may_cut, "replace").chunks:
            for lines in read_texts(source.path, chunk, source.form, "replace"):
                yield from split_sentences(cleaner.clean(lines))

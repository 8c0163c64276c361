"""The tokenizer report over a corpus's own text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from elc_composer.common.errors import ConfigError
from elc_composer.prepared.tokenizer_files import load_tokenizer
from streaming_prep.chunks import read_texts, scan
from streaming_prep.cleaners import CLEANERS
from streaming_prep.corpus_files import SPLITS
from streaming_prep.discover import Source, discover
from streaming_prep.sentences import split_sentences
from streaming_prep.tokenizer_report import report_tokenizer


def print_tokenizer_report(tokenizer: Path, corpus: Sequence[Path], cleaner: str, split: str) -> None:
    """Print how well a tokenizer fits the cleaned text of a split. Raises `ConfigError`, `DataError`."""
    if split not in SPLITS:
        raise ConfigError(f"--split {split} is not known; take one of {', '.join(SPLITS)}")
    sources = [source for source in discover(corpus, cleaner) if source.split == split]
    if not sources:
        raise ConfigError(f"there is no {split} text below {corpus[0]}; give --split train")
    print(report_tokenizer(load_tokenizer(tokenizer), _sentences(sources)).render())


def _sentences(sources: list[Source]) -> Iterator[str]:
    for source in sources:
        cleaner = CLEANERS[source.cleaner]
        may_cut = CLEANERS["none" if source.form == "jsonl" else source.cleaner].may_cut
        for chunk in scan(source.path, may_cut, "replace").chunks:
            for lines in read_texts(source.path, chunk, source.form, "replace"):
                yield from split_sentences(cleaner.clean(lines))

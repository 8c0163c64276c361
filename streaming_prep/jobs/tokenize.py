"""Job: tokenize a chunk of sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from tokenizers import Tokenizer

from elc_composer.common.files import atomic_file
from streaming_prep.encode import Encoder
from streaming_prep.jobs.base import Job
from streaming_prep.jobs.clean import read_sentences
from streaming_prep.tokenizer_report import count_words


@dataclass(frozen=True)
class TokenizeSpec:
    """What the tokens of a chunk depend on."""

    sentences: str
    """Key of the job that wrote the sentences."""
    tokenizer: str
    """sha256 of its file."""
    dtype: str
    version: str


@dataclass(frozen=True)
class Tokenized:
    """Counts of a tokenized chunk."""

    tokens: int
    sentences: int
    documents: int
    """Runs of sentences; the first and last may continue in the neighbouring chunks."""
    begins_inside: bool
    """The chunk begins with a sentence, not with the end of a document."""
    ends_inside: bool | None
    """The chunk ends with a sentence; None for a chunk without sentences and document ends."""
    words: int
    """Of the cleaned text."""


@dataclass(frozen=True)
class TokenizeChunk(Job[Tokenized]):
    """Sentences -> their ids in a row (`data`), and the sentences' lengths in tokens."""

    stage: ClassVar[str] = "tokenize"
    result_type: ClassVar[type[Tokenized]] = Tokenized

    spec: TokenizeSpec
    sentences: Path
    tokenizer: Path

    @property
    def lengths(self) -> Path:
        """int32 [sentences]; 0 ends a document."""
        return self.beside(".lengths")

    def _run(self) -> Tokenized:
        words = 0

        def counted(sentences: Iterator[str]) -> Iterator[str]:
            nonlocal words
            for sentence in sentences:
                words += count_words(sentence)
                yield sentence

        ids, lengths = _encoder(str(self.tokenizer)).encode(counted(read_sentences(self.sentences)))
        with atomic_file(self.lengths) as file:
            file.write(lengths.tobytes())
        with atomic_file(self.data) as file:
            file.write(ids.astype(self.spec.dtype).tobytes())
        has_text = lengths > 0
        begins = has_text & ~np.append(False, has_text)[:-1]
        return Tokenized(
            tokens=len(ids),
            sentences=int(has_text.sum()),
            documents=int(begins.sum()),
            begins_inside=bool(has_text[0]) if len(lengths) else False,
            ends_inside=bool(has_text[-1]) if len(lengths) else None,
            words=words,
        )


@lru_cache(maxsize=2)
def _encoder(path: str) -> Encoder:
    # Kept between the jobs of a process: its cache of pieces is what makes tokenizing fast.
    return Encoder(Tokenizer.from_file(path))

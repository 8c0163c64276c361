"""Train the tokenizer from counted words: the result of `train_tokenizer`, with most of the work done in parallel.

The trainer uses only the number of occurrences of each word. So the chunks count their space-separated pieces in
parallel. Then each distinct piece is split into words once, and the trainer gets words that are cheap to count again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers

from elc_composer.common.errors import DataError
from elc_composer.common.json_files import read_json
from elc_composer.prepared.tokenizer_files import SPECIAL_TOKENS
from streaming_prep.train_tokenizer import train_tokenizer, training_text, wordpiece_trainer

_COPIES = 50


class PieceCounts:
    """Counts of space-separated pieces, separately for sentence-initial pieces and the rest.

    A sentence with other white space than single spaces counts as one sentence-initial piece.
    """

    def __init__(self) -> None:
        self.opening: Counter[str] = Counter()
        self.inner: Counter[str] = Counter()

    def add(self, sentences: Iterable[str], markers: str = "removed") -> None:
        """Count sentences of `streaming_prep.sentences`; for `markers` see `training_text`."""
        for sentence in training_text(sentences, markers):
            pieces = sentence.split(" ")
            if pieces != sentence.split():
                self.opening[sentence] += 1
                continue
            self.opening[pieces[0]] += 1
            self.inner.update(pieces[1:])

    def to_json(self) -> bytes:
        """The counts for `add_json`."""
        return json.dumps([self.opening, self.inner], ensure_ascii=False).encode()

    def add_json(self, path: Path) -> None:
        """Add the counts of a file that `to_json` gave. Raises `DataError` if it is damaged."""
        counts = read_json(path)
        if not isinstance(counts, list) or len(counts) != 2 or not all(map(_is_counts, counts)):
            raise DataError(f"{path} is damaged; delete it and rerun the same command")
        self.opening.update(counts[0])
        self.inner.update(counts[1])

    def words(self, splitter: pre_tokenizers.PreTokenizer) -> Counter[str]:
        """Counts of the words that `splitter` makes from the pieces."""
        words: Counter[str] = Counter()
        for before, pieces in (("", self.opening), (" ", self.inner)):
            for piece, count in pieces.items():
                for word, _ in splitter.pre_tokenize_str(before + piece):
                    words[word] += count
        return words


def train_from_counts(counts: PieceCounts, vocab_size: int, min_frequency: int) -> Tokenizer:
    """The tokenizer that `train_tokenizer` gives for the counted sentences; raises the same errors."""
    # A tokenizer with the right pipeline and a dummy vocabulary; the real model is trained below and put in.
    tokenizer = train_tokenizer(["a"], len(SPECIAL_TOKENS) + 256, min_frequency)
    words = counts.words(tokenizer.pre_tokenizer)
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]", continuing_subword_prefix=""))
    # The words are in byte-level letters, none of which is a space.
    trained.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(" ")
    trained.train_from_iterator(_repeated(words), wordpiece_trainer(vocab_size, min_frequency))
    if trained.get_vocab_size() > vocab_size:
        train_tokenizer(words, vocab_size, min_frequency)  # raises: the alphabet alone is larger
    tokenizer.model = trained.model
    return tokenizer


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(count, int) for count in value.values())


def _repeated(words: Mapping[str, int]) -> Iterator[str]:
    for word, count in words.items():
        copies, rest = divmod(count, _COPIES)
        if copies:
            line = " ".join([word] * _COPIES)
            for _ in range(copies):
                yield line
        if rest:
            yield " ".join([word] * rest)

"""Training the tokenizer from counted words: the same result as `train_tokenizer`, most of the work done in parallel.

The trainer only looks at how often each word occurs. So every chunk counts its space-separated pieces; each distinct
piece is split into words once, and the trainer gets words that are cheap to count again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

from elc_composer.prepared.tokenizer_files import SPECIAL_TOKENS
from streaming_prep.train_tokenizer import plain_text, train_tokenizer, wordpiece_trainer

_COPIES = 50


class PieceCounts:
    """How often each piece opens a sentence (or is one that other blanks than single spaces keep whole) or follows."""

    def __init__(self) -> None:
        self.opening: Counter[str] = Counter()
        self.inner: Counter[str] = Counter()

    def add(self, sentences: Iterable[str]) -> None:
        """Count sentences as `streaming_prep.sentences` gives them."""
        for sentence in plain_text(sentences):
            pieces = sentence.split(" ")
            if pieces != sentence.split():
                self.opening[sentence] += 1
                continue
            self.opening[pieces[0]] += 1
            self.inner.update(pieces[1:])

    def to_json(self) -> bytes:
        """The counts for `add_json`."""
        return json.dumps([self.opening, self.inner], ensure_ascii=False).encode("utf-8", "surrogatepass")

    def add_json(self, path: Path) -> None:
        """Add the counts that are in a file."""
        opening, inner = json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
        self.opening.update(opening)
        self.inner.update(inner)

    def words(self, splitter: pre_tokenizers.PreTokenizer) -> Counter[str]:
        """Counts of the words that `splitter` makes of the sentences."""
        words: Counter[str] = Counter()
        for before, pieces in (("", self.opening), (" ", self.inner)):
            for piece, count in pieces.items():
                for word, _ in splitter.pre_tokenize_str(before + piece):
                    words[word] += count
        return words


def train_from_counts(counts: PieceCounts, vocab_size: int, min_frequency: int) -> Tokenizer:
    """What `train_tokenizer` makes of the counted sentences; raises as it does."""
    # Trained on one letter, it has all but the vocabulary.
    tokenizer = train_tokenizer(["a"], len(SPECIAL_TOKENS) + 256, min_frequency)
    words = counts.words(tokenizer.pre_tokenizer)
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]", continuing_subword_prefix=""))
    # Bytes are printable letters by now and none of them is a space.
    trained.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(" ")
    trained.train_from_iterator(_repeated(words), wordpiece_trainer(vocab_size, min_frequency))
    if trained.get_vocab_size() > vocab_size:
        train_tokenizer(words, vocab_size, min_frequency)  # raises: the alphabet alone is larger
    tokenizer.model = trained.model
    return tokenizer


def _repeated(words: Mapping[str, int]) -> Iterator[str]:
    for word, count in words.items():
        copies, rest = divmod(count, _COPIES)
        if copies:
            line = " ".join([word] * _COPIES)
            for _ in range(copies):
                yield line
        if rest:
            yield " ".join([word] * rest)

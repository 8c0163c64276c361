"""How well a tokenizer fits a text: coverage, length, how often its rare pieces are met, and what it looks like."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from tokenizers import Tokenizer

from elc_composer.prepared.tokenizer_files import PARAGRAPH, SPECIAL_TOKENS, TAB, vocabulary_size

_BATCH = 1024
SAMPLES = 5
"""Sentences that a report shows."""


@dataclass(frozen=True)
class TokenizerReport:
    """Figures of a tokenizer on a text; [PAR] and [TAB] count as neither words nor tokens."""

    vocab_size: int
    words: int
    """Separated by white space."""
    tokens: int
    unknown_tokens: int
    frequency_95: int
    """Occurrences of the piece at 95 % of the vocabulary, most frequent first (Gowda & May 2020 ask for 100)."""
    unused: int
    """Pieces that the text never needs."""
    samples: list[tuple[str, list[str]]] = field(default_factory=list)
    """Sentences with their pieces; a leading space shows as Ġ."""

    @property
    def coverage(self) -> float:
        """Share of tokens that are not [UNK], 0 to 1."""
        return 1 - self.unknown_tokens / max(self.tokens, 1)

    @property
    def tokens_per_word(self) -> float:
        """Mean number of pieces a word is cut into."""
        return self.tokens / max(self.words, 1)

    def render(self) -> str:
        """The figures and samples as text."""
        lines = [
            f"vocabulary        {self.vocab_size:,} ({self.unused:,} never met here)",
            f"words             {self.words:,}",
            f"tokens            {self.tokens:,} ({self.tokens_per_word:.3f} a word)",
            f"coverage          {self.coverage:.6%} ({self.unknown_tokens:,} [UNK])",
            f"F95               {self.frequency_95:,} occurrences of the token at 95 % of the vocabulary",
        ]
        lines += [f"sample            {text}\n                  {' | '.join(pieces)}" for text, pieces in self.samples]
        return "\n".join(lines)


def count_words(sentence: str) -> int:
    """Words of a sentence, separated by white space; [PAR] and [TAB] are none."""
    return len(sentence.replace(PARAGRAPH, " ").replace(TAB, " ").split())


def show_samples(tokenizer: Tokenizer, sentences: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Each sentence with its pieces."""
    ids = [(sentence, tokenizer.encode(sentence, add_special_tokens=False).ids) for sentence in sentences]
    return [(sentence, [str(tokenizer.id_to_token(index)) for index in own]) for sentence, own in ids]


def report_tokenizer(tokenizer: Tokenizer, sentences: Iterable[str], samples: int = SAMPLES) -> TokenizerReport:
    """Tokenize the sentences in batches and count; the first `samples` sentences with text become the samples."""
    vocab_size = vocabulary_size(tokenizer)
    counts = np.zeros(vocab_size, dtype=np.int64)
    words = 0
    shown: list[tuple[str, list[str]]] = []
    stream = iter(sentences)
    while batch := list(islice(stream, _BATCH)):
        texts = [sentence for sentence in batch if sentence]
        words += sum(map(count_words, texts))
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ids = [np.asarray(encoding.ids, dtype=np.int64) for encoding in encodings]
        if ids:
            counts += np.bincount(np.concatenate(ids), minlength=vocab_size)
        shown += show_samples(tokenizer, texts[: samples - len(shown)])
    return summarize(counts, words, shown)


def summarize(counts: np.ndarray, words: int, samples: list[tuple[str, list[str]]] | None = None) -> TokenizerReport:
    """The report from occurrences by id, int64 [vocabulary], where a caller has counted already."""
    specials = len(SPECIAL_TOKENS)
    pieces = np.sort(counts[specials:])[::-1]
    place = min(int(0.95 * len(pieces)), len(pieces) - 1)
    return TokenizerReport(
        vocab_size=len(counts),
        words=words,
        tokens=int(pieces.sum() + counts[0]),
        unknown_tokens=int(counts[0]),
        frequency_95=int(pieces[place]) if len(pieces) else 0,
        unused=int((pieces == 0).sum()),
        samples=samples or [],
    )

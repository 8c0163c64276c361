"""Report how well a tokenizer fits a text: coverage, pieces a word, frequencies of its pieces, samples."""

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
COMMONEST = 100
"""Pieces that a report lists."""
_COLUMNS = 10


@dataclass(frozen=True)
class PieceFrequency:
    """Occurrences of one piece of the vocabulary in a text."""

    piece: str
    """A leading space shows as Ġ."""
    id: int
    count: int


@dataclass(frozen=True)
class TokenizerReport:
    """Figures of a tokenizer on a text; [PAR] and [TAB] count as neither words nor tokens."""

    vocab_size: int
    words: int
    """Separated by white space."""
    tokens: int
    unknown_tokens: int
    frequency_95: int
    """Occurrences of the piece at 95 % of the vocabulary, most frequent first (Gowda & May 2020 recommend 100)."""
    unused: int
    """Pieces that do not occur in the text."""
    frequencies: list[PieceFrequency] = field(default_factory=list)
    """Of all pieces including special tokens, most frequent first, equal counts in the order of their ids."""
    samples: list[tuple[str, list[str]]] = field(default_factory=list)
    """Sentences with their pieces."""

    @property
    def coverage(self) -> float:
        """Share of tokens that are not [UNK], 0 to 1."""
        return 1 - self.unknown_tokens / max(self.tokens, 1)

    @property
    def tokens_per_word(self) -> float:
        """Mean number of pieces a word."""
        return self.tokens / max(self.words, 1)

    def render(self) -> str:
        """The figures, samples and most frequent pieces as text."""
        lines = [
            f"vocabulary        {self.vocab_size:,} ({self.unused:,} do not occur)",
            f"words             {self.words:,}",
            f"tokens            {self.tokens:,} ({self.tokens_per_word:.3f} a word)",
            f"coverage          {self.coverage:.6%} ({self.unknown_tokens:,} [UNK])",
            f"F95               {self.frequency_95:,} occurrences of the token at 95 % of the vocabulary",
        ]
        lines += [f"sample            {text}\n                  {' | '.join(pieces)}" for text, pieces in self.samples]
        lines.append(f"the {COMMONEST} most frequent pieces with their counts:")
        for first in range(0, min(COMMONEST, len(self.frequencies)), _COLUMNS):
            row = self.frequencies[first : min(first + _COLUMNS, COMMONEST)]
            lines.append("  " + " | ".join(f"{one.piece} {one.count:,}" for one in row))
        return "\n".join(lines)

    def frequency_table(self) -> str:
        """Tab-separated lines of all pieces, most frequent first: piece, id, occurrences."""
        rows = (f"{_in_one_field(one.piece)}\t{one.id}\t{one.count}\n" for one in self.frequencies)
        return "piece\tid\tcount\n" + "".join(rows)


def _in_one_field(piece: str) -> str:
    # Pieces of foreign tokenizers may hold line breaks and tabs; ours are byte-level letters.
    return piece.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def count_words(sentence: str) -> int:
    """Number of words, separated by white space; [PAR] and [TAB] are not words."""
    return len(sentence.replace(PARAGRAPH, " ").replace(TAB, " ").split())


def show_samples(tokenizer: Tokenizer, sentences: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Each sentence with its pieces."""
    ids = [(sentence, tokenizer.encode(sentence, add_special_tokens=False).ids) for sentence in sentences]
    return [(sentence, [str(tokenizer.id_to_token(index)) for index in own]) for sentence, own in ids]


def report_tokenizer(tokenizer: Tokenizer, sentences: Iterable[str], samples: int = SAMPLES) -> TokenizerReport:
    """Tokenize the sentences in batches and count; the first `samples` sentences with text become the samples."""
    counts = np.zeros(vocabulary_size(tokenizer), dtype=np.int64)
    words = 0
    shown: list[tuple[str, list[str]]] = []
    stream = iter(sentences)
    while batch := list(islice(stream, _BATCH)):
        texts = [sentence for sentence in batch if sentence]
        words += sum(map(count_words, texts))
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ids = [np.asarray(encoding.ids, dtype=np.int64) for encoding in encodings]
        if ids:
            counts += np.bincount(np.concatenate(ids), minlength=len(counts))
        shown += show_samples(tokenizer, texts[: samples - len(shown)])
    return summarize(tokenizer, counts, words, shown)


def summarize(
    tokenizer: Tokenizer, counts: np.ndarray, words: int, samples: list[tuple[str, list[str]]] | None = None
) -> TokenizerReport:
    """The report from occurrences by id, int64 [vocabulary]."""
    pieces = np.sort(counts[len(SPECIAL_TOKENS) :])[::-1]
    place = min(int(0.95 * len(pieces)), len(pieces) - 1)
    return TokenizerReport(
        vocab_size=len(counts),
        words=words,
        tokens=int(pieces.sum() + counts[0]),
        unknown_tokens=int(counts[0]),
        frequency_95=int(pieces[place]) if len(pieces) else 0,
        unused=int((pieces == 0).sum()),
        frequencies=_frequencies(tokenizer, counts),
        samples=samples or [],
    )


def _frequencies(tokenizer: Tokenizer, counts: np.ndarray) -> list[PieceFrequency]:
    names = {index: piece for piece, index in tokenizer.get_vocab().items()}
    order = np.argsort(-counts, kind="stable").tolist()
    return [PieceFrequency(names[index], index, int(counts[index])) for index in order if index in names]

"""Pack tokenized sentences into segments, given as (start, length) in the token stream of a split.

Segments are slices of the stream, so packing needs only the sentence lengths: an int array in which 0 ends a document.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from elc_composer.common.errors import ConfigError

PACKINGS = ("published", "concat")
Segments = np.ndarray
"""int64 [segments, 2]: start in the split's token stream and length, both in tokens."""


@dataclass(frozen=True)
class PackingShares:
    """Figures of a packing relative to its capacity and its text."""

    utilisation: float
    """tokens / (samples x capacity)."""
    duplication: float
    """Repeated tokens / tokens of the text."""
    dropped: float
    """Dropped tokens / tokens of the text."""


@dataclass
class PackingReport:
    """Counts of a packed split; token counts are without [CLS], [SEP] and padding."""

    source_tokens: int = 0
    """Tokens of the text."""
    samples: int = 0
    tokens: int = 0
    """Tokens in all segments, repeated ones counted each time."""
    repeated: int = 0
    """Tokens that an earlier segment holds already."""
    dropped: int = 0
    """Tokens of the text that no segment holds."""

    def shares(self, capacity: int) -> PackingShares:
        """The counts as shares, rounded to six digits; `capacity` is the tokens of a full segment."""
        return PackingShares(
            utilisation=round(self.tokens / max(self.samples * capacity, 1), 6),
            duplication=round(self.repeated / max(self.source_tokens, 1), 6),
            dropped=round(self.dropped / max(self.source_tokens, 1), 6),
        )


def pack(
    sentence_lengths: Iterable[np.ndarray], seq_length: int, packing: str, document_aware: bool = False
) -> Iterator[Segments]:
    """Segments of at most seq_length - 2 tokens, leaving room for [CLS] and [SEP].

    `published` (ELC-BERT's): within a document, sentences are added until one does not fit. That one fills the rest of
    the segment and starts again, from its first token, in the next segment. A sentence longer than a segment keeps only
    its head; if it is the first of a document, its head comes twice.
    `concat`: the stream is cut every seq_length - 2 tokens; nothing is repeated or lost. With `document_aware` the end
    of a document also ends the segment, as it always does with `published`.

    Args:
        sentence_lengths: int arrays [sentences], in order; 0 ends a document. The result does not depend on how the
            sentences are divided into arrays.

    Raises:
        ConfigError: no such packing, or no room for a token.
    """
    capacity = seq_length - 2
    if capacity < 1:
        raise ConfigError(f"--seq-length {seq_length} leaves no room beside [CLS] and [SEP]; give at least 3")
    if packing == "published":
        return _by_document(sentence_lengths, _PublishedPacker(capacity))
    if packing == "concat" and document_aware:
        return _by_document(sentence_lengths, _CuttingPacker(capacity))
    if packing == "concat":
        return _concat(sentence_lengths, capacity)
    raise ConfigError(f"--packing {packing!r} is unknown; give one of {', '.join(PACKINGS)}")


def _by_document(blocks: Iterable[np.ndarray], packer: _DocumentPacker) -> Iterator[Segments]:
    for block in blocks:
        begin = 0
        for end in np.flatnonzero(block == 0).tolist():
            packer.add(block[begin:end].tolist())
            packer.end_document()
            begin = end + 1
        packer.add(block[begin:].tolist())
        yield packer.take()
    packer.end_document()
    yield packer.take()


class _DocumentPacker:
    """Packs one document after another; the sentences of a document may come in several calls of `add`."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._start = 0
        self._position = 0
        self._starts: list[int] = []
        self._lengths: list[int] = []

    def add(self, sentences: list[int]) -> None:
        """Add sentences of these lengths in tokens, none of them 0, to the document."""
        raise NotImplementedError

    def end_document(self) -> None:
        if self._position > self._start:
            self._starts.append(self._start)
            self._lengths.append(min(self.capacity, self._position - self._start))
        self._start = self._position

    def take(self) -> Segments:
        segments = np.array([self._starts, self._lengths], np.int64).T
        self._starts, self._lengths = [], []
        return segments


class _PublishedPacker(_DocumentPacker):
    def add(self, sentences: list[int]) -> None:
        if not sentences:
            return
        begin = self._position
        ends = list(accumulate(sentences, initial=begin))[1:]
        self._position = ends[-1]
        search_from = 0
        # The sentence that overflows opens the next segment. The search continues behind it; otherwise a sentence
        # longer than a segment would start again for ever.
        while (overflowing := bisect_right(ends, self._start + self.capacity, search_from)) < len(ends):
            self._starts.append(self._start)
            self._lengths.append(self.capacity)
            self._start = ends[overflowing - 1] if overflowing else begin
            search_from = overflowing + 1


class _CuttingPacker(_DocumentPacker):
    def add(self, sentences: list[int]) -> None:
        self._position += sum(sentences)
        full = range(self._start, self._position - self.capacity + 1, self.capacity)
        self._starts.extend(full)
        self._lengths.extend([self.capacity] * len(full))
        self._start += len(full) * self.capacity


def _concat(blocks: Iterable[np.ndarray], capacity: int) -> Iterator[Segments]:
    start = position = 0
    for block in blocks:
        position += int(block.sum())
        begins = np.arange(start, position - capacity + 1, capacity, dtype=np.int64)
        start += len(begins) * capacity
        yield np.stack([begins, np.full_like(begins, capacity)], 1)
    yield np.array([[start, position - start]] if position > start else np.empty((0, 2)), np.int64)


class Meter:
    """Computes a `PackingReport` from segments in the order of their starts."""

    def __init__(self) -> None:
        self.report = PackingReport()
        self._covered = 0

    def add(self, segments: Segments) -> None:
        """Count segments [n, 2]."""
        if not len(segments):
            return
        ends = segments.sum(1)
        before = np.maximum.accumulate(np.concatenate([[self._covered], ends]))[:-1]
        new = ends - np.maximum(segments[:, 0], before)
        tokens, fresh = int(segments[:, 1].sum()), int(np.maximum(new, 0).sum())
        self.report.samples += len(segments)
        self.report.tokens += tokens
        self.report.repeated += tokens - fresh
        self.report.dropped -= fresh
        self._covered = max(self._covered, int(ends.max()))

    def finish(self, source_tokens: int) -> PackingReport:
        """The report of a text of that many tokens."""
        self.report.source_tokens = source_tokens
        self.report.dropped += source_tokens
        return self.report

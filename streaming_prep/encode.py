"""Encode sentences fast: tokenize each distinct space-separated piece once, then look it up.

Byte-level pre-tokenization never joins text across a single space. So the ids of a sentence are the ids of its pieces,
each with the space before it. This holds for the tokenizers trained here and the published ones. Other tokenizers
encode whole sentences, and so does every tokenizer for sentences with other white space than single spaces.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import chain

import numpy as np
from tokenizers import Tokenizer

from elc_composer.prepared.tokenizer_files import MASK, NEWLINE_RULE, PREFIX_RULES

_CACHED_PIECES = 400_000
_BATCH = 1000


class Encoder:
    """Token ids of sentences without [CLS] and [SEP], equal to `tokenizer.encode(..., add_special_tokens=False)`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.by_piece = _splits_at_spaces(tokenizer)
        self._first: dict[str, list[int]] = {}
        self._inner: dict[str, list[int]] = {}

    def encode(self, sentences: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all sentences, int64 [tokens], and the sentences' lengths in tokens, int32 [sentences].

        An empty sentence, which ends a document, has length 0. Other sentences without tokens are dropped.
        """
        ids: list[int] = []
        lengths: list[int] = []
        for sentence, own in self._each(sentences):
            if own or not sentence:
                ids += own
                lengths.append(len(own))
        return np.array(ids, np.int64), np.array(lengths, np.int32)

    def _each(self, sentences: Iterable[str]) -> Iterable[tuple[str, list[int]]]:
        if self.by_piece:
            return ((sentence, self._by_pieces(sentence)) for sentence in sentences)
        batch = list(sentences)
        encoded = (
            self._tokenizer.encode_batch(batch[i : i + _BATCH], add_special_tokens=False)
            for i in range(0, len(batch), _BATCH)
        )
        return zip(batch, (encoding.ids for encoding in chain.from_iterable(encoded)))

    def _by_pieces(self, sentence: str) -> list[int]:
        pieces = sentence.split(" ")
        if pieces != sentence.split():  # several spaces or other white space, which may form one token
            return self._whole(sentence)
        first = pieces.pop(0)
        try:
            ids = self._first[first].copy()
        except KeyError:
            ids = self._remember(self._first, first, first).copy()
        inner = self._inner
        for piece in pieces:
            try:
                ids += inner[piece]
            except KeyError:
                ids += self._remember(inner, piece, " " + piece)
        return ids

    def _remember(self, cache: dict[str, list[int]], key: str, piece: str) -> list[int]:
        if len(cache) >= _CACHED_PIECES:
            cache.clear()
        ids = cache[key] = self._whole(piece)
        return ids

    def _whole(self, sentence: str) -> list[int]:
        return self._tokenizer.encode(sentence, add_special_tokens=False).ids


def _splits_at_spaces(tokenizer: Tokenizer) -> bool:
    description = json.loads(tokenizer.to_str())
    splitter = description.get("pre_tokenizer") or {}
    steps = splitter.get("pretokenizers", [splitter])
    plain = all(
        not token["rstrip"] and (not token["lstrip"] or token["content"] == MASK)
        for token in description.get("added_tokens", [])
    )
    normalizer = description.get("normalizer") or {"normalizers": []}
    return (
        # Those that `save_tokenizer` adds: they change nothing at a single space within a sentence.
        all(rule in (NEWLINE_RULE, *PREFIX_RULES) for rule in normalizer.get("normalizers", [normalizer]))
        and plain
        and not any(" " in token["content"] for token in description.get("added_tokens", []))
        and bool(steps)
        and steps[0].get("type") == "ByteLevel"
        and steps[0].get("use_regex", True)
        and all(step.get("type") == "Digits" for step in steps[1:])
    )

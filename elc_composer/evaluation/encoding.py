"""Encodes sentences for scoring; adds special tokens in the same way for every tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.evaluation.config import Method, ScoringConfig
from elc_composer.evaluation.minimal_pairs import MinimalPair
from elc_composer.evaluation.position_logits import unwrapped


@dataclass(frozen=True)
class EncodedSentences:
    """N sentences as token ids."""

    tokens: list[NDArray[np.int32]]
    """One `[n]` array per sentence, special tokens at both ends included."""
    prefix: int
    """Special tokens before each sentence."""
    suffix: int
    """Special tokens after each sentence."""
    mask_token_id: int
    """Id of the mask token; -1 for causal models."""
    pad_token_id: int
    words: list[NDArray[np.int32]] | None = None
    """If requested: one `[n - prefix - suffix]` array per sentence with the word (pre-token) of each inner token."""
    unknown: NDArray[np.int64] | None = None
    """`[N]` number of [UNK] in each sentence."""

    @property
    def inner_lengths(self) -> NDArray[np.int64]:
        """`[N]` tokens of each sentence without special tokens."""
        lengths = np.fromiter((len(ids) for ids in self.tokens), np.int64, len(self.tokens))
        return lengths - self.prefix - self.suffix

    def select(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> EncodedSentences:
        """A copy with only the sentences at these indices, in this order."""
        return EncodedSentences(
            [self.tokens[i] for i in indices],
            self.prefix,
            self.suffix,
            self.mask_token_id,
            self.pad_token_id,
            None if self.words is None else [self.words[i] for i in indices],
            None if self.unknown is None else self.unknown[np.asarray(indices)],
        )


def encode_sentences(
    tokenizer: Any,
    texts: Sequence[str],
    *,
    causal: bool = False,
    words: bool = False,
    max_length: int | None = None,
    sources: Sequence[str] | None = None,
) -> EncodedSentences:
    """Tokenize with a transformers tokenizer.

    Each sentence becomes [CLS] tokens [SEP]; for causal models, the beginning-of-text token (if any) and tokens. The
    tokenizer's own post-processing is not used, because the published ELC-BERT tokenizers add no special tokens.

    Args:
        tokenizer: a transformers tokenizer.
        texts: N sentences.
        causal: prepare for a causal model.
        words: also return each token's word; needs a fast tokenizer.
        max_length: longest input of the model in tokens, special tokens included.
        sources: N places (`file:line`) for error messages.

    Raises:
        ConfigError: the tokenizer lacks a special token that scoring needs.
        DataError: a sentence has no tokens, or more than `max_length`; names the first one.
    """
    if words and not getattr(tokenizer, "is_fast", False):
        raise ConfigError(
            "within_word_l2r needs a fast tokenizer, which tells the word of each token; use the method original"
        )
    prefix, suffix = _special_tokens(tokenizer, causal)
    pad = tokenizer.pad_token_id
    mask = -1 if causal else tokenizer.mask_token_id
    inner, numbers = _tokenized(tokenizer, list(texts), words)
    _check_lengths(inner, texts, len(prefix) + len(suffix), max_length, sources)
    unknown_id = -1 if tokenizer.unk_token_id is None else tokenizer.unk_token_id
    return EncodedSentences(
        tokens=[np.array([*prefix, *ids, *suffix], np.int32) for ids in inner],
        prefix=len(prefix),
        suffix=len(suffix),
        mask_token_id=mask,
        pad_token_id=0 if pad is None else pad,
        words=numbers,
        unknown=np.array([ids.count(unknown_id) for ids in inner], np.int64),
    )


def _tokenized(tokenizer: Any, texts: list[str], words: bool) -> tuple[list[list[int]], list[NDArray[np.int32]] | None]:
    """Ids of each text without special tokens, and the word of each token if requested."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    plain = type(tokenizer) is PreTrainedTokenizerFast and not (
        backend.truncation or backend.padding or backend.encode_special_tokens
    )
    if plain and not words and hasattr(backend, "encode_batch_fast"):
        # On all cores and without offsets; transformers' call then spends as long again in Python, on one core.
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)], None
    batch = tokenizer(
        texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )
    numbers = [_word_numbers(batch.word_ids(i)) for i in range(len(texts))] if words else None
    return batch["input_ids"], numbers


def encode_pairs(
    tokenizer: Any, pairs: Sequence[MinimalPair], scoring: ScoringConfig, max_length: int | None = None
) -> tuple[dict[str, int], EncodedSentences]:
    """The index of each distinct sentence of the pairs, and their tokens; errors name file and line."""
    place: dict[str, int] = {}
    sources: list[str] = []
    for pair in pairs:
        for text in (pair.sentence_good, pair.sentence_bad):
            if place.setdefault(text, len(place)) == len(sources):
                sources.append(pair.source)
    encoded = encode_sentences(
        tokenizer,
        list(place),
        causal=scoring.method is Method.causal,
        words=scoring.method is Method.within_word_l2r,
        max_length=max_length,
        sources=sources,
    )
    return place, encoded


def max_sentence_length(model: Any, tokenizer: Any) -> int | None:
    """Most tokens a sentence may have, special ones included: the smaller of the model's and the tokenizer's limit.

    None if unlimited: models whose class sets `takes_any_length`, regardless of the tokenizer's limit.
    """
    if getattr(unwrapped(model), "takes_any_length", False):
        return None
    config = getattr(model, "config", None)
    limits = [getattr(config, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None)]
    known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < 10**9]
    return min(known) if known else None


def _special_tokens(tokenizer: Any, causal: bool) -> tuple[list[int], list[int]]:
    first = tokenizer.bos_token_id if causal or tokenizer.cls_token_id is None else tokenizer.cls_token_id
    if causal:
        return ([] if first is None else [first]), []
    last = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
    if tokenizer.mask_token_id is None:
        raise ConfigError(
            "the tokenizer has no mask token: name it in special_tokens_map.json, or score with method causal"
        )
    return ([] if first is None else [first]), ([] if last is None else [last])


def _word_numbers(word_ids: list[int | None]) -> NDArray[np.int32]:
    # A special token in the text has no word; it counts as a word of its own.
    return np.array([-1 - i if word is None else word for i, word in enumerate(word_ids)], np.int32)


def _check_lengths(
    inner: list[list[int]],
    texts: Sequence[str],
    special: int,
    max_length: int | None,
    sources: Sequence[str] | None,
) -> None:
    for i, ids in enumerate(inner):
        where = f"{sources[i]}: " if sources is not None else ""
        if len(ids) == 0:
            raise DataError(f"{where}the sentence {texts[i]!r} has no tokens, so that it has no score; remove the pair")
        if max_length is not None and len(ids) + special > max_length:
            tokens = len(ids) + special
            raise DataError(f"{where}the sentence {texts[i][:60]!r} has {tokens} tokens, the model takes {max_length}")

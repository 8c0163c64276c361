"""The masking procedure written plainly: one sample at a time, one span after another, one token after another."""

from __future__ import annotations

import numpy as np

from elc_composer.data.masking import (
    COUNT,
    IGNORED,
    LENGTH,
    RANDOM_TOKEN,
    REPLACEMENT,
    SPAN_STOP,
    START,
    MaskingConfig,
    TokenIds,
)
from elc_composer.data.random import uniforms


def mask_sample(
    input_ids: np.ndarray, key: np.ndarray, probability: float, config: MaskingConfig, tokens: TokenIds
) -> tuple[np.ndarray, np.ndarray]:
    """Masked copy and labels of one sequence `[T]`; `key` `[1]` from `sample_keys`."""
    enough = 8 * len(input_ids)
    draw = {p: uniforms(key, p, enough)[0].tolist() for p in (COUNT, LENGTH, START, REPLACEMENT, RANDOM_TOKEN)}
    text = [t for t, token in enumerate(input_ids.tolist()) if token >= tokens.num_special]
    if not text:
        return input_ids.copy(), np.full_like(input_ids, IGNORED)
    coins = [t for t in text if draw[COUNT][t] < probability] or [min(text, key=lambda t: draw[COUNT][t])]
    chosen: dict[int, float] = {}
    if config.strategy == "token":
        chosen = {t: draw[REPLACEMENT][t] for t in coins}
    else:
        begin, length, maskable, span = text[0], text[-1] + 1 - text[0], set(text), 0
        while len(chosen) < len(coins) and (config.max_spans is None or span < config.max_spans):
            size = span_length(draw[LENGTH][span], config.max_span_length)
            offset = int(draw[START][span] * (length + size - 1)) - (size - 1)
            for t in range(begin + offset, begin + offset + size):
                if t in maskable:
                    chosen.setdefault(t, draw[REPLACEMENT][span])
            span += 1
    masked, labels = input_ids.copy(), np.full_like(input_ids, IGNORED)
    for t, replacement in chosen.items():
        labels[t] = input_ids[t]
        if replacement < config.mask_share:
            masked[t] = tokens.mask_id
        elif replacement < config.mask_share + config.random_share:
            masked[t] = tokens.num_special + int(draw[RANDOM_TOKEN][t] * (tokens.vocab_size - tokens.num_special))
    return masked, labels


def span_length(u: float, longest: int) -> int:
    """A geometric length, given that it is at most `longest`, by inversion of one uniform number."""
    whole = 1 - (1 - SPAN_STOP) ** longest
    size = 1
    while size < longest and u >= (1 - (1 - SPAN_STOP) ** size) / whole:
        size += 1
    return size

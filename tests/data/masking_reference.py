"""Direct implementation of the published masking rules: one sample, one span, one token at a time."""

from __future__ import annotations

import numpy as np

from elc_composer.data.masking import IGNORED, MaskingConfig, TokenIds
from elc_composer.data.random import COUNT, LENGTH, RANDOM_TOKEN, REPLACEMENT, START, uniforms


class Draws:
    """The random numbers of one sample, by purpose and counter."""

    def __init__(self, key: np.ndarray, positions: int, spans: int) -> None:
        self.count, self.random_token, self.of_token = (
            uniforms(key, purpose, positions)[0].tolist() for purpose in (COUNT, RANDOM_TOKEN, REPLACEMENT)
        )
        self.length, self.start, self.of_span = (
            uniforms(key, purpose, spans)[0].tolist() for purpose in (LENGTH, START, REPLACEMENT)
        )


def mask_sample(
    input_ids: np.ndarray, key: np.ndarray, probability: float, config: MaskingConfig, tokens: TokenIds
) -> tuple[np.ndarray, np.ndarray]:
    """Masked copy and labels of one padded sequence `[T]`; `key` `[1]` from `sample_keys`."""
    original = input_ids.tolist()
    size = len(original)
    limit = 20 * size if config.max_spans is None else config.max_spans
    draws = Draws(key, size, limit)
    maskable = [token >= tokens.first_maskable for token in original]
    masked, labels = list(original), [IGNORED] * size

    def replace(position: int, decision: float) -> None:
        labels[position] = original[position]
        if decision < config.mask_share:
            masked[position] = tokens.mask_id
        elif decision < config.mask_share + config.random_share:
            choices = tokens.vocab_size - tokens.first_random
            masked[position] = tokens.first_random + int(draws.random_token[position] * choices)
        else:
            masked[position] = original[position]

    chosen = [t for t in range(size) if maskable[t] and draws.count[t] < probability]
    if config.strategy == "token":
        for t in chosen:
            replace(t, draws.of_token[t])
        return np.array(masked), np.array(labels)
    for span in range(limit):
        if sum(label != IGNORED for label in labels) >= len(chosen):
            break
        length = geometric(draws.length[span]) % (config.max_span_length + 1)
        lowest, highest = -(length - 1), size + length - 1
        start = lowest + int(draws.start[span] * (highest - lowest + 1))
        for t in range(max(start, 0), min(start + length, size - 1)):
            if maskable[t]:
                replace(t, draws.of_span[span])
    return np.array(masked), np.array(labels)


def geometric(u: float) -> int:
    """A geometric variable with success probability 1/3, counted from 1, by inversion of one uniform number."""
    value = 1
    while u >= 1 - (1 - 1 / 3) ** value:
        value += 1
    return value

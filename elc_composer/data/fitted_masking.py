"""Masking rules of earlier versions, fitted to measured statistics; kept so that runs that began with them resume.

`masking.rules: fitted` selects them. They differ from the published rules (docs/masking.md) in these points: every row
with a maskable token gets a label; [TAB] is neither masked nor drawn as a replacement; span lengths follow a truncated
geometric law; spans are placed over the text, not over the padded sequence; where spans overlap, the first one decides.
Delete this file when no such run has to resume.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from elc_composer.data.masking import MaskingConfig, TokenIds, replace_tokens
from elc_composer.data.random import COUNT, LENGTH, REPLACEMENT, START, Keys, uniforms, uniforms_at

SPAN_STOP = 0.335
"""Probability that a span ends after each token, fitted to measured run lengths."""
FIRST_TEXT_ID = 7
"""Ids below this one are neither masked nor drawn as replacements."""


def mask_batch(
    input_ids: NDArray[np.int64],
    keys: Keys,
    probability: NDArray[np.float64],
    config: MaskingConfig,
    tokens: TokenIds,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Mask a batch; arguments and results as those of `masking.mask_batch`.

    A row with a maskable token gets at least one label.
    """
    maskable = input_ids >= FIRST_TEXT_ID
    if config.strategy == "token":
        rows, columns = np.nonzero(_coins(keys, maskable, probability))
        replacement = uniforms_at(keys[rows], REPLACEMENT, columns)
    else:
        rows, columns, replacement = _choose_spans(maskable, keys, probability, config)
    text_only = dataclasses.replace(tokens, first_random=FIRST_TEXT_ID)
    return replace_tokens(input_ids, rows, columns, replacement, keys, config, text_only)


def _coins(keys: Keys, maskable: NDArray[np.bool_], probability: NDArray[np.float64]) -> NDArray[np.bool_]:
    """One Bernoulli draw per maskable token; if none succeeds in a row, the token with the smallest draw is chosen."""
    draws = np.where(maskable, uniforms(keys, COUNT, maskable.shape[1]), 2.0)
    chosen = draws < probability[:, None]
    return chosen | (maskable & ~chosen.any(1, keepdims=True) & (draws == draws.min(1, keepdims=True)))


def _choose_spans(
    maskable: NDArray[np.bool_], keys: Keys, probability: NDArray[np.float64], config: MaskingConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rows `[M]` and columns `[M]` of the masked tokens, and the number `[M]` that decides each one's replacement."""
    goals = _coins(keys, maskable, probability).sum(1)
    draws = 8 + int(goals.max(initial=0)) // 2
    pending = np.flatnonzero(goals)
    parts = []
    while pending.size:
        last = config.max_spans is not None and draws >= config.max_spans
        draws = min(draws, config.max_spans) if config.max_spans is not None else draws
        cover, used = _lay_spans(maskable[pending], keys[pending], goals[pending], draws, config)
        # Repeat rows that need more draws with twice as many; the first draws stay the same.
        done = np.ones(len(pending), bool) if last else used < draws
        rows, columns = np.nonzero((cover <= np.minimum(used, draws - 1)[:, None]) & done[:, None])
        spans = cover[rows, columns]
        parts.append((pending[rows], columns, uniforms_at(keys[pending[rows]], REPLACEMENT, spans)))
        pending = pending[~done]
        draws *= 2
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    return tuple(np.concatenate(part) for part in zip(*parts))  # type: ignore[return-value]


def _lay_spans(
    maskable: NDArray[np.bool_], keys: Keys, goals: NDArray[np.int64], draws: int, config: MaskingConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of the first span over each position `[B, T]` (`draws`: none), and of the span that reaches the goal."""
    batch, length = maskable.shape
    text_begin = maskable.argmax(1)
    text_length = length - maskable[:, ::-1].argmax(1) - text_begin
    sizes = 1 + np.searchsorted(_span_length_cdf(config.max_span_length), uniforms(keys, LENGTH, draws), side="right")
    # All placements that touch the text are equally likely, so all positions are masked equally often.
    begins = (uniforms(keys, START, draws) * (text_length[:, None] + sizes - 1)).astype(np.int64) - (sizes - 1)
    ends = np.minimum(begins + sizes, text_length[:, None])
    begins = np.maximum(begins, 0)
    sizes = ends - begins

    # Written from the last span to the first: where spans overlap, the number of the first one stays.
    sizes_reversed = sizes[:, ::-1].ravel()
    row_offsets = (np.arange(batch) * length + text_begin)[:, None]
    first_cells = (begins + row_offsets)[:, ::-1].ravel()
    within = np.arange(sizes_reversed.sum()) - np.repeat(np.cumsum(sizes_reversed) - sizes_reversed, sizes_reversed)
    cover = np.full(batch * length, draws, np.int64)
    numbers = np.broadcast_to(np.arange(draws - 1, -1, -1), (batch, draws)).ravel()
    cover[np.repeat(first_cells, sizes_reversed) + within] = np.repeat(numbers, sizes_reversed)
    cover = np.where(maskable, cover.reshape(batch, length), draws)

    newly = np.bincount((cover + np.arange(batch)[:, None] * (draws + 1)).ravel(), minlength=batch * (draws + 1))
    covered = newly.reshape(batch, draws + 1)[:, :draws].cumsum(1)
    return cover, (covered < goals[:, None]).sum(1)


def _span_length_cdf(longest: int) -> NDArray[np.float64]:
    """`[longest - 1]` probabilities of a span of at most 1, 2, ... tokens: the geometric law, truncated."""
    cumulative = 1.0 - (1.0 - SPAN_STOP) ** np.arange(1, longest + 1)
    return cumulative[:-1] / cumulative[-1]

"""Masks whole batches for masked-language modelling, with the published rules (docs/masking.md).

Numpy computes all spans of all rows at once: no Python loop runs over tokens, spans or samples. The result of a row
depends on its tokens, its key and its probability only, never on the other rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elc_composer.common.errors import ConfigError
from elc_composer.data.random import COUNT, LENGTH, RANDOM_TOKEN, REPLACEMENT, START, Keys, uniforms, uniforms_at

IGNORED = -100
"""Label of a position that is not predicted."""
SPAN_END = 1 / 3
"""Success probability of the geometric span length."""
# P(length <= k) for k = 1, 2, ...; it reaches 1.0 in float64 before the end, so every number below 1 finds its place.
GEOMETRIC_CDF = np.array([1 - (1 - SPAN_END) ** k for k in range(1, 101)])


@dataclass(frozen=True)
class TokenIds:
    """The ids that masking and the collator need. The defaults are those of the published tokenizers."""

    vocab_size: int
    cls_id: int = 1
    sep_id: int = 2
    pad_id: int = 3
    mask_id: int = 4
    first_random: int = 5
    """Random replacements are uniform from this id to the end of the vocabulary; published: [PAR]."""
    first_maskable: int = 6
    """Ids below this one are never masked; published: [TAB] can be masked, [PAR] cannot."""


@dataclass
class MaskingConfig:
    """Choice and replacement of the tokens to predict. The defaults are the published recipe."""

    strategy: str = "span"
    """`span`, or `token`: each token independently (BERT)."""
    rules: str = "published"
    """`published`, or `fitted`: the approximation of earlier versions, kept to resume runs that began with it."""
    probability: float = 0.15
    """Expected share of the maskable tokens to mask; the last span of a sample exceeds it by about 1.4 tokens."""
    final_probability: float | None = None
    """Share at the end of the run, reached linearly from `probability`; null: `probability` throughout."""
    max_span_length: int = 9
    """Longest span in tokens; the geometric length is taken modulo this plus 1."""
    max_spans: int | None = 100
    """Largest number of spans drawn per sample, empty ones included; null: no limit."""
    mask_share: float = 0.8
    """Share of the spans (or tokens) replaced by [MASK]."""
    random_share: float = 0.1
    """Share replaced by random tokens; the rest keeps its tokens."""

    def __post_init__(self) -> None:
        for name, given, allowed in (
            ("strategy", self.strategy, ("span", "token")),
            ("rules", self.rules, ("published", "fitted")),
        ):
            if given not in allowed:
                raise ConfigError(f"masking.{name} is {given!r}; use {' or '.join(map(repr, allowed))}")
        for name, value in (("probability", self.probability), ("final_probability", self.final_probability)):
            if value is not None and not 0.0 < value < 1.0:
                raise ConfigError(f"masking.{name} is {value}; it must be above 0 and below 1")
        for name, count in (("max_span_length", self.max_span_length), ("max_spans", self.max_spans)):
            if count is not None and count < 1:
                raise ConfigError(f"masking.{name} is {count}; it must be at least 1")
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1 + 1e-9:
            raise ConfigError(
                f"masking.mask_share is {self.mask_share} and masking.random_share {self.random_share}; both must be "
                "at least 0 and their sum at most 1"
            )

    def probability_at(self, progress: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """The masking probability at a progress of 0 (start of the run) to 1 (its end); clipped to that range."""
        end = self.probability if self.final_probability is None else self.final_probability
        return self.probability + (end - self.probability) * np.clip(np.asarray(progress, np.float64), 0.0, 1.0)


def mask_batch(
    input_ids: NDArray[np.int64],
    keys: Keys,
    probability: NDArray[np.float64],
    config: MaskingConfig,
    tokens: TokenIds,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Mask a batch by the published rules.

    Args:
        input_ids: `[B, T]`, padded to the full sequence length: spans are placed over all T positions.
        keys: `[B]`, from `sample_keys`.
        probability: `[B]`, the masking probability of each row.
        config: strategy, span lengths and shares of the replacements.
        tokens: ids of the tokenizer.

    Returns:
        Masked copy of `input_ids` and labels, both `[B, T]`; labels are -100 where nothing is predicted. A row may
        have no label at all.
    """
    maskable = input_ids >= tokens.first_maskable
    if config.strategy == "token":
        rows, columns = np.nonzero(_coins(keys, maskable, probability))
        replacement = uniforms_at(keys[rows], REPLACEMENT, columns)
    else:
        rows, columns, replacement = _choose_spans(maskable, keys, probability, config)
    return replace_tokens(input_ids, rows, columns, replacement, keys, config, tokens)


def replace_tokens(
    input_ids: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    replacement: NDArray[np.float64],
    keys: Keys,
    config: MaskingConfig,
    tokens: TokenIds,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Masked copy of `input_ids` `[B, T]` and labels `[B, T]`, for masked tokens at `rows` `[M]` and `columns` `[M]`.

    `replacement` `[M]` in [0, 1) selects [MASK], a random id or the original by the shares of `config`.
    """
    labels = np.full_like(input_ids, IGNORED)
    labels[rows, columns] = input_ids[rows, columns]
    masked = input_ids.copy()
    by_mask = replacement < config.mask_share
    masked[rows[by_mask], columns[by_mask]] = tokens.mask_id
    by_random = ~by_mask & (replacement < config.mask_share + config.random_share)
    rows, columns = rows[by_random], columns[by_random]
    draws = uniforms_at(keys[rows], RANDOM_TOKEN, columns)
    masked[rows, columns] = tokens.first_random + (draws * (tokens.vocab_size - tokens.first_random)).astype(np.int64)
    return masked, labels


def _coins(keys: Keys, maskable: NDArray[np.bool_], probability: NDArray[np.float64]) -> NDArray[np.bool_]:
    """One Bernoulli draw per maskable token, `[B, T]`; the sum of a row is the binomial draw of the rules."""
    return maskable & (uniforms(keys, COUNT, maskable.shape[1]) < probability[:, None])


def _choose_spans(
    maskable: NDArray[np.bool_], keys: Keys, probability: NDArray[np.float64], config: MaskingConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rows `[M]` and columns `[M]` of the masked tokens, and the number `[M]` that decides each one's replacement."""
    goals = _coins(keys, maskable, probability).sum(1)
    reachable = maskable.copy()
    reachable[:, -1:] = False
    if config.max_spans is None:
        # No span reaches the last position: without this, a row whose goal includes it would be drawn for ever.
        goals = np.minimum(goals, reachable.sum(1))
    draws = 8 + int(goals.max(initial=0)) // 2
    pending = np.flatnonzero(goals)
    parts = []
    while pending.size:
        if config.max_spans is not None:
            draws = min(draws, config.max_spans)
        begins, sizes = _draw_spans(keys[pending], draws, maskable.shape[1], config)
        needed = _spans_needed(begins, sizes, reachable[pending], goals[pending])
        # Repeat rows that need more draws with twice as many; the first draws stay the same.
        done = needed <= draws if draws != config.max_spans else np.ones(len(pending), bool)
        numbers = np.broadcast_to(np.arange(draws), sizes.shape)
        applied = np.where((numbers < needed[:, None]) & done[:, None], sizes, 0)
        # Written in drawing order: where spans overlap, the number of the later one stays.
        last = _paint(begins, applied, numbers, maskable.shape[1], -1)
        rows, columns = np.nonzero((last >= 0) & reachable[pending])
        parts.append((pending[rows], columns, uniforms_at(keys[pending[rows]], REPLACEMENT, last[rows, columns])))
        pending = pending[~done]
        draws *= 2
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    return tuple(np.concatenate(part) for part in zip(*parts))  # type: ignore[return-value]


def _draw_spans(
    keys: Keys, draws: int, length: int, config: MaskingConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First positions and sizes of `draws` spans per row, both `[B, draws]`, cut to positions 0 to `length` - 2."""
    geometric = 1 + np.searchsorted(GEOMETRIC_CDF, uniforms(keys, LENGTH, draws), side="right")
    sizes = geometric % (config.max_span_length + 1)
    # All integers from -(size - 1) to length + size - 1 are equally likely.
    begins = (uniforms(keys, START, draws) * (length + 2 * sizes - 1)).astype(np.int64) - (sizes - 1)
    ends = np.minimum(begins + sizes, length - 1)
    begins = np.maximum(begins, 0)
    return begins, np.maximum(ends - begins, 0)


def _spans_needed(
    begins: NDArray[np.int64], sizes: NDArray[np.int64], reachable: NDArray[np.bool_], goals: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Number of spans `[B]` that cover `goals` `[B]` tokens; one more than there are spans where they do not."""
    batch, draws = sizes.shape
    # Written from the last span to the first: each position keeps the number of the first span that covers it.
    numbers = np.broadcast_to(np.arange(draws - 1, -1, -1), sizes.shape)
    first = _paint(begins[:, ::-1], sizes[:, ::-1], numbers, reachable.shape[1], draws)
    first = np.where(reachable, first, draws) + np.arange(batch)[:, None] * (draws + 1)
    newly = np.bincount(first.ravel(), minlength=batch * (draws + 1)).reshape(batch, draws + 1)[:, :draws]
    return 1 + (newly.cumsum(1) < goals[:, None]).sum(1)


def _paint(
    begins: NDArray[np.int64], sizes: NDArray[np.int64], numbers: NDArray[np.int64], length: int, empty: int
) -> NDArray[np.int64]:
    """A table `[B, length]` with the number of the last given span over each position, `empty` where there is none."""
    batch = len(sizes)
    flat = sizes.ravel()
    first_cells = (begins + np.arange(batch)[:, None] * length).ravel()
    within = np.arange(flat.sum()) - np.repeat(np.cumsum(flat) - flat, flat)
    table = np.full(batch * length, empty, np.int64)
    # Numpy assigns repeated indices in order, so the last one stays.
    table[np.repeat(first_cells, flat) + within] = np.repeat(numbers.ravel(), flat)
    return table.reshape(batch, length)

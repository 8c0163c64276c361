"""Masking a whole batch for masked-LM training, without a Python loop over tokens, spans or samples.

Span masking follows the distribution measured on the published ELC-BERT implementation (docs/masking.md tells how
it was inferred): as many tokens are to be masked as independent coins would pick; spans of a truncated geometric length
are laid down uniformly until that many are covered, so the last one overshoots; what replaces a span is drawn once per
span.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elc_composer.common.errors import ConfigError
from elc_composer.data.random import Keys, uniforms, uniforms_at

IGNORED = -100
# A span that could go on ends with this probability: fitted to the measured run lengths (1/3 is 3 standard errors off).
SPAN_STOP = 0.335
# Purposes of random numbers: each has a sequence of its own for every sample.
COUNT, LENGTH, START, REPLACEMENT, RANDOM_TOKEN, SHORT = range(6)


@dataclass(frozen=True)
class TokenIds:
    """What masking and the collator must know of the tokenizer. Ids below `num_special` are special."""

    vocab_size: int
    cls_id: int = 1
    sep_id: int = 2
    pad_id: int = 3
    mask_id: int = 4
    num_special: int = 7


@dataclass
class MaskingConfig:
    """How tokens are chosen and replaced. The defaults are the published recipe."""

    strategy: str = "span"
    """`span`, or `token`: every token by itself (BERT)."""
    probability: float = 0.15
    """Expected share of the text tokens that are chosen; spans overshoot it by about 1.4 tokens a sample."""
    final_probability: float | None = None
    """Share at the end of the run, reached linearly from `probability`; null: `probability` throughout."""
    max_span_length: int = 9
    """Longest span in tokens."""
    max_spans: int | None = None
    """Stop after this many spans though fewer tokens are covered than asked for; the published loop has 100."""
    mask_share: float = 0.8
    """Share of the chosen tokens replaced by [MASK]; `random_share` are replaced by a random token, the rest kept."""
    random_share: float = 0.1
    """Share of the chosen tokens replaced by random tokens."""

    def __post_init__(self) -> None:
        if self.strategy not in ("span", "token"):
            raise ConfigError(f"masking.strategy is {self.strategy!r}: use 'span' or 'token'.")
        for name, value in (("probability", self.probability), ("final_probability", self.final_probability)):
            if value is not None and not 0.0 < value < 1.0:
                raise ConfigError(f"masking.{name} is {value}: it must lie between 0 and 1.")
        for name, count in (("max_span_length", self.max_span_length), ("max_spans", self.max_spans)):
            if count is not None and count < 1:
                raise ConfigError(f"masking.{name} is {count}: it must be at least 1.")
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1 + 1e-9:
            raise ConfigError(
                f"masking.mask_share {self.mask_share} and masking.random_share {self.random_share} must not be "
                "negative nor sum to more than 1."
            )

    def probability_at(self, progress: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """The share to mask at a progress through the run of 0 to 1 (clipped to it)."""
        end = self.probability if self.final_probability is None else self.final_probability
        return self.probability + (end - self.probability) * np.clip(np.asarray(progress, np.float64), 0.0, 1.0)

    def span_length_cdf(self) -> NDArray[np.float64]:
        """`[max_span_length - 1]` probabilities of a span of at most 1, 2, ... tokens (the geometric law, cut off)."""
        cumulative = 1.0 - (1.0 - SPAN_STOP) ** np.arange(1, self.max_span_length + 1)
        return cumulative[:-1] / cumulative[-1]


def mask_batch(
    input_ids: NDArray[np.int64],
    keys: Keys,
    probability: NDArray[np.float64],
    config: MaskingConfig,
    tokens: TokenIds,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Masked copies of `input_ids` `[B, T]` and their labels `[B, T]` (-100 where nothing is predicted).

    `keys` `[B]` come from `sample_keys`; a row's result depends on that row, its key and its `probability` `[B]` alone.
    Special tokens, also those inside the text, are never masked. A row with a maskable token gets at least one label.
    """
    maskable = input_ids >= tokens.num_special
    if config.strategy == "token":
        rows, columns = np.nonzero(_coins(keys, maskable, probability))
        replacement = uniforms_at(keys[rows], REPLACEMENT, columns)
    else:
        rows, columns, replacement = _choose_spans(maskable, keys, probability, config)
    labels = np.full_like(input_ids, IGNORED)
    labels[rows, columns] = input_ids[rows, columns]
    masked = input_ids.copy()
    by_mask = replacement < config.mask_share
    masked[rows[by_mask], columns[by_mask]] = tokens.mask_id
    by_random = ~by_mask & (replacement < config.mask_share + config.random_share)
    rows, columns = rows[by_random], columns[by_random]
    draws = uniforms_at(keys[rows], RANDOM_TOKEN, columns)
    masked[rows, columns] = tokens.num_special + (draws * (tokens.vocab_size - tokens.num_special)).astype(np.int64)
    return masked, labels


def _coins(keys: Keys, maskable: NDArray[np.bool_], probability: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A coin for every maskable token; where all of a row's fall wrong, its luckiest token is taken."""
    draws = np.where(maskable, uniforms(keys, COUNT, maskable.shape[1]), 2.0)
    chosen = draws < probability[:, None]
    return chosen | (maskable & ~chosen.any(1, keepdims=True) & (draws == draws.min(1, keepdims=True)))


def _choose_spans(
    maskable: NDArray[np.bool_], keys: Keys, probability: NDArray[np.float64], config: MaskingConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rows `[M]` and columns `[M]` of the chosen tokens, and the number that decides each one's replacement."""
    goals = _coins(keys, maskable, probability).sum(1)
    draws = 8 + int(goals.max(initial=0)) // 2
    pending = np.flatnonzero(goals)
    parts = []
    while pending.size:
        last = config.max_spans is not None and draws >= config.max_spans
        draws = min(draws, config.max_spans) if config.max_spans is not None else draws
        cover, used = _lay_spans(maskable[pending], keys[pending], goals[pending], draws, config)
        # Rows that these draws did not satisfy are done again with more; the first draws stay the same.
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
    """The first span over every position `[B, T]` (`draws` where none), and the span `[B]` reaching the goal."""
    batch, length = maskable.shape
    text_begin = maskable.argmax(1)
    text_length = length - maskable[:, ::-1].argmax(1) - text_begin
    sizes = 1 + np.searchsorted(config.span_length_cdf(), uniforms(keys, LENGTH, draws), side="right")
    # Every placement that touches the text is as likely as any other: so each position is as likely as any other.
    begins = (uniforms(keys, START, draws) * (text_length[:, None] + sizes - 1)).astype(np.int64) - (sizes - 1)
    ends = np.minimum(begins + sizes, text_length[:, None])
    begins = np.maximum(begins, 0)
    sizes = ends - begins

    # Written from the last span to the first: where spans overlap, the first one's number is what remains.
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

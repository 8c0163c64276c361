"""Scores sentences: pseudo-log-likelihood (Salazar et al. 2020), or log-likelihood under a causal model."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from elc_composer.evaluation.config import Method, Reduction, ScoringConfig
from elc_composer.evaluation.encoding import EncodedSentences, encode_sentences, max_sentence_length
from elc_composer.evaluation.position_logits import PositionLogits
from elc_composer.evaluation.rows import RowPlan, plan_rows

Floats = NDArray[np.float64]
AHEAD = 4
"""Batches that are prepared, and batches that are computed, ahead of their results on a GPU."""


def target_log_probs(logits: Tensor, slot: Tensor, token: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Natural-log probabilities of tokens.

    Args:
        logits: `[M, V]` of any float dtype.
        slot: `[K]` row of `logits` for each target.
        token: `[K]` target tokens.
        temperature: divides the logits.

    Returns:
        `[K]` float32, or float64 for float64 logits. The softmax is never computed in half precision.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if isinstance(temperature, Tensor) or temperature != 1.0:
        wide = wide / temperature
    return wide[slot, token] - wide.logsumexp(dim=-1)[slot]


def sentence_scores(token_log_probs: Floats, inner_lengths: NDArray[np.int64], reduction: Reduction) -> Floats:
    """`[N]` scores in nats from the log-probabilities of all inner tokens of N sentences, concatenated."""
    starts = np.concatenate([[0], np.cumsum(inner_lengths)])[:-1]
    sums = np.add.reduceat(token_log_probs, starts)
    return sums / inner_lengths if reduction is Reduction.mean else sums


class RowScorer:
    """Runs planned rows through a model in eval mode."""

    def __init__(self, model: nn.Module, config: ScoringConfig, device: torch.device | str | None = None) -> None:
        self.logits_at = PositionLogits(model)
        self.config = config
        self.device = torch.device(device) if device is not None else next(model.parameters()).device

    @torch.inference_mode()
    def score(self, plan: RowPlan, span: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """`target_index` `[K]` (CPU) and log-probabilities `[K]` (device) of the targets in a range of rows."""
        return self._score(plan.batch(*span))

    def _score(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        moved = {
            name: batch[name].to(self.device, non_blocking=True)
            for name in ("input_ids", "masked_positions", "target_slot", "target_token")
        }
        mask = (
            None if bool(batch["attention_mask"].all()) else batch["attention_mask"].to(self.device, non_blocking=True)
        )
        logits = self.logits_at(moved["input_ids"], mask, moved["masked_positions"])
        values = target_log_probs(logits, moved["target_slot"], moved["target_token"], self.config.temperature)
        return batch["target_index"], values

    def score_each(self, plan: RowPlan, spans: Sequence[tuple[int, int]]) -> Generator[Floats, None, None]:
        """Log-probabilities of the targets of each batch, in order, `[K]` float64.

        On a CPU, each of torch's threads scores whole batches instead of sharing each operation: the operations of
        small models are too short to be shared efficiently. Scores do not depend on the number of threads.
        """

        def values(span: tuple[int, int]) -> Floats:
            # Copy to numpy: small long-lived tensors between large temporaries fragment torch's memory, by about 1 MB
            # per batch, until the machine runs out of memory.
            return self.score(plan, span)[1].double().cpu().numpy().copy()

        if self.device.type == "cuda":
            yield from self._score_ahead(plan, spans)
            return
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        if threads == 1 or not spans:
            yield from map(values, spans)
            return
        pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        try:
            yield from pool.map(values, spans)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)

    def _score_ahead(self, plan: RowPlan, spans: Sequence[tuple[int, int]]) -> Generator[Floats, None, None]:
        """`score_each` on a GPU: a thread prepares batches, and the host waits only for results some batches back."""

        def prepare(span: tuple[int, int]) -> dict[str, Tensor]:
            return {name: tensor.pin_memory() for name, tensor in plan.batch(*span).items()}

        waiting: deque[tuple[Tensor, torch.cuda.Event]] = deque()

        def oldest() -> Floats:
            values, copied = waiting.popleft()
            copied.synchronize()
            return values.numpy().copy()

        pool = ThreadPoolExecutor(1)
        try:
            ahead = deque(pool.submit(prepare, span) for span in spans[:AHEAD])
            for following in [*spans[AHEAD:], *[None] * len(ahead)]:
                batch = ahead.popleft().result()
                if following is not None:
                    ahead.append(pool.submit(prepare, following))
                waiting.append(self._started(batch))
                if len(waiting) > AHEAD:
                    yield oldest()
            while waiting:
                yield oldest()
        finally:
            pool.shutdown(cancel_futures=True)

    @torch.inference_mode()
    def _started(self, batch: dict[str, Tensor]) -> tuple[Tensor, torch.cuda.Event]:
        """Queue a batch and the copy of its results; the event tells when they have arrived."""
        values = self._score(batch)[1].double()
        arrived = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        arrived.copy_(values, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record(torch.cuda.current_stream(self.device))
        return arrived, copied


def score_encoded(
    model: nn.Module,
    sentences: EncodedSentences,
    config: ScoringConfig | None = None,
    device: torch.device | str | None = None,
) -> tuple[Floats, list[Floats]]:
    """Scores `[N]` of encoded sentences, and the token log-probabilities of each; the model must be in eval mode."""
    config = config or ScoringConfig()
    plan = plan_rows(sentences, config.method)
    # A token that the model cannot predict (the first of a causal model without beginning-of-text token) counts 0.
    flat = np.zeros(int(sentences.inner_lengths.sum()))
    spans = plan.spans(config.tokens_per_batch)
    for (start, stop), values in zip(spans, RowScorer(model, config, device).score_each(plan, spans)):
        flat[plan.target_index[plan.targets[start] : plan.targets[stop]]] = values
    tokens = np.split(flat, np.cumsum(sentences.inner_lengths)[:-1])
    return sentence_scores(flat, sentences.inner_lengths, config.reduction), tokens


def score_sentences(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    config: ScoringConfig | None = None,
    device: torch.device | str | None = None,
) -> Floats:
    """`[N]` scores in nats of N sentences; equal sentences are scored once. Runs in eval mode."""
    config = config or ScoringConfig()
    if not texts:
        return np.zeros(0)
    distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    encoded = encode_sentences(
        tokenizer,
        list(distinct),
        causal=config.method is Method.causal,
        words=config.method is Method.within_word_l2r,
        max_length=max_sentence_length(model, tokenizer),
    )
    training = model.training
    model.eval()
    try:
        scores, _ = score_encoded(model, encoded, config, device)
    finally:
        model.train(training)
    return scores[[distinct[text] for text in texts]]

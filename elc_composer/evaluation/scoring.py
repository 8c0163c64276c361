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

from elc_composer.common.errors import ConfigError
from elc_composer.evaluation.config import Method, Reduction, ScoringConfig, default_tokens_per_batch
from elc_composer.evaluation.encoding import EncodedSentences, encode_sentences, max_sentence_length
from elc_composer.evaluation.position_logits import PositionLogits
from elc_composer.evaluation.rows import RowPlan, plan_rows
from elc_composer.model.attention import reuse_positions

Floats = NDArray[np.float64]
AHEAD = 4
"""Batches that are prepared, and batches that are computed, ahead of their results on a GPU."""
CHUNK = 2**24
"""Logits that are converted to float32 at a time (64 MB)."""


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

    def widened(part: Tensor) -> Tensor:
        part = part if part.dtype == torch.float64 else part.float()
        # 1 would cost a copy of all logits.
        return part / temperature if isinstance(temperature, Tensor) or temperature != 1.0 else part

    # In chunks, so that no float32 copy of all logits is made.
    rows = max(1, CHUNK // max(1, logits.shape[-1]))
    normalizers = torch.cat([widened(chunk).logsumexp(dim=-1) for chunk in logits.split(rows)])
    return widened(logits[slot, token]) - normalizers[slot]


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
        batch = plan.batch(*span)
        return batch["target_index"], self._score(_needed(batch))

    def _score(self, needed: dict[str, Tensor]) -> Tensor:
        moved = {name: tensor.to(self.device, non_blocking=True) for name, tensor in needed.items()}
        logits = self.logits_at(moved["input_ids"], moved.get("attention_mask"), moved["masked_positions"])
        return target_log_probs(logits, moved["target_slot"], moved["target_token"], self.config.temperature)

    def score_each(self, plan: RowPlan, spans: Sequence[tuple[int, int]]) -> Generator[Floats, None, None]:
        """Log-probabilities of the targets of each batch, in order, `[K]` float64.

        On a CPU, each of torch's threads scores whole batches instead of sharing each operation: the operations of
        small models are too short to be shared efficiently. Scores do not depend on the number of threads.
        """

        with reuse_positions(self.logits_at.model):
            if self.device.type == "cuda":
                yield from self._score_ahead(plan, spans)
            else:
                yield from self._score_on_threads(plan, spans)

    def _score_on_threads(self, plan: RowPlan, spans: Sequence[tuple[int, int]]) -> Generator[Floats, None, None]:
        """`score_each` on a CPU."""

        def values(span: tuple[int, int]) -> Floats:
            # Copy to numpy: small long-lived tensors between large temporaries fragment torch's memory, by about 1 MB
            # per batch, until the machine runs out of memory.
            return self.score(plan, span)[1].double().cpu().numpy().copy()

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
        """`score_each` on a GPU: a thread prepares batches, and the host waits only for results some batches back.

        On a CPU it gives the same results without pinned memory and events.
        """
        on_gpu = self.device.type == "cuda"

        def enter() -> None:
            # Pinning on another GPU would create a context there. A device without number is the current one.
            if on_gpu:
                torch.cuda.set_device(index)

        def prepare(span: tuple[int, int]) -> dict[str, Tensor]:
            needed = _needed(plan.batch(*span))
            return {name: tensor.pin_memory() for name, tensor in needed.items()} if on_gpu else needed

        def oldest() -> Floats:
            values, copied = waiting.popleft()
            if copied is not None:
                copied.synchronize()
            return values.numpy().copy()

        index = 0
        if on_gpu:
            index = torch.cuda.current_device() if self.device.index is None else self.device.index
        waiting: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
        pool = ThreadPoolExecutor(1, initializer=enter)
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
        except torch.OutOfMemoryError:
            raise ConfigError(
                f"{self.device} has not enough memory for tokens_per_batch {self.config.tokens_per_batch}; "
                "set a lower number (--tokens-per-batch)"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)

    @torch.inference_mode()
    def _started(self, needed: dict[str, Tensor]) -> tuple[Tensor, torch.cuda.Event | None]:
        """Queue a batch and the copy of its results; the event (on a GPU) tells when they have arrived."""
        values = self._score(needed).double()
        if self.device.type != "cuda":
            return values.cpu(), None
        arrived = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        arrived.copy_(values, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record(torch.cuda.current_stream(self.device))
        return arrived, copied


def default_config(model: nn.Module, device: torch.device | str | None = None) -> ScoringConfig:
    """The default settings, with a batch size that suits the device (None: that of the model's parameters)."""
    place = torch.device(device) if device is not None else next(model.parameters()).device
    return ScoringConfig(tokens_per_batch=default_tokens_per_batch(place.type))


def _needed(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `RowPlan.batch` that the model and the targets need; no mask where all tokens are real."""
    names = ["input_ids", "masked_positions", "target_slot", "target_token"]
    if not bool(batch["attention_mask"].all()):
        names.append("attention_mask")
    return {name: batch[name] for name in names}


def score_encoded(
    model: nn.Module,
    sentences: EncodedSentences,
    config: ScoringConfig | None = None,
    device: torch.device | str | None = None,
) -> tuple[Floats, list[Floats]]:
    """Scores `[N]` of encoded sentences, and the token log-probabilities of each; the model must be in eval mode."""
    config = config or default_config(model, device)
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
    config = config or default_config(model, device)
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

"""Scores many minimal pairs: distributed over ranks, resumable after an interruption."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.evaluation import ranks as dist
from elc_composer.evaluation.aggregate import ScoredPairs
from elc_composer.evaluation.config import ScoringConfig
from elc_composer.evaluation.encoding import EncodedSentences, encode_pairs, max_sentence_length
from elc_composer.evaluation.ledger import Done, Ledger
from elc_composer.evaluation.minimal_pairs import MinimalPair
from elc_composer.evaluation.rows import RowPlan, plan_rows
from elc_composer.evaluation.scoring import RowScorer, default_config, sentence_scores


def score_pairs(
    model: nn.Module,
    tokenizer: Any,
    pairs: list[MinimalPair],
    scoring: ScoringConfig | None = None,
    *,
    device: torch.device | str | None = None,
    ledger_folder: Path | None = None,
    progress: bool = False,
) -> ScoredPairs:
    """Score pairs; each distinct row of tokens passes through the model once, on one rank.

    The batches, and so the scores, do not depend on the number of ranks. All ranks must call this with the same
    arguments; all get the result.

    Args:
        model: in eval mode, on its device.
        tokenizer: a transformers tokenizer.
        pairs: P pairs.
        scoring: method and batch size; None: `original`, and the device's default batch size.
        device: device of the inputs; None: that of the model's parameters.
        ledger_folder: stores finished batches, from which the same call resumes. Delete it once the scores are stored.
        progress: show a progress bar on rank 0.

    Raises:
        ConfigError: the tokenizer has more entries than the model's embedding.
        DataError: a sentence has no tokens or too many, or a score is NaN or infinite; with file and line.
    """
    scoring = scoring or default_config(model, device)
    place, sentences = encode_pairs(tokenizer, pairs, scoring, max_sentence_length(model, tokenizer))
    _check_vocabulary(model, sentences)
    plan = plan_rows(sentences, scoring.method)
    spans = plan.spans(scoring.tokens_per_batch)
    ledger = Ledger(ledger_folder, _fingerprint(model, plan, spans, scoring)) if ledger_folder else None
    done = {
        i: values for i, values in _merged(ledger.read() if ledger else {}).items() if _fits(plan, spans, i, values)
    }
    own = [i for i in range(len(spans)) if i not in done][dist.get_global_rank() :: dist.get_world_size()]
    if ledger:
        ledger.start(dist.get_global_rank(), done if dist.get_global_rank() == 0 else {})
    try:
        new = _score_batches(RowScorer(model, scoring, device), plan, spans, own, ledger, progress)
    finally:
        if ledger:
            ledger.close()
    results = _merged({**done, **new})
    flat = np.zeros(int(sentences.inner_lengths.sum()))
    for i, (start, stop) in enumerate(spans):
        flat[plan.target_index[plan.targets[start] : plan.targets[stop]]] = results[i]
    scores = sentence_scores(flat, sentences.inner_lengths, scoring.reduction)
    columns = np.array([[place[pair.sentence_good], place[pair.sentence_bad]] for pair in pairs])
    _check_scores(pairs, scores[columns])
    assert sentences.unknown is not None
    return ScoredPairs(pairs, scores[columns], sentences.inner_lengths[columns], sentences.unknown[columns])


def model_sha256(model: nn.Module) -> str:
    """Hash of all parameters and buffers with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _check_vocabulary(model: nn.Module, sentences: EncodedSentences) -> None:
    entries = getattr(getattr(model, "config", None), "vocab_size", None)
    largest = max((int(ids.max()) for ids in sentences.tokens), default=0)
    largest = max(largest, sentences.mask_token_id)
    if isinstance(entries, int) and largest >= entries:
        raise ConfigError(
            f"the tokenizer gives token {largest}, but the model has {entries} entries; use the model's own tokenizer"
        )


def _check_scores(pairs: list[MinimalPair], scores: NDArray[np.float64]) -> None:
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(bad):
        first = pairs[bad[0]]
        raise DataError(
            f"{first.source}: the scores are {scores[bad[0], 0]} and {scores[bad[0], 1]}; {len(bad):,} of "
            f"{len(pairs):,} pairs have scores that are not finite: the weights are damaged, or the dtype is too narrow"
        )


def _score_batches(
    scorer: RowScorer,
    plan: RowPlan,
    spans: list[tuple[int, int]],
    own: list[int],
    ledger: Ledger | None,
    progress: bool,
) -> Done:
    tokens = [(spans[i][1] - spans[i][0]) * plan.length_of(spans[i][0]) for i in own]
    bar = tqdm(
        total=sum(tokens),
        unit="token",
        unit_scale=True,
        desc="scoring",
        disable=not progress or dist.get_global_rank() != 0,
    )
    new: Done = {}
    with bar, closing(scorer.score_each(plan, [spans[i] for i in own])) as scored:
        for i, size, values in zip(own, tokens, scored):
            new[i] = values
            if ledger:
                ledger.add(i, values)
            bar.update(size)
    return new


def _merged(own: Done) -> Done:
    """The union of all ranks' results, on all ranks."""
    merged: Done = {}
    for part in dist.all_gather_object(own):
        merged.update(part)
    return merged


def _fits(plan: RowPlan, spans: list[tuple[int, int]], batch: int, values: NDArray[np.float64]) -> bool:
    """Whether stored values belong to a batch of the plan; a damaged ledger can hold others."""
    if not 0 <= batch < len(spans):
        return False
    start, stop = spans[batch]
    return len(values) == plan.targets[stop] - plan.targets[start]


def _fingerprint(model: nn.Module, plan: RowPlan, spans: list[tuple[int, int]], scoring: ScoringConfig) -> str:
    digest = hashlib.sha256(model_sha256(model).encode())
    # Settings not visible in the weights, such as the number of heads and LayerNorm epsilons.
    digest.update(repr(getattr(model, "config", "")).encode())
    digest.update(f"{scoring.temperature} {spans}".encode())
    arrays: list[NDArray[Any]] = [*plan.rows, plan.slot_position, plan.target_slot, plan.target_token]
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()

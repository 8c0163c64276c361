"""Scores of many minimal pairs: shared over ranks, continued after an interruption."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composer.utils import dist
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.evaluation.aggregate import ScoredPairs
from elc_composer.evaluation.config import ScoringConfig
from elc_composer.evaluation.encoding import EncodedSentences, encode_pairs, max_sentence_length
from elc_composer.evaluation.ledger import Done, Ledger
from elc_composer.evaluation.minimal_pairs import MinimalPair
from elc_composer.evaluation.rows import RowPlan, plan_rows
from elc_composer.evaluation.scoring import RowScorer, sentence_scores


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
    """Score pairs; every distinct row of tokens goes through the model once, on one rank.

    Batches are cut alike whatever the number of ranks, so that the scores are, too. All ranks must call this, with the
    same arguments, and all get the result.

    Args:
        model: in eval mode, on its device.
        tokenizer: a transformers tokenizer.
        pairs: P pairs.
        scoring: what a score is.
        device: where inputs go; None: where the model's parameters are.
        ledger_folder: keeps finished batches; the same call continues from there. It stays: remove it once the scores
            are safe.
        progress: show a bar with an estimate, on rank 0.

    Raises:
        ConfigError: a tokenizer with more entries than the model's embedding.
        DataError: a sentence that has no tokens or too many, or a score that is no number, named by file and line.
    """
    scoring = scoring or ScoringConfig()
    place, sentences = encode_pairs(tokenizer, pairs, scoring, max_sentence_length(model, tokenizer))
    _check_vocabulary(model, sentences)
    plan = plan_rows(sentences, scoring.method)
    spans = plan.spans(scoring.tokens_per_batch)
    ledger = Ledger(ledger_folder, _fingerprint(model, plan, spans, scoring)) if ledger_folder else None
    done = _merged(ledger.read() if ledger else {})
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
        raise ConfigError(f"the tokenizer gives token {largest}, the model has {entries}: they do not belong together")


def _check_scores(pairs: list[MinimalPair], scores: NDArray[np.float64]) -> None:
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(bad):
        first = pairs[bad[0]]
        raise DataError(
            f"{first.source}: the scores are {scores[bad[0], 0]} and {scores[bad[0], 1]}, and {len(bad):,} of "
            f"{len(pairs):,} pairs have such ones: the model's weights are damaged, or its dtype too narrow"
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
    """What any rank has, on all of them."""
    merged: Done = {}
    for part in dist.all_gather_object(own):
        merged.update(part)
    return merged


def _fingerprint(model: nn.Module, plan: RowPlan, spans: list[tuple[int, int]], scoring: ScoringConfig) -> str:
    digest = hashlib.sha256(model_sha256(model).encode())
    # What no weight shows: heads, norms' epsilons.
    digest.update(repr(getattr(model, "config", "")).encode())
    digest.update(f"{scoring.temperature} {spans}".encode())
    arrays: list[NDArray[Any]] = [*plan.rows, plan.slot_position, plan.target_slot, plan.target_token]
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()

"""Counts and sums of evaluation metrics do not depend on torch's default dtype."""

from __future__ import annotations

import numpy as np
import torch

from elc_composer.evaluation.config import ScoringConfig
from elc_composer.evaluation.encoding import EncodedSentences
from elc_composer.evaluation.in_training.metrics import MinimalPairAccuracy
from elc_composer.evaluation.in_training.pair_batches import PairBatches
from elc_composer.training.composer_model import language_metrics
from tests.model.default_dtype import default_dtype, narrow

TIMES = 1000


@narrow
def test_a_thousand_pairs_are_counted(narrow: torch.dtype) -> None:
    """Two pairs a batch, of which one is decided right."""
    tokens = [np.array(ids, np.int32) for ids in ([1, 5, 2], [1, 6, 2], [1, 7, 2])]
    sentences = EncodedSentences(tokens, prefix=1, suffix=1, mask_token_id=4, pad_token_id=3)
    with default_dtype(narrow):
        batches = PairBatches(
            sentences, np.array([[0, 1], [0, 2]]), np.array([0, 1]), 2, ScoringConfig(temperature=0.7)
        )
        (batch,) = batches
        logits = torch.zeros(int((batch["labels"] != -100).sum()), 8, dtype=torch.float32)
        logits[:, 6], logits[:, 7] = -1.0, 1.0
        metric = MinimalPairAccuracy([0, 1])
        for _ in range(TIMES):
            metric.update(batch, logits)
    assert batch["temperature"] == torch.tensor(0.7, dtype=torch.float32)
    assert metric.count.sum() == 2 * TIMES
    assert metric.credit.sum() == TIMES
    assert metric.compute() == 0.5


@narrow
def test_dev_loss_adds_up(narrow: torch.dtype) -> None:
    logits, labels = torch.zeros(3, 8, dtype=torch.float32), torch.tensor([1, 2, 3])
    with default_dtype(narrow):
        metrics = language_metrics()
        for _ in range(TIMES):
            for metric in metrics.values():
                metric.update(logits, labels)
    assert abs(float(metrics["LanguageCrossEntropy"].compute()) - float(np.log(8))) < 1e-4
    assert abs(float(metrics["LanguagePerplexity"].compute()) - 8) < 1e-3
    metrics["LanguageCrossEntropy"].reset()
    assert metrics["LanguageCrossEntropy"].sum_loss.dtype == torch.float32
    assert torch.get_default_dtype() == torch.float32

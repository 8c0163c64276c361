"""Scores and decisions equal those of minicons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from elc_composer.evaluation.config import Method, MinimalPairsConfig, ScoringConfig
from elc_composer.evaluation.in_training.evaluators import draw_subset
from elc_composer.evaluation.minimal_pairs import MinimalPair, read_minimal_pairs
from elc_composer.evaluation.models import load_model_and_tokenizer
from elc_composer.evaluation.score_pairs import score_pairs
from elc_composer.export import export_model
from elc_composer.model import ElcConfig, ElcForMaskedLM
from tests.conftest import require

pytestmark = pytest.mark.agreement
scorer = pytest.importorskip("minicons.scorer", reason="needs the package minicons: dependency group `agreement`")

PER_PARADIGM = 30


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, golden_dir: Path) -> Path:
    """A small random model with peaked predictions and a published tokenizer, as a transformers folder."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    model = ElcForMaskedLM(ElcConfig(layer_mixing="zero", vocab_size=6144, max_position_embeddings=128, **sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    out = tmp_path_factory.mktemp("exported")
    return export_model(model, require(golden_dir / "tokenizer_small.json"), out)


@pytest.fixture(scope="module")
def pairs(data_dir: Path) -> list[MinimalPair]:
    every = read_minimal_pairs(require(data_dir / "blimp" / "filtered"))
    return draw_subset(every, MinimalPairsConfig(subset_per_paradigm=PER_PARADIGM))


@pytest.mark.parametrize("method", [Method.original, Method.within_word_l2r])
def test_minicons_gives_the_same_scores_and_decisions(
    exported: Path, pairs: list[MinimalPair], method: Method, record_property
) -> None:
    pairs = pairs if method is Method.original else pairs[::10]
    assert len(pairs) >= (2000 if method is Method.original else 200)
    model, tokenizer = load_model_and_tokenizer(exported, method=method)
    ours = score_pairs(model, tokenizer, pairs, ScoringConfig(method=method)).scores
    other = scorer.MaskedLMScorer(
        AutoModelForMaskedLM.from_pretrained(exported, trust_remote_code=True).eval(),
        device="cpu",
        tokenizer=AutoTokenizer.from_pretrained(exported),
    )
    texts = [text for pair in pairs for text in (pair.sentence_good, pair.sentence_bad)]
    theirs: list[float] = []
    for start in range(0, len(texts), 8):
        theirs += other.sequence_score(
            texts[start : start + 8], reduction=lambda values: values.sum().item(), PLL_metric=method.value
        )
    reference = np.array(theirs).reshape(-1, 2)
    largest = float((np.abs(ours - reference) / np.abs(reference)).max())
    record_property("largest relative difference", largest)
    assert largest <= 1e-4
    np.testing.assert_array_equal(ours[:, 0] > ours[:, 1], reference[:, 0] > reference[:, 1])

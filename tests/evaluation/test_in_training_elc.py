"""Evaluation of this project's model on minimal pairs during training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from composer import Trainer
from composer.loggers import InMemoryLogger

from elc_composer.evaluation.config import MinimalPairsConfig, ScoringConfig
from elc_composer.evaluation.in_training.evaluators import minimal_pair_evaluators
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.training.composer_model import ElcComposerModel
from tests.evaluation.tiny import tiny_tokenizer, write_pairs
from tests.evaluation.training_helpers import expected, logged


def test_own_model_is_evaluated_without_changes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = ElcForMaskedLM(ElcConfig(vocab_size=len(tiny_tokenizer()), max_position_embeddings=40, **sizes)).eval()
    folder = write_pairs(tmp_path / "pairs")
    config = MinimalPairsConfig(path=str(folder), label="tiny", scoring=ScoringConfig(tokens_per_batch=200))
    built = minimal_pair_evaluators([config], tiny_tokenizer())
    run = Trainer(
        model=ElcComposerModel(model, built.metrics),
        eval_dataloader=built.evaluators,
        loggers=[InMemoryLogger()],
        progress_bar=False,
        device="cpu",
    )
    run.eval()
    # Composer leaves the model in the mode of its wrapper.
    want = expected(model.eval(), folder)
    assert {name: logged(run, f"metrics/tiny/{name}")[0][1] for name in want} == pytest.approx(want)
    assert not logged(run, "metrics/tiny/LanguageCrossEntropy")

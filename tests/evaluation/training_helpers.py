"""A tiny BERT under a Composer trainer with minimal-pair evaluators, and the accuracies that it must log."""

from __future__ import annotations

from pathlib import Path

import torch
from composer import ComposerModel, Trainer
from composer.loggers import InMemoryLogger
from torch.utils.data import DataLoader
from transformers import BertForMaskedLM

from elc_composer.evaluation.in_training.composer_models import with_minimal_pairs
from elc_composer.evaluation.in_training.evaluators import MinimalPairEvaluators
from elc_composer.evaluation.minimal_pairs import read_minimal_pairs
from tests.evaluation.tiny import PHENOMENON, reference_score, tiny_bert, tiny_tokenizer


class PlainModel(ComposerModel):
    """A ComposerModel that knows nothing of minimal pairs."""

    def __init__(self, model: BertForMaskedLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch):
        return self.model(**batch)

    def loss(self, outputs, batch):
        return outputs.loss


def loader(batches: int = 6) -> DataLoader:
    ids = torch.randint(5, 20, (batches * 2, 6), generator=torch.Generator().manual_seed(0))
    return DataLoader([{"input_ids": row, "labels": row} for row in ids], batch_size=2)


def trainer(built: MinimalPairEvaluators, model: BertForMaskedLM | None = None, **changes) -> Trainer:
    taught = with_minimal_pairs(PlainModel(model or tiny_bert(len(tiny_tokenizer()))), built.metrics)
    settings = {"max_duration": "6ba", "loggers": [InMemoryLogger()], "progress_bar": False, "run_name": "run"}
    return Trainer(
        model=taught,
        optimizers=torch.optim.SGD(taught.parameters(), lr=0.5),
        train_dataloader=loader(),
        eval_dataloader=built.evaluators,
        device="cpu",
        **{**settings, **changes},
    )


def logged(run: Trainer, name: str) -> list[tuple[int, float]]:
    data = run.logger.destinations[0].data
    return [(time.batch.value, float(value)) for time, value in data.get(name, [])]


def expected(model: BertForMaskedLM, folder: Path) -> dict[str, float]:
    tokenizer = tiny_tokenizer()
    right: dict[str, list[bool]] = {}
    for pair in read_minimal_pairs(folder):
        good, bad = (reference_score(model, tokenizer, text) for text in (pair.sentence_good, pair.sentence_bad))
        right.setdefault(pair.paradigm, []).append(good > bad)
    paradigms = {name: sum(values) / len(values) for name, values in right.items()}
    pooled = right["reflexive"] + right["order"]
    phenomena = {"number": paradigms["agreement"], "binding_of_anaphors": sum(pooled) / len(pooled)}
    assert set(phenomena) == set(PHENOMENON.values())
    everything = [value for values in right.values() for value in values]
    return {
        **paradigms,
        **phenomena,
        "overall": sum(paradigms.values()) / 3,
        "phenomena": sum(phenomena.values()) / 2,
        "micro": sum(everything) / len(everything),
    }

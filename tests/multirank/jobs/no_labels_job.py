"""Trains four steps, two of them on batches without labels: `no_labels_job.py OUT MICROBATCH...`.

Rank 0 writes the results to OUT, one for each microbatch size."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from composer import Callback, DataSpec, Logger, State, Trainer
from composer.utils import dist
from torch.utils.data import DataLoader

from elc_composer.common.process_group import join_process_group
from elc_composer.data.loader import count_tokens
from elc_composer.data.masking import MaskingConfig
from elc_composer.data.positions import LabelPositions
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.optim import OptimizerConfig, build_optimizer
from elc_composer.training.composer_model import ElcComposerModel
from tests.recipe import Rows

BATCH, LENGTH, VOCAB = 4, 12, 30
LABELLED_ROWS = ([], [0, 2], [], [0, 1, 2, 3])
"""Rows of each global batch that have labels. Two ranks take alternate rows, so the second one has none in step 1."""


def batches() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for labelled in LABELLED_ROWS:
        ids = torch.randint(7, VOCAB, (BATCH, LENGTH), generator=generator)
        labels = torch.full_like(ids, -100)
        for row in labelled:
            labels[row, 1 : 3 + row] = ids[row, 1 : 3 + row]
        made.append({"input_ids": ids, "attention_mask": torch.ones_like(ids, dtype=torch.bool), "labels": labels})
    return made


class Gradients(Callback):
    """The gradient of every step, and its loss."""

    def __init__(self) -> None:
        self.gradients: list[torch.Tensor] = []
        self.losses: list[float] = []

    def after_train_batch(self, state: State, logger: Logger) -> None:
        self.gradients.append(torch.cat([p.grad.flatten() for p in state.model.parameters() if p.grad is not None]))

    def batch_end(self, state: State, logger: Logger) -> None:
        self.losses.append(float(state.total_loss_dict["loss/train/total"]))


def train(microbatch: int) -> dict[str, Any]:
    torch.manual_seed(0)
    config = ElcConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        position_bucket_size=4,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = ElcForMaskedLM(config).double()
    rows, seen = Rows(batches()), Gradients()
    loader = DataLoader(rows, BATCH // dist.get_world_size(), sampler=dist.get_sampler(rows, shuffle=False))
    trainer = Trainer(
        model=ElcComposerModel(model),
        train_dataloader=DataSpec(
            loader, split_batch=LabelPositions(MaskingConfig()), get_num_tokens_in_batch=count_tokens
        ),
        max_duration=f"{len(LABELLED_ROWS)}ba",
        optimizers=build_optimizer(model, OptimizerConfig()),
        callbacks=[seen],
        precision="fp32",
        accumulate_train_batch_on_tokens=True,
        device_train_microbatch_size=microbatch,
        progress_bar=False,
        device="cpu",
    )
    trainer.fit()
    weights = {name.removeprefix("module."): value for name, value in trainer.state.model.state_dict().items()}
    trainer.close()
    return {"losses": seen.losses, "gradients": torch.stack(seen.gradients), "weights": weights}


if __name__ == "__main__":
    join_process_group("cpu")
    results = {int(size): train(int(size)) for size in sys.argv[2:]}
    if dist.get_global_rank() == 0:
        torch.save(results, Path(sys.argv[1]))

"""A small ELC-BERT and random token ids, for trainings that take a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from composer import Callback, ComposerModel, Trainer
from composer.loggers import InMemoryLogger
from composer.utils import dist
from torch import Tensor
from torch.utils.data import DataLoader

from elc_composer.model import ElcConfig, ElcForMaskedLM

LAYERS, LENGTH, BATCH = 3, 12, 8


class ToyElc(ComposerModel):
    """The weighted-output variant, whose head mixes, too; no dropout, so that runs can be compared."""

    def __init__(self, layer_mixing: str = "weighted_output", gradient_factor: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.gradient_factor = gradient_factor
        self.model = ElcForMaskedLM(
            ElcConfig(
                layer_mixing=layer_mixing,
                vocab_size=50,
                hidden_size=16,
                intermediate_size=20,
                num_hidden_layers=LAYERS,
                num_attention_heads=2,
                max_position_embeddings=16,
                position_bucket_size=4,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        )
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if name.endswith("prev_layer_weights"):
                    parameter.add_(torch.randn_like(parameter))

    def read(self, batch: dict[str, Tensor]) -> Tensor:
        """`[B, T]` bool: the real tokens at which the head reads its mix."""
        return batch["attention_mask"]

    def forward(self, batch: dict[str, Tensor]) -> Any:
        return self.model(**batch)

    def loss(self, outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        return outputs.loss / self.gradient_factor


def batches(steps: int, microbatches: int = 1) -> DataLoader:
    """`steps` batches of 8 sequences, the same on one rank and on several; two of twelve positions are padding."""
    generator = torch.Generator().manual_seed(11)
    ids = torch.randint(7, 50, (steps * BATCH, LENGTH), generator=generator)
    mask = torch.ones(LENGTH, dtype=torch.bool)
    mask[-2:] = False
    labels = ids.masked_fill(~mask, -100)
    rows = [{"input_ids": i, "attention_mask": mask, "labels": target} for i, target in zip(ids, labels)]
    sampler = dist.get_sampler(rows, shuffle=False)  # type: ignore[arg-type]
    return DataLoader(rows, batch_size=BATCH // dist.get_world_size(), sampler=sampler)  # type: ignore[arg-type]


def trainer(
    model: ComposerModel, callbacks: Sequence[Callback], steps: int = 6, optimizer: Any = None, **changes: Any
) -> Trainer:
    """A trainer that logs to memory."""
    settings: dict[str, Any] = {
        "model": model,
        "train_dataloader": batches(steps),
        "optimizers": optimizer or torch.optim.SGD(model.parameters(), lr=0.5),
        "max_duration": f"{steps}ba",
        "callbacks": list(callbacks),
        "loggers": [InMemoryLogger()],
        "run_name": "toy",
        "precision": "fp32",
        "progress_bar": False,
        "dist_timeout": 60.0,
    }
    return Trainer(**{**settings, **changes})


def logged(run: Trainer, prefix: str) -> dict[str, dict[int, float]]:
    """Metrics whose name begins so, each as its values by step."""
    memory = next(destination for destination in run.logger.destinations if isinstance(destination, InMemoryLogger))
    return {
        name: {int(time.batch): float(value) for time, value in points}
        for name, points in memory.data.items()
        if name.startswith(prefix)
    }

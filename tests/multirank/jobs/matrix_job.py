"""Train every variant a few steps, whole on one rank, under every kind of parallelism on two: `matrix_job.py FOLDER`.

Writes FOLDER/<ranks>.json: {"<strategy> <option> <variant>": [loss of each step]}; the strategy is `whole` on one rank.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from composer import DataSpec, Trainer
from composer.algorithms import GradientClipping
from composer.utils import dist
from torch.utils.data import DataLoader

from elc_composer.common.process_group import join_process_group
from elc_composer.data.loader import count_tokens
from elc_composer.model import MIXING_RULES, ElcConfig, ElcForMaskedLM
from elc_composer.optim import OptimizerConfig, build_optimizer
from elc_composer.training.composer_model import ElcComposerModel, is_layer
from elc_composer.training.parallelism import ParallelismConfig, Strategy, checkpoint_layers, composer_parallelism
from tests.multirank.jobs.lamb_job import wrapping
from tests.multirank.jobs.lamb_model import gloo_sum_factor
from tests.recipe import Recorder, Rows

STEPS, BATCH, LENGTH, VOCABULARY = 3, 8, 12, 50
OPTIONS = {"plain": (False, 1), "recomputed": (True, 1), "accumulated": (False, 2), "both": (True, 2)}
"""Name: (activation checkpointing, microbatches of a device's batch)."""
THOROUGH = ("weighted_output",)
"""Variants that are run with every option."""


class Corrected(ElcComposerModel):
    """Undoes what FSDP2 over gloo multiplies gradients by on torch 2.7; its parameters take no hooks."""

    def __init__(self, model: ElcForMaskedLM, factor: float) -> None:
        super().__init__(model)
        self.factor = factor

    def loss(self, outputs: Any, batch: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return super().loss(outputs, batch) / self.factor


def tiny_model(variant: str, dropout: float = 0.0) -> ElcForMaskedLM:
    torch.manual_seed(3)
    config = ElcConfig(
        layer_mixing=variant,
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=20,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=16,
        position_bucket_size=4,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return ElcForMaskedLM(config)


def tiny_batches() -> list[dict[str, torch.Tensor]]:
    """Batches whose sequences differ in length and in their number of labels, so that no two devices weigh the same."""
    generator = torch.Generator().manual_seed(11)
    found = []
    for _ in range(STEPS):
        ids = torch.randint(7, VOCABULARY, (BATCH, LENGTH), generator=generator)
        lengths = torch.randint(4, LENGTH + 1, (BATCH, 1), generator=generator)
        mask = torch.arange(LENGTH)[None] < lengths
        chosen = mask & (torch.rand(BATCH, LENGTH, generator=generator) < 0.4)
        chosen[:, 1] = True
        found.append({"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(~chosen, -100)})
    return found


def losses(variant: str, strategy: Strategy, option: str) -> list[float]:
    checkpointing, microbatches = OPTIONS[option]
    model = tiny_model(variant)
    factor = gloo_sum_factor() if strategy is Strategy.fsdp2 else 1.0
    optimizer = build_optimizer(model, OptimizerConfig(lr=0.05))
    if checkpointing and strategy is Strategy.ddp:
        checkpoint_layers(model, is_layer)
    rows = Rows(tiny_batches())
    size = BATCH // dist.get_world_size()
    loader: Any = DataLoader(rows, size, sampler=dist.get_sampler(rows, shuffle=False))
    recorder = Recorder()
    trainer = Trainer(
        model=Corrected(model, factor),
        train_dataloader=DataSpec(loader, get_num_tokens_in_batch=count_tokens),
        max_duration=f"{STEPS}ba",
        optimizers=optimizer,
        algorithms=[GradientClipping(clipping_type="norm", clipping_threshold=2.0)],
        callbacks=[recorder],
        precision="fp32",
        accumulate_train_batch_on_tokens=True,
        device_train_microbatch_size=size // microbatches,
        parallelism_config=composer_parallelism(ParallelismConfig(strategy, checkpointing)),
        progress_bar=False,
    )
    trainer.fit()
    found = wrapping(trainer.state.model)
    assert found == (strategy.name if dist.get_world_size() > 1 else "none"), found
    if checkpointing:
        assert any("_checkpoint_wrapped_module" in name for name, _ in trainer.state.model.named_modules())
    trainer.close()
    return [loss * factor for loss in recorder.losses]


def main() -> None:
    torch.set_num_threads(1)
    join_process_group("cpu")
    ranks = dist.get_world_size()
    found = {}
    for variant in MIXING_RULES:
        for strategy in Strategy if ranks > 1 else [Strategy.ddp]:
            for option in OPTIONS if ranks > 1 and variant in THOROUGH else ["plain"]:
                name = strategy.name if ranks > 1 else "whole"
                found[f"{name} {option} {variant}"] = losses(variant, strategy, option)
    if dist.get_global_rank() == 0:
        Path(sys.argv[1], f"{ranks}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    # FSDP1 asks for the current CUDA device even on CPU.
    with mock.patch("torch.cuda.current_device", return_value=torch.device("cpu")):
        main()

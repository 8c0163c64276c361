"""The golden thirty-step run, through Composer's Trainer and this project's optimizer, schedule and stages."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composer import Algorithm, Callback, DataSpec, Event, Logger, State, Trainer
from composer.algorithms import GradientClipping
from composer.utils import dist
from torch.utils.data import DataLoader, Dataset

from elc_composer.data.loader import count_tokens
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.optim import OptimizerConfig, ScheduleConfig, build_optimizer, build_scheduler
from elc_composer.training.composer_model import ElcComposerModel
from elc_composer.training.stages import Stage, StageConfig, enter_stage, fit_stage, plan_stages

Batch = dict[str, torch.Tensor]


class Rows(Dataset[Batch]):
    """The sequences of equal batches, in order; a loader cuts them into device batches."""

    def __init__(self, batches: list[Batch]) -> None:
        self.columns = {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}

    def __len__(self) -> int:
        return len(self.columns["labels"])

    def __getitem__(self, index: int) -> Batch:
        return {key: column[index] for key, column in self.columns.items()}


class Recorder(Callback):
    """Loss and learning rate of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []

    def batch_end(self, state: State, logger: Logger) -> None:
        self.losses.append(float(state.total_loss_dict["loss/train/total"]))

    def batch_start(self, state: State, logger: Logger) -> None:
        self.rates.append(state.optimizers[0].param_groups[0]["lr"])


class GradientNorm(Algorithm):
    """The whole gradient's norm before it is clipped (DDP or one device)."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def match(self, event: Event, state: State) -> bool:
        return event == Event.AFTER_TRAIN_BATCH

    def apply(self, event: Event, state: State, logger: Logger) -> None:
        gradients = [p.grad for p in state.model.parameters() if p.grad is not None]
        self.norms.append(float(torch.nn.utils.get_total_norm(gradients)))


def golden_batches(arrays: Any) -> list[Batch]:
    """The run's batches, each a dict of the model's inputs."""
    count = len({key.split("/")[1] for key in arrays.files if key.startswith("batch/")})
    return [
        {
            "input_ids": torch.from_numpy(arrays[f"batch/{i}/input_ids"]).long(),
            "attention_mask": ~torch.from_numpy(arrays[f"batch/{i}/padding_mask"]),
            "labels": torch.from_numpy(arrays[f"batch/{i}/labels"]).long(),
        }
        for i in range(count)
    ]


def stages_of(batches: list[Batch]) -> list[Stage]:
    """Runs of batches of one shape, as stages."""
    shapes = [tuple(batch["labels"].shape) for batch in batches]
    borders = [0] + [i for i in range(1, len(shapes)) if shapes[i] != shapes[i - 1]] + [len(shapes)]
    configs = [
        StageConfig(shapes[first][1], (last - first) / len(shapes), shapes[first][0])
        for first, last in itertools.pairwise(borders)
    ]
    return plan_stages(configs, len(shapes))


def loader(batches: list[Batch], stage: Stage) -> DataSpec:
    """This rank's part of a stage's batches."""
    rows = Rows(batches[stage.first_step : stage.last_step])
    # Every n-th sequence, n ranks: any n device batches together are one global batch.
    sampler = dist.get_sampler(rows, shuffle=False)
    size = stage.global_train_batch_size // dist.get_world_size()
    return DataSpec(DataLoader(rows, size, sampler=sampler), get_num_tokens_in_batch=count_tokens)


def golden_model(arrays: Any, variant: str, dtype: torch.dtype, **overrides: Any) -> ElcForMaskedLM:
    """The run's initial model; its configuration is read off the file.

    No shape tells the number of heads: it is the one that gives the first step's loss. The position table is derived
    and need not be there; the longest sequence then stands for the longest position.
    """
    initial = {
        key.removeprefix(f"{variant}/init/"): torch.from_numpy(arrays[key])
        for key in arrays.files
        if key.startswith(f"{variant}/init/") and not key.endswith("position_indices")
    }
    initial.setdefault("classifier.nonlinearity.5.weight", initial["embedding.word_embedding.weight"])
    vocab_size, hidden_size = initial["embedding.word_embedding.weight"].shape
    batches = golden_batches(arrays)
    table = f"{variant}/init/transformer.layers.0.attention.position_indices"
    longest = max(batch["labels"].shape[1] for batch in batches)

    def with_heads(heads: int) -> ElcForMaskedLM:
        config = ElcConfig(
            layer_mixing=variant,
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            intermediate_size=initial["transformer.layers.0.mlp.mlp.4.weight"].shape[1],
            num_hidden_layers=sum(key.endswith("in_proj_v.bias") for key in initial),
            num_attention_heads=heads,
            max_position_embeddings=len(arrays[table]) if table in arrays.files else longest,
            position_bucket_size=(len(initial["embedding.relative_embedding"]) + 1) // 2,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            **overrides,
        )
        model = ElcForMaskedLM(config)
        model.load_state_dict(initial)
        return model.to(dtype)

    def first_error(model: ElcForMaskedLM) -> float:
        with torch.no_grad():
            return abs(float(model(**batches[0]).loss) - float(arrays[f"{variant}/loss"][0]))

    models = (with_heads(heads) for heads in range(1, hidden_size + 1) if hidden_size % heads == 0)
    return min(models, key=first_error)


def run_recipe(
    path: Path,
    variant: str,
    dtype: torch.dtype,
    microbatches: int = 1,
    gradient_factor: float = 1.0,
    **trainer_settings: Any,
) -> tuple[Trainer, Recorder, GradientNorm]:
    """Train the golden run; every device batch is cut into `microbatches` (as far as it has sequences).

    `gradient_factor`: what the backend multiplies gradients by (torch 2.7's FSDP2 over gloo); undone here.
    """
    with np.load(path) as arrays:
        batches = golden_batches(arrays)
        model = golden_model(arrays, variant, dtype)
        rates = arrays[f"{variant}/lr"]
    plan = stages_of(batches)
    steps = len(batches)
    recorder, norm = Recorder(), GradientNorm()
    optimizer = build_optimizer(model, OptimizerConfig(lr=float(rates.max())))
    warmup = ScheduleConfig(warmup_steps=int(rates.argmax()))
    for parameter in model.parameters():
        if gradient_factor != 1.0:
            parameter.register_hook(lambda gradient: gradient / gradient_factor)
    trainer = Trainer(
        model=ElcComposerModel(model),
        train_dataloader=loader(batches, plan[0]),
        max_duration=f"{steps}ba",
        optimizers=optimizer,
        schedulers=build_scheduler(warmup, optimizer, steps),
        step_schedulers_every_batch=True,
        # Composer runs what comes after a batch in reverse order.
        algorithms=[GradientClipping(clipping_type="norm", clipping_threshold=2.0), norm],
        callbacks=[recorder],
        precision="fp32",
        accumulate_train_batch_on_tokens=True,
        device_train_microbatch_size=_microbatch(plan[0], microbatches),
        progress_bar=False,
        device="cpu",
        **trainer_settings,
    )
    for stage in plan:
        if stage.index:
            enter_stage(trainer)
        smaller = Stage(**{**vars(stage), "device_train_microbatch_size": _microbatch(stage, microbatches)})
        fit_stage(trainer, smaller, loader(batches, stage) if stage.index else None)
    return trainer, recorder, norm


def _microbatch(stage: Stage, microbatches: int) -> int:
    return max(1, stage.global_train_batch_size // dist.get_world_size() // microbatches)

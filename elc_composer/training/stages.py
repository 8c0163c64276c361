"""The length curriculum: which sequence length and batch each optimizer step has, across resumptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from composer import DataSpec, Time, Trainer
from composer.utils import dist

from elc_composer.common.errors import ConfigError


@dataclass
class StageConfig:
    """A part of the run with one sequence length and one batch size."""

    seq_length: int
    """Tokens of a sequence, [CLS], [SEP] and padding included."""
    fraction: float
    """Share of the run's optimizer steps; the stages' fractions sum to 1."""
    global_train_batch_size: int
    """Sequences of one optimizer step, over all devices."""
    device_train_microbatch_size: int | str | None = None
    """Sequences that a device computes at once; gradients are accumulated over microbatches. `auto` tries sizes (GPU
    only), null takes all sequences of the device."""

    def __post_init__(self) -> None:
        size = self.device_train_microbatch_size
        if (isinstance(size, str) and size != "auto") or (isinstance(size, int) and size < 1):
            raise ConfigError(
                f"device_train_microbatch_size is {size}; it must be a whole number above 0, auto (GPU only) or null"
            )


@dataclass(frozen=True)
class Stage:
    """A stage with its place in the run: optimizer steps `first_step .. last_step - 1`."""

    index: int
    seq_length: int
    global_train_batch_size: int
    device_train_microbatch_size: int | str | None
    first_step: int
    last_step: int

    @property
    def steps(self) -> int:
        """Optimizer steps of the stage."""
        return self.last_step - self.first_step

    @property
    def tokens(self) -> int:
        """Token slots of the stage, padding included."""
        return self.steps * self.global_train_batch_size * self.seq_length


def plan_stages(stages: Sequence[StageConfig], max_steps: int) -> list[Stage]:
    """Give every stage its steps; borders are rounded to whole steps.

    Raises:
        ConfigError: for fractions that do not sum to 1, a batch or length below 1, or a stage left without a step.
    """
    total = sum(stage.fraction for stage in stages)
    if not stages or not abs(total - 1.0) <= 1e-6:
        raise ConfigError(f"stages: the fractions sum to {total:g}; let them sum to 1")
    plan, reached, first = [], 0.0, 0
    for index, stage in enumerate(stages):
        if stage.seq_length < 3 or stage.global_train_batch_size < 1:
            raise ConfigError(
                f"stages.{index}: seq_length {stage.seq_length} and global_train_batch_size "
                f"{stage.global_train_batch_size} must be at least 3 and 1"
            )
        reached += stage.fraction
        last = round(reached * max_steps)
        if last <= first:
            raise ConfigError(
                f"stages.{index}: a fraction of {stage.fraction:g} of {max_steps} steps leaves the stage without "
                "a step; raise the fraction or max_steps, or drop the stage"
            )
        plan.append(
            Stage(
                index, stage.seq_length, stage.global_train_batch_size, stage.device_train_microbatch_size, first, last
            )
        )
        first = last
    return plan


def stage_at(plan: Sequence[Stage], step: int) -> Stage:
    """The stage that optimizer step `step` (from 0) belongs to; the last one for a run that is complete."""
    return next((stage for stage in plan if step < stage.last_step), plan[-1])


def enter_stage(trainer: Trainer) -> None:
    """Let the next stage's loader start with its first batch.

    The border starts an epoch: otherwise Composer would skip as many of the new batches as the old epoch had. What a
    checkpoint said of the old loader is dropped.
    """
    if int(trainer.state.timestamp.batch_in_epoch) != 0:
        trainer.state.timestamp = trainer.state.timestamp.to_next_epoch()
    trainer.state.dataset_resumption.pop("train", None)


def fit_stage(trainer: Trainer, stage: Stage, data: DataSpec | None = None) -> None:
    """Train to the stage's last step, on `data` or on the loader that the trainer was built with."""
    remaining = stage.last_step - int(trainer.state.timestamp.batch)
    if remaining > 0:
        trainer.fit(
            train_dataloader=data,
            duration=Time(remaining, "ba"),
            device_train_microbatch_size=device_microbatch_size(stage),
        )


def device_microbatch_size(stage: Stage) -> int | str:
    """What the Trainer takes: `auto`, the stage's own number, or the whole of a device's batch."""
    whole = stage.global_train_batch_size // dist.get_world_size()
    size = stage.device_train_microbatch_size
    return min(size, whole) if isinstance(size, int) else size or whole

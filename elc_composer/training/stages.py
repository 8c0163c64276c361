"""The length curriculum: sequence length and batch size of each optimizer step, also across resumptions."""

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
    """Tokens per sequence, including [CLS], [SEP] and padding."""
    fraction: float
    """Share of the run's optimizer steps; the stages' fractions sum to 1."""
    global_train_batch_size: int
    """Sequences per optimizer step, summed over all devices."""
    device_train_microbatch_size: int | str | None = None
    """Sequences per forward pass of one device; gradients are accumulated. `auto`: the largest that fits (GPU only);
    null: all sequences of the device at once."""

    def __post_init__(self) -> None:
        size = self.device_train_microbatch_size
        if (isinstance(size, str) and size != "auto") or (isinstance(size, int) and size < 1):
            raise ConfigError(
                f"device_train_microbatch_size is {size}; it must be a whole number above 0, auto (GPU only) or null"
            )


@dataclass(frozen=True)
class Stage:
    """A stage with its optimizer steps `first_step .. last_step - 1`."""

    index: int
    seq_length: int
    global_train_batch_size: int
    device_train_microbatch_size: int | str | None
    first_step: int
    last_step: int

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return self.last_step - self.first_step

    @property
    def tokens(self) -> int:
        """Number of token slots, including padding."""
        return self.steps * self.global_train_batch_size * self.seq_length


def plan_stages(stages: Sequence[StageConfig], max_steps: int) -> list[Stage]:
    """Assign optimizer steps to the stages; boundaries are rounded to whole steps.

    Raises:
        ConfigError: fractions that do not sum to 1, a length below 3, a batch below 1, or a stage without a step.
    """
    total = sum(stage.fraction for stage in stages)
    if not stages or not abs(total - 1.0) <= 1e-6:
        raise ConfigError(f"stages: fractions sum to {total:g}, must sum to 1")
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
                "a step; raise the fraction or max_steps, or remove the stage"
            )
        plan.append(
            Stage(
                index, stage.seq_length, stage.global_train_batch_size, stage.device_train_microbatch_size, first, last
            )
        )
        first = last
    return plan


def stage_at(plan: Sequence[Stage], step: int) -> Stage:
    """The stage of optimizer step `step` (from 0); the last stage if the run is complete."""
    return next((stage for stage in plan if step < stage.last_step), plan[-1])


def enter_stage(trainer: Trainer) -> None:
    """Make the next stage start with the first batch of its loader.

    A stage starts a new epoch; otherwise Composer would skip as many batches of the new loader as the current epoch
    has done. The resumption state of the previous stage's loader is dropped.
    """
    if int(trainer.state.timestamp.batch_in_epoch) != 0:
        trainer.state.timestamp = trainer.state.timestamp.to_next_epoch()
    trainer.state.dataset_resumption.pop("train", None)


def fit_stage(trainer: Trainer, stage: Stage, data: DataSpec | None = None) -> None:
    """Train to the end of the stage, on `data`, or on the loader that the trainer was built with if None."""
    remaining = stage.last_step - int(trainer.state.timestamp.batch)
    if remaining > 0:
        trainer.fit(
            train_dataloader=data,
            duration=Time(remaining, "ba"),
            device_train_microbatch_size=device_microbatch_size(stage),
        )


def device_microbatch_size(stage: Stage) -> int | str:
    """The Trainer's `device_train_microbatch_size`: `auto`, or sequences, at most the device's whole batch."""
    whole = stage.global_train_batch_size // dist.get_world_size()
    size = stage.device_train_microbatch_size
    return min(size, whole) if isinstance(size, int) else size or whole

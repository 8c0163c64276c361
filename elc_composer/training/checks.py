"""Checks of settings that concern more than one section, the devices, or the run folder."""

from __future__ import annotations

import os
from pathlib import Path

from composer.utils import dist

from elc_composer.callbacks.loss_guard import OnBadLoss
from elc_composer.common.errors import ConfigError
from elc_composer.model import ElcConfig
from elc_composer.model.kernels import kernels_refusal
from elc_composer.training.config import RunConfig
from elc_composer.training.parallelism import Precision, Strategy, check_parallelism, device_kind
from elc_composer.training.stages import Stage

LARGEST_SEED = 2**31 - 1
"""Composer and Streaming add ranks and stages to the seed, and take no more than 32 bits."""


def check_devices(config: RunConfig) -> None:
    """Refuse what these devices cannot run.

    Raises:
        ConfigError: naming the key.
    """
    auto = any(stage.device_train_microbatch_size == "auto" for stage in config.stages)
    check_parallelism(config.parallelism, config.precision, device_kind(), dist.get_world_size(), auto)
    refusal = kernels_refusal(config.model.kernels, "cuda" if device_kind() == "gpu" else "cpu")
    if refusal is not None:
        raise ConfigError(f"model.{refusal}")


def check_run_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written, without making it.

    Raises:
        ConfigError: naming what is in the way.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(f"run_folder {folder} cannot be written: {there} is no folder; name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"run_folder {folder} cannot be written: no permission in {there}; name another")


def check_callbacks(config: RunConfig) -> None:
    """Refuse callbacks that cannot work with the parallelism, the checkpoints or the precision.

    Raises:
        ConfigError: naming the key.
    """
    guard, monitors = config.callbacks.loss_guard, config.callbacks
    if monitors.optimizer_monitor is not None and config.parallelism.strategy is not Strategy.ddp:
        raise ConfigError(
            "callbacks.optimizer_monitor sees a rank's own part only under FSDP; use weight_distribution_monitor, "
            "which logs gradient norms of whole layers"
        )
    if guard is None or guard.on_bad_loss is not OnBadLoss.roll_back:
        return
    if not config.checkpoints.autoresume or config.checkpoints.save_folder is None:
        raise ConfigError(
            "callbacks.loss_guard.on_bad_loss: roll_back goes back to the run's newest checkpoint, so it needs "
            "checkpoints.autoresume and checkpoints.save_folder; set these, or stop"
        )
    if config.precision is Precision.amp_fp16:
        raise ConfigError(
            "callbacks.loss_guard.on_bad_loss: roll_back does not go with amp_fp16, whose gradient scaler leaves bad "
            "steps out already; use stop, or amp_bf16"
        )


def check_numbers(config: RunConfig) -> None:
    """Refuse top-level numbers out of range.

    Raises:
        ConfigError: naming the key.
    """
    if not 0 <= config.seed <= LARGEST_SEED:
        raise ConfigError(f"seed is {config.seed}; it must lie between 0 and {LARGEST_SEED}")
    clip = config.gradient_clip_norm
    if clip is not None and not 0 < clip < float("inf"):
        raise ConfigError(f"gradient_clip_norm is {clip}; it must be a finite number above 0, or null to clip nothing")


def check_stage(stage: Stage, model: ElcConfig) -> None:
    """Refuse a stage that does not fit the model or the number of ranks.

    Raises:
        ConfigError: naming the key.
    """
    place = f"stages.{stage.index}"
    if stage.seq_length > model.max_position_embeddings:
        raise ConfigError(
            f"{place}.seq_length {stage.seq_length} exceeds model.max_position_embeddings "
            f"{model.max_position_embeddings}; lower the one or raise the other"
        )
    ranks = dist.get_world_size()
    if stage.global_train_batch_size % ranks:
        raise ConfigError(
            f"{place}.global_train_batch_size {stage.global_train_batch_size} is not a multiple of the {ranks} ranks"
        )

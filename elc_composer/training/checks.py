"""Checks of settings that concern more than one section, the devices, or the run folder."""

from __future__ import annotations

import os
from pathlib import Path

from composer.utils import dist

from elc_composer.callbacks.loss_guard import OnBadLoss
from elc_composer.common.addresses import refuse_addresses
from elc_composer.common.errors import ConfigError
from elc_composer.model import ElcConfig
from elc_composer.model.kernels import kernels_refusal
from elc_composer.training.config import RunConfig
from elc_composer.training.parallelism import Precision, Strategy, check_parallelism, device_kind
from elc_composer.training.stages import Stage

LARGEST_SEED = 2**31 - 1
"""Composer and Streaming add rank and stage to the seed, and accept at most 32 bits."""


def check_devices(config: RunConfig, ranks: int | None = None) -> None:
    """Refuse settings that these devices cannot run.

    Args:
        config: the run.
        ranks: their number, if not that of the running process group.

    Raises:
        ConfigError: naming the key.
    """
    auto = any(stage.device_train_microbatch_size == "auto" for stage in config.stages)
    check_parallelism(config.parallelism, config.precision, device_kind(), ranks or dist.get_world_size(), auto)
    refusal = kernels_refusal(config.model.kernels, "cuda" if device_kind() == "gpu" else "cpu")
    if refusal is not None:
        raise ConfigError(f"model.{refusal}")


def check_run_folder(folder: Path) -> None:
    """Refuse a run folder that cannot be created or written, without creating it.

    Raises:
        ConfigError: naming the file or folder that prevents it.
    """
    refuse_addresses({"run_folder": str(folder)})
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(f"run_folder {folder} cannot be written: {there} is not a folder; set another run_folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"run_folder {folder} cannot be written: no permission in {there}; set another run_folder")


def check_callbacks(config: RunConfig) -> None:
    """Refuse callbacks that cannot work with the parallelism, the checkpoints or the precision.

    Raises:
        ConfigError: naming the key.
    """
    guard, monitors = config.callbacks.loss_guard, config.callbacks
    for name in ("layer_weight_monitor", "weight_distribution_monitor", "mixed_input_monitor", "loss_guard"):
        refuse_addresses({f"callbacks.{name}.folder": getattr(getattr(monitors, name), "folder", None)})
    if monitors.optimizer_monitor is not None and config.parallelism.strategy is not Strategy.ddp:
        raise ConfigError(
            "callbacks.optimizer_monitor reports per-rank shards under FSDP, not global norms; use "
            "callbacks.weight_distribution_monitor, which logs gradient norms of whole layers"
        )
    if guard is None or guard.on_bad_loss is not OnBadLoss.roll_back:
        return
    if not config.checkpoints.autoresume or config.checkpoints.save_folder is None:
        raise ConfigError(
            "callbacks.loss_guard.on_bad_loss=roll_back resumes from the newest checkpoint, so it needs "
            "checkpoints.autoresume=true and checkpoints.save_folder; set these, or on_bad_loss=stop"
        )
    if config.precision is Precision.amp_fp16:
        raise ConfigError(
            "callbacks.loss_guard.on_bad_loss=roll_back is not supported with precision=amp_fp16, whose gradient "
            "scaler skips bad steps itself; set on_bad_loss=stop or precision=amp_bf16"
        )


def check_numbers(config: RunConfig) -> None:
    """Refuse top-level numbers out of range.

    Raises:
        ConfigError: naming the key.
    """
    if not 0 <= config.seed <= LARGEST_SEED:
        raise ConfigError(f"seed is {config.seed}; it must be between 0 and {LARGEST_SEED}")
    clip = config.gradient_clip_norm
    if clip is not None and not clip > 0:
        raise ConfigError(f"gradient_clip_norm is {clip}; it must be above 0, or null for no clipping")
    if not 0 <= config.label_smoothing < 1:
        raise ConfigError(f"label_smoothing is {config.label_smoothing}; it must be at least 0 and below 1")


def check_stage(stage: Stage, model: ElcConfig, ranks: int | None = None) -> None:
    """Refuse a stage that does not fit the model or the number of ranks.

    Args:
        stage: one of the run's.
        model: the model's config.
        ranks: their number, if not that of the running process group.

    Raises:
        ConfigError: naming the key.
    """
    place = f"stages.{stage.index}"
    if stage.seq_length > model.max_position_embeddings:
        raise ConfigError(
            f"{place}.seq_length {stage.seq_length} exceeds model.max_position_embeddings "
            f"{model.max_position_embeddings}; lower seq_length or raise max_position_embeddings"
        )
    ranks = ranks or dist.get_world_size()
    if stage.global_train_batch_size % ranks:
        raise ConfigError(
            f"{place}.global_train_batch_size {stage.global_train_batch_size} is not a multiple of the {ranks} ranks; "
            "change the batch size or the number of ranks"
        )

"""The `parallelism` section: conversion to Composer's `parallelism_config`, and checks for unsupported combinations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

import torch
from composer.utils import FSDP2Config
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointImpl,
    apply_activation_checkpointing,
    checkpoint_wrapper,
)

from elc_composer.common.errors import ConfigError


class Precision(Enum):
    """Arithmetic of forward and backward pass; parameters, optimizer state and reductions are float32."""

    fp32 = "fp32"
    amp_bf16 = "amp_bf16"
    amp_fp16 = "amp_fp16"


class Strategy(Enum):
    """Distribution of the parameters over the ranks: replicated, flat shards, or DTensor shards."""

    ddp = "ddp"
    fsdp1 = "fsdp1"
    fsdp2 = "fsdp2"


@dataclass
class ParallelismConfig:
    """Distribution over devices, and trade-offs between memory and speed."""

    strategy: Strategy = Strategy.ddp
    """`ddp`: parameters replicated on every rank; `fsdp1`: flat shards, needs GPUs; `fsdp2`: DTensor shards."""
    activation_checkpointing: bool = False
    """Store only the inputs of each layer and recompute the rest in the backward pass: less memory, 1/3 more time."""
    sharded_checkpoints: bool = False
    """FSDP only: every rank writes its own shard, in place of one file for all."""
    compile: bool | str = "auto"
    """Compile the layers in training with `torch.compile`; `auto`: true on a GPU with `ddp`, else false."""
    dist_timeout: float = 600.0
    """Seconds after which a collective operation that a rank does not join is an error."""

    def __post_init__(self) -> None:
        if not 0 < self.dist_timeout < float("inf"):
            raise ConfigError(f"parallelism.dist_timeout is {self.dist_timeout}; it must be a number above 0")
        if not isinstance(self.compile, bool) and self.compile != "auto":
            raise ConfigError(f"parallelism.compile is {self.compile}; it must be auto, true or false")


@dataclass(frozen=True)
class Setting:
    """The settings and devices that decide whether a run is supported."""

    config: ParallelismConfig
    precision: Precision
    device: str
    """`gpu` or `cpu`."""
    ranks: int
    auto_microbatch: bool = False


def _is(**wanted: Any) -> Callable[[Setting], bool]:
    def matches(setting: Setting) -> bool:
        values = {**vars(setting.config), **vars(setting)}
        return all(values[key] is value or values[key] == value for key, value in wanted.items())

    return matches


REFUSED: list[tuple[Callable[[Setting], bool], str]] = [
    (
        lambda setting: setting.device == "cpu" and setting.precision is not Precision.fp32,
        "precision={precision.name} needs a GPU and there is none; set precision=fp32",
    ),
    (
        _is(device="cpu", strategy=Strategy.fsdp1),
        "parallelism.strategy=fsdp1 needs GPUs and there are none; set it to ddp or fsdp2",
    ),
    (
        lambda setting: (setting.device, setting.config.strategy) == ("cpu", Strategy.fsdp2) and setting.ranks > 1,
        "parallelism.strategy=fsdp2 on {ranks} CPU ranks sums gradients in place of averaging them (torch 2.7 with "
        "gloo); set it to ddp",
    ),
    (
        _is(device="cpu", auto_microbatch=True),
        "stages: device_train_microbatch_size=auto needs a GPU; set a number, or null for the whole batch",
    ),
    (
        _is(strategy=Strategy.fsdp2, auto_microbatch=True),
        "stages: device_train_microbatch_size=auto is not supported with parallelism.strategy=fsdp2 (Composer cannot "
        "repeat its step after running out of memory); set a number",
    ),
    (
        lambda setting: (
            setting.auto_microbatch and setting.config.strategy is Strategy.fsdp1 and _torch_version() > (2, 7)
        ),
        "stages: device_train_microbatch_size=auto is not supported with parallelism.strategy=fsdp1 on torch newer "
        "than 2.7 (fails in Composer); set a number",
    ),
    (
        _is(strategy=Strategy.ddp, sharded_checkpoints=True),
        "parallelism.sharded_checkpoints=true needs strategy fsdp1 or fsdp2; set it to false for ddp",
    ),
    (
        _is(strategy=Strategy.fsdp2, precision=Precision.amp_fp16),
        "precision=amp_fp16 is not tested with parallelism.strategy=fsdp2; set precision=amp_bf16 or "
        "parallelism.strategy=fsdp1",
    ),
]
"""Unsupported combinations, each with its error message."""


def check_parallelism(
    config: ParallelismConfig, precision: Precision, device: str, ranks: int, auto_microbatch: bool = False
) -> None:
    """Refuse combinations that these devices, Composer or torch cannot run.

    Raises:
        ConfigError: with the key and the value to set.
    """
    setting = Setting(config, precision, device, ranks, auto_microbatch)
    for applies, sentence in REFUSED:
        if applies(setting):
            raise ConfigError(sentence.format(precision=precision, ranks=ranks))


def _torch_version() -> tuple[int, ...]:
    return tuple(int(part) for part in torch.__version__.split(".")[:2])


def checkpoint_layers(model: nn.Module, is_layer: Callable[[nn.Module], bool]) -> None:
    """Apply activation checkpointing to each layer, in place; recomputation uses the same dropout masks.

    Composer has this only for FSDP. Non-reentrant, because a layer takes a tuple of tensors and each needs gradients.
    """
    wrap = partial(checkpoint_wrapper, checkpoint_impl=CheckpointImpl.NO_REENTRANT)
    apply_activation_checkpointing(model, checkpoint_wrapper_fn=wrap, check_fn=is_layer)


def composer_parallelism(config: ParallelismConfig) -> dict[str, Any] | None:
    """The argument of `Trainer(parallelism_config=...)`; None for DDP."""
    if config.strategy is Strategy.ddp:
        return None
    state_dict_type = "sharded" if config.sharded_checkpoints else "full"
    if config.strategy is Strategy.fsdp2:
        fsdp2 = FSDP2Config(
            activation_checkpointing=config.activation_checkpointing,
            state_dict_type=state_dict_type,
            # FULL gathers float32 parameters and leaves casting to autocast, as under DDP.
            mixed_precision="FULL",
        )
        return {"fsdp": fsdp2}
    return {
        "fsdp": {
            "sharding_strategy": "FULL_SHARD",
            "activation_checkpointing": config.activation_checkpointing,
            "activation_checkpointing_reentrant": False,
            "state_dict_type": state_dict_type,
            "mixed_precision": "FULL",
            "use_orig_params": True,
        }
    }


def compiles(config: ParallelismConfig, device: str) -> bool:
    """Whether layers are compiled on `device`, `gpu` or `cpu`.

    `auto` leaves FSDP uncompiled, where compiled layers were not run on a GPU yet, and the CPU, where they are no
    faster.
    """
    if isinstance(config.compile, bool):
        return config.compile
    return device == "gpu" and config.strategy is Strategy.ddp


def device_kind() -> str:
    """`gpu` or `cpu`: the device that Composer trains on."""
    return "gpu" if torch.cuda.is_available() else "cpu"

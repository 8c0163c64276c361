"""How a model lies on its devices: from run config to Composer's `parallelism_config`, refusing what cannot work."""

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
    """Arithmetic of forward and backward; parameters, optimizer state and reductions stay float32."""

    fp32 = "fp32"
    amp_bf16 = "amp_bf16"
    amp_fp16 = "amp_fp16"


class Strategy(Enum):
    """How parameters lie on the ranks: whole, in flat shards, or in DTensor shards."""

    ddp = "ddp"
    fsdp1 = "fsdp1"
    fsdp2 = "fsdp2"


@dataclass
class ParallelismConfig:
    """How the model is spread over devices and what is traded for memory or speed."""

    strategy: Strategy = Strategy.ddp
    """`ddp`: whole on every rank; `fsdp1`: flat shards, needs GPUs; `fsdp2`: DTensor shards."""
    activation_checkpointing: bool = False
    """Keep only what each layer reads and compute the rest again in the backward: less memory, a third more time."""
    sharded_checkpoints: bool = False
    """FSDP only: every rank writes its own part instead of one file for all."""
    compile: bool = False
    """`torch.compile` the model; takes minutes on a CPU."""
    dist_timeout: float = 600.0
    """Seconds after which a collective that some rank never joins is an error."""

    def __post_init__(self) -> None:
        if not 0 < self.dist_timeout < float("inf"):
            raise ConfigError(f"parallelism.dist_timeout is {self.dist_timeout}; it must be a number above 0")


@dataclass(frozen=True)
class Setting:
    """What decides whether a run can work on these devices."""

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
        "precision: {precision.name} needs a GPU and none is here; set precision=fp32",
    ),
    (
        _is(device="cpu", strategy=Strategy.fsdp1),
        "parallelism.strategy: fsdp1 needs GPUs and none is here; set it to ddp or fsdp2",
    ),
    (
        lambda setting: (setting.device, setting.config.strategy) == ("cpu", Strategy.fsdp2) and setting.ranks > 1,
        "parallelism.strategy: fsdp2 over {ranks} CPU ranks adds gradients up, not averages them (torch 2.7 with "
        "gloo); set it to ddp",
    ),
    (
        _is(device="cpu", auto_microbatch=True),
        "device_train_microbatch_size: auto needs a GPU; give a number, or null for all",
    ),
    (
        _is(strategy=Strategy.fsdp2, auto_microbatch=True),
        "device_train_microbatch_size: auto does not go with strategy fsdp2, which Composer cannot run again after "
        "memory ran out; give a number",
    ),
    (
        lambda setting: (
            setting.auto_microbatch and setting.config.strategy is Strategy.fsdp1 and _torch_version() > (2, 7)
        ),
        "device_train_microbatch_size: auto breaks strategy fsdp1 in Composer on torch newer than 2.7; give a number",
    ),
    (
        _is(strategy=Strategy.ddp, sharded_checkpoints=True),
        "parallelism.sharded_checkpoints needs strategy fsdp1 or fsdp2; set it to false for ddp",
    ),
    (
        _is(strategy=Strategy.fsdp2, precision=Precision.amp_fp16),
        "precision: amp_fp16 was not tested with strategy fsdp2, for lack of a GPU; set precision=amp_bf16 or "
        "strategy=fsdp1",
    ),
]
"""Combinations that this project, Composer or torch cannot run, each with the sentence that a user gets."""


def check_parallelism(
    config: ParallelismConfig, precision: Precision, device: str, ranks: int, auto_microbatch: bool = False
) -> None:
    """Refuse combinations that this device or Composer cannot run.

    Raises:
        ConfigError: naming the key and what to set instead.
    """
    setting = Setting(config, precision, device, ranks, auto_microbatch)
    for applies, sentence in REFUSED:
        if applies(setting):
            raise ConfigError(sentence.format(precision=precision, ranks=ranks))


def _torch_version() -> tuple[int, ...]:
    return tuple(int(part) for part in torch.__version__.split(".")[:2])


def checkpoint_layers(model: nn.Module, is_layer: Callable[[nn.Module], bool]) -> None:
    """Let each layer keep its inputs only, and run again in the backward with the same dropout; in place.

    Composer has this for FSDP alone. Not reentrant: a layer that takes a tuple of tensors gets gradients into each.
    """
    wrap = partial(checkpoint_wrapper, checkpoint_impl=CheckpointImpl.NO_REENTRANT)
    apply_activation_checkpointing(model, checkpoint_wrapper_fn=wrap, check_fn=is_layer)


def composer_parallelism(config: ParallelismConfig) -> dict[str, Any] | None:
    """What `Trainer(parallelism_config=...)` takes; None for DDP."""
    if config.strategy is Strategy.ddp:
        return None
    state_dict_type = "sharded" if config.sharded_checkpoints else "full"
    if config.strategy is Strategy.fsdp2:
        fsdp2 = FSDP2Config(
            activation_checkpointing=config.activation_checkpointing,
            state_dict_type=state_dict_type,
            # FULL gathers float32 and leaves casting to autocast, as under DDP.
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


def device_kind() -> str:
    """`gpu` or `cpu`: what Composer will train on."""
    return "gpu" if torch.cuda.is_available() else "cpu"

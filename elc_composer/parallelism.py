"""How a model lies on its devices: from run config to Composer's `parallelism_config`, refusing what cannot work."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from composer.utils import FSDP2Config

from elc_composer.errors import ConfigError
from elc_composer.model.kernels import kernels_refusal


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
    """FSDP only: keep only what each layer reads and compute the rest again in the backward."""
    sharded_checkpoints: bool = False
    """FSDP only: every rank writes its own part instead of one file for all."""
    compile: bool = False
    """`torch.compile` the model; takes minutes on a CPU."""
    dist_timeout: float = 600.0
    """Seconds after which a collective that some rank never joins is an error."""


def check_parallelism(
    config: ParallelismConfig, precision: Precision, device: str, ranks: int, kernels: str = "auto"
) -> None:
    """Refuse combinations that this device or Composer cannot run.

    Raises:
        ConfigError: naming the key and what to set instead.
    """
    if (refusal := kernels_refusal(kernels, "cuda" if device == "gpu" else device)) is not None:
        raise ConfigError(f"model.{refusal}")
    if device == "cpu" and precision is not Precision.fp32:
        raise ConfigError(f"precision: {precision.name} needs a GPU and none is here; set precision=fp32")
    if device == "cpu" and config.strategy is Strategy.fsdp1:
        raise ConfigError("parallelism.strategy: fsdp1 needs GPUs and none is here; set it to ddp or fsdp2")
    if device == "cpu" and config.strategy is Strategy.fsdp2 and ranks > 1:
        raise ConfigError(
            f"parallelism.strategy: fsdp2 over {ranks} CPU ranks adds gradients up, not averages them (torch 2.7 "
            "with gloo); set it to ddp"
        )
    if config.strategy is Strategy.ddp and config.activation_checkpointing:
        raise ConfigError("parallelism.activation_checkpointing needs strategy fsdp1 or fsdp2; set it to false for ddp")
    if config.strategy is Strategy.ddp and config.sharded_checkpoints:
        raise ConfigError("parallelism.sharded_checkpoints needs strategy fsdp1 or fsdp2; set it to false for ddp")
    if config.strategy is Strategy.fsdp2 and precision is Precision.amp_fp16:
        raise ConfigError(
            "precision: amp_fp16's gradient scaler does not know fsdp2; set precision=amp_bf16 or strategy=fsdp1"
        )


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

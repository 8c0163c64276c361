"""Launched on several ranks: build models on the meta device, let Composer shard them, write the whole parameters."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest import mock

import torch
from composer import Trainer
from composer.utils import FSDP2Config, dist
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.training.composer_model import ElcComposerModel

TO_EMPTY = nn.Module.to_empty


def to_empty_on_cpu(self: nn.Module, *, device: object, recurse: bool = True) -> nn.Module:
    """Composer materializes meta tensors on 'cuda' whatever the device is."""
    return TO_EMPTY(self, device="cpu", recurse=recurse)


def gather(model: nn.Module) -> dict[str, Tensor]:
    """Whole parameters by their plain names; collective."""
    with FSDP.summon_full_params(model, writeback=False):
        named = {name: getattr(value, "full_tensor", value.clone)() for name, value in model.named_parameters()}
    return {name.replace("_fsdp_wrapped_module.", ""): value.detach() for name, value in named.items()}


def write(strategy: str, config: ElcConfig, folder: Path) -> None:
    with torch.device("meta"):
        model = ElcForMaskedLM(config)
    fsdp = FSDP2Config() if strategy == "fsdp2" else {"sharding_strategy": "FULL_SHARD", "use_orig_params": True}
    trainer = Trainer(model=ElcComposerModel(model), parallelism_config={"fsdp": fsdp}, device="cpu", seed=1)
    inner = trainer.state.model.model
    buckets = next(value for name, value in inner.named_buffers() if name.endswith("buckets"))
    target = folder / f"{config.layer_mixing}_rank{dist.get_global_rank()}.pt"
    torch.save({"parameters": gather(inner), "buckets": buckets}, target)
    trainer.close()


def main() -> None:
    strategy, shape, folder = sys.argv[1:]
    cpu = torch.device("cpu")
    with (
        mock.patch.object(nn.Module, "to_empty", to_empty_on_cpu),
        mock.patch("torch.cuda.current_device", return_value=cpu),
    ):
        for variant in ("base", "weighted_output"):
            write(strategy, ElcConfig(layer_mixing=variant, **json.loads(shape)), Path(folder))


if __name__ == "__main__":
    main()

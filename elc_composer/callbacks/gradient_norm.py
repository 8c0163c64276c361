"""Logs the norm of the whole gradient before clipping."""

from __future__ import annotations

import torch
from composer.core import Algorithm, Event, State
from composer.loggers import Logger
from composer.utils import dist
from torch.distributed.tensor import DTensor


class GradientNorm(Algorithm):
    """Logs `gradient/norm`, the L2 norm over all parameters, for one device, DDP, FSDP1 and FSDP2.

    Composer's OptimizerMonitor (0.32.1) logs the norm after clipping, and under FSDP that of the rank's shards only.
    List this algorithm after GradientClipping in `Trainer(algorithms=...)`: Composer runs the algorithms of
    AFTER_TRAIN_BATCH in reverse order, so it then measures before clipping.
    """

    def match(self, event: Event, state: State) -> bool:
        """Run once per batch, after the backward passes of all microbatches."""
        return event == Event.AFTER_TRAIN_BATCH

    def apply(self, event: Event, state: State, logger: Logger) -> None:
        """Compute and log the norm; one reduction if the gradient is sharded."""
        gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
        local = [gradient.to_local() if isinstance(gradient, DTensor) else gradient for gradient in gradients]
        norms = torch._foreach_norm([each for each in local if each.numel()]) if local else []
        squares = [norm.float() ** 2 for norm in norms] or [torch.zeros((), dtype=torch.float32)]
        total = torch.stack(squares).sum()
        if state.fsdp_enabled:
            total = state.device.tensor_to_device(total)
            dist.all_reduce(total)
        logger.log_metrics({"gradient/norm": total.sqrt().item()})

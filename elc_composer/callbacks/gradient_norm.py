"""The whole gradient's norm, before it is clipped."""

from __future__ import annotations

import torch
from composer.core import Algorithm, Event, State
from composer.loggers import Logger
from composer.utils import dist
from torch.distributed.tensor import DTensor


class GradientNorm(Algorithm):
    """Logs `gradient/norm`, the L2 norm over all parameters, for one device, DDP, FSDP1 and FSDP2.

    Composer's OptimizerMonitor sees the gradient after clipping, and only a rank's own part under FSDP. To come before
    GradientClipping, stand after it in `Trainer(algorithms=...)`: Composer runs what follows a batch in reverse order.
    """

    def match(self, event: Event, state: State) -> bool:
        """Once a batch, all microbatches added up."""
        return event == Event.AFTER_TRAIN_BATCH

    def apply(self, event: Event, state: State, logger: Logger) -> None:
        """Measure; one reduction where the gradient is spread over ranks."""
        gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
        local = [gradient.to_local() if isinstance(gradient, DTensor) else gradient for gradient in gradients]
        norms = torch._foreach_norm([each for each in local if each.numel()]) if local else []
        squares = [norm.float() ** 2 for norm in norms] or [torch.zeros((), dtype=torch.float32)]
        total = torch.stack(squares).sum()
        if state.fsdp_enabled:
            total = state.device.tensor_to_device(total)
            dist.all_reduce(total)
        logger.log_metrics({"gradient/norm": total.sqrt().item()})

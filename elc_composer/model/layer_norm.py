"""LayerNorm that keeps autocast's dtype: it reads and writes bfloat16 or float16, and computes in float32 inside."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYER_NORM_DTYPES = ("autocast", "float32")


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` over the last dimension; see `layer_norm` for `dtype`."""

    def __init__(self, size: int, eps: float, dtype: str, elementwise_affine: bool = True) -> None:
        super().__init__(size, eps, elementwise_affine)
        self.norm_dtype = dtype

    def forward(self, input: Tensor) -> Tensor:
        """As `layer_norm`."""
        return layer_norm(input, self.eps, self.norm_dtype, self.weight, self.bias)


def layer_norm(x: Tensor, eps: float, dtype: str, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """LayerNorm over the last dimension.

    Args:
        x: `[..., D]`.
        eps: added to the variance.
        dtype: dtype of the input and output under autocast. `autocast`: autocast's; means, variances and sums are
            float32 all the same. `float32`: as torch does it. Without autocast both are the same: that of `x`.
        weight: `[D]` factors, or None.
        bias: `[D]` summands, or None.

    Returns:
        `[..., D]`.
    """
    narrow = autocast_dtype(x)
    if dtype == "float32" or narrow is None:
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    # Autocast would convert to float32; torch's kernels compute in float32 whatever the input's dtype is.
    weight, bias = (None if affine is None else affine.to(narrow) for affine in (weight, bias))
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(x.to(narrow), x.shape[-1:], weight, bias, eps)


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """Autocast's dtype on a tensor's device; None without autocast."""
    device = x.device.type
    # The meta device has no autocast, not even one to ask about.
    return torch.get_autocast_dtype(device) if not x.is_meta and torch.is_autocast_enabled(device) else None

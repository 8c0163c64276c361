"""Which implementation computes: the plain reference, fused torch, or Triton."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from torch import Tensor

KERNELS = ("auto", "eager", "torch", "triton")
# The kernels take tuples of tensors, which Triton does from 3.3 on; that came with torch 2.7.
HAS_TRITON = find_spec("triton") is not None and tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 7)
# Triton reads it once, when a kernel is defined.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def resolve_kernels(kernels: str, tensor: Tensor) -> str:
    """`eager`, `torch` or `triton`: what a call on this tensor runs.

    `auto` is `triton` for CUDA tensors where triton can be imported, and `torch` elsewhere.
    """
    if kernels != "auto":
        return kernels
    return "triton" if tensor.is_cuda and HAS_TRITON else "torch"


def kernels_refusal(kernels: str, device: str) -> str | None:
    """Why these kernels cannot run on a device type (`cpu`, `cuda`, ...), with the way out; None where they can."""
    if kernels != "triton":
        return None
    if not HAS_TRITON:
        return "kernels: triton is not here in version 3.3 or newer; install torch 2.7 or newer, or set kernels to auto"
    if device != "cuda" and not INTERPRETED:
        return (
            "kernels: triton needs a CUDA device and none is here; set kernels to auto, or TRITON_INTERPRET=1 to test"
        )
    return None

"""Selects the kernel implementation: `eager`, `torch` or `triton`."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.autograd import forward_ad

KERNELS = ("auto", "eager", "torch", "triton")
# The kernels take tuples of tensors, which Triton does from 3.3 on; that came with torch 2.7.
HAS_TRITON = find_spec("triton") is not None and tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 7)
# Triton reads this variable once, when a kernel is defined.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def resolve_kernels(kernels: str, tensor: Tensor) -> str:
    """Implementation for a call on this tensor: `eager`, `torch` or `triton`.

    `auto` is `triton` for CUDA tensors if triton can be imported, else `torch`. Under the transforms of `torch.func`
    and in forward-mode differentiation it is always `eager`: the other forms have one derivative, in reverse mode.
    """
    if is_transformed():
        return "eager"
    if is_exporting():  # a graph for other devices and programs
        return "eager" if kernels == "eager" else "torch"
    if kernels != "auto":
        return kernels
    return "triton" if tensor.is_cuda and HAS_TRITON else "torch"


def is_transformed() -> bool:
    """Whether a transform of `torch.func` (grad, vmap, jvp, ...) or forward-mode differentiation is active.

    Torch has no public question for either; `torch.autograd.Function.apply` asks the first one in the same way.
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_exporting() -> bool:
    """Whether `torch.export` or `torch.onnx.export(dynamo=True)` is tracing, where lengths are symbols.

    `torch.compiler.is_exporting` does not tell: `torch.compile` replaces it by True (torch 2.7 and 2.11).
    """
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


def require_first_derivative(operation: str) -> None:
    """Raise in a backward pass that is recorded in order to be differentiated (`create_graph=True`).

    torch's `once_differentiable` raises too late: `torch.autograd.grad(..., inputs)` never reaches its error and
    returns second derivatives with terms missing (torch 2.7).

    Raises:
        RuntimeError: `create_graph=True`.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"{operation} has no second derivative: set kernels=eager in the model's config for create_graph=True"
        )


def kernels_refusal(kernels: str, device: str) -> str | None:
    """Error message if these kernels cannot run on a device type (`cpu`, `cuda`, ...); None if they can."""
    if kernels != "triton":
        return None
    if not HAS_TRITON:
        return "kernels=triton needs Triton >= 3.3 (torch >= 2.7); upgrade torch or set kernels=auto"
    if device != "cuda" and not INTERPRETED:
        return "kernels=triton needs a CUDA device; set kernels=auto, or TRITON_INTERPRET=1 to test on a CPU"
    return None

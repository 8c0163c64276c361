"""Layer mixing of ELC-BERT: the input of a layer is a learned, softmax-weighted sum of all earlier outputs.

`mix` is the plain form. Autograd then reads and writes the gradient of every earlier state once per layer that read
it. `linked_mix` keeps the gradient of each layer's mix instead, and computes a state's gradient once, after all of its
readers: with shares s and the gradient g_n of layer n's mix, that of state i is sum_{n >= i} s_{n,i} g_n.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .kernels import require_first_derivative, resolve_kernels

Links = tuple[Tensor, ...]
"""Placeholder tensors for later layers: first one per layer for the gradient of its mix, then one per layer for its
mixing weights. See `LinkedMix`."""


def layer_shares(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Softmax of a layer's weights `[n+1]`, computed in at least float32, in the states' dtype."""
    return torch.softmax(at_least_float32(weights), dim=0).to(dtype)


def mix(states: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Sum the earlier outputs with the softmax of the layer's weights.

    Args:
        states: n+1 tensors `[B, T, D]`: the embedding output, then each earlier layer's output.
        weights: `[n+1]`, before the softmax.

    Returns:
        `[B, T, D]` in the states' dtype; the softmax is computed in at least float32.

    Source: Georges Gabriel Charpentier & Samuel 2023, section 3.
    """
    shares = layer_shares(weights, states[0].dtype)
    mixed = shares[0] * states[0]
    for share, state in zip(shares[1:].unbind(), states[1:], strict=True):
        mixed = torch.addcmul(mixed, share, state)
    return mixed


def linked_mix(
    states: Sequence[Tensor], weights: Tensor, links: Links, readers: int, kernels: str
) -> tuple[Tensor, Links]:
    """Compute `mix` for readers (layers) that are called in order, each with the links that the previous one returned.

    Args:
        states: n+1 tensors `[B, T, D]`; if `links` are given, all but the last one are detached.
        weights: `[n+1]`, before the softmax.
        links: links that reader n-1 returned; empty for the first reader, or to use the plain form.
        readers: number of readers; reader n reads n+1 states.
        kernels: `eager`, `torch`, `triton` or `auto`.

    Returns:
        The mix `[B, T, D]`, and the links for the next reader. They are empty if the plain form was used; the next
        reader's states must then not be detached.
    """
    kernels = resolve_kernels(kernels, states[0])
    # torch.compile fuses the plain form by itself.
    if kernels == "eager" or torch.compiler.is_compiling():
        return mix(states, weights), ()
    started = len(states) == 1 or bool(links)
    if torch.is_grad_enabled() and not started:
        return mix(states, weights), ()
    widest = functools.reduce(torch.promote_types, (state.dtype for state in states))
    # In at least float32: rounded to bfloat16, shares no longer add up to 1.
    shares = layer_shares(weights, torch.promote_types(widest, torch.float32))
    if not torch.is_grad_enabled():
        return mixture(states, shares, kernels, widest), ()
    mixed, *later = LinkedMix.apply(shares, readers, kernels, widest, *states, *links)
    return mixed, tuple(later)


def mixture(states: Sequence[Tensor], shares: Tensor, kernels: str, dtype: torch.dtype) -> Tensor:
    """The mix in `dtype`. The softmax of a single weight is 1: then it is the state itself."""
    if len(states) == 1 and states[0].dtype == dtype:
        return states[0].view_as(states[0])
    return weighted_sum(states, shares, kernels, dtype)


class LinkedMix(torch.autograd.Function):
    """One reader of a chain along which the gradients of mixes travel backward.

    Besides its mix, reader n returns two placeholders per later reader m, for the gradient g_m of its mix and for its
    shares s_m: tensors of the right shape without memory, which the next reader takes as inputs. In the backward pass
    a reader receives g_m and s_m of all later readers as the gradients of these placeholders, adds its own, computes
    the gradient of its newest state from all of them, and passes them on to the previous reader. No state is kept
    outside the autograd graph, so that autograd's order holds under recomputation and sharding, and in partial and
    repeated backward passes.
    """

    @staticmethod
    def forward(
        ctx: Any, shares: Tensor, readers: int, kernels: str, dtype: torch.dtype, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        """Shares `[n+1]`, n+1 states, links -> the mix in `dtype`, and links without this reader's placeholders."""
        count = len(shares)
        states = rest[:count]
        ctx.save_for_backward(shares, *states)
        ctx.set_materialize_grads(False)
        ctx.links = len(rest) - count
        ctx.kernels = kernels
        later = range(count, readers)
        # A gradient is converted to the dtype of its placeholder.
        gradient, share = shares.new_empty((), dtype=dtype), shares.new_empty(())
        gradients = [gradient.expand(states[0].shape) for _ in later]
        placeholders = *gradients, *(share.expand(reader + 1) for reader in later)
        return mixture(states, shares, kernels, dtype), *placeholders

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, *later: Tensor | None) -> tuple[Any, ...]:
        """Gradients of the shares and the newest state; gradients and shares of this and later mixes for the links."""
        require_first_derivative("layer mixing")
        shares, *states = ctx.saved_tensors
        newest = len(states) - 1
        middle = len(later) // 2
        gradients = [gradient, *later[:middle]]
        all_shares = [shares, *later[middle:]]
        for_shares = for_newest = None
        if ctx.needs_input_grad[0] and gradient is not None:
            # The only share of the first reader is constant.
            for_shares = inner_products(states, gradient, ctx.kernels) if newest else torch.zeros_like(shares)
        known = [(g, s) for g, s in zip(gradients, all_shares) if g is not None and s is not None]
        if ctx.needs_input_grad[4 + newest] and known:
            column = torch.stack([s[newest] for _, s in known])
            for_newest = weighted_sum([g for g, _ in known], column, ctx.kernels, states[newest].dtype)
        handed_on = [*gradients, *all_shares] if ctx.links else []
        return for_shares, None, None, None, *[None] * newest, for_newest, *handed_on


def weighted_sum(tensors: Sequence[Tensor], shares: Tensor, kernels: str, dtype: torch.dtype) -> Tensor:
    """Sum of n tensors of one shape, each times its entry of `shares` `[n]`, computed in their dtype, in `dtype`."""
    if kernels == "triton":
        from .triton_mixing import weighted_sum as fused_sum

        return fused_sum(tensors, shares, dtype)
    total = shares[0] * tensors[0].to(shares.dtype)
    for share, tensor in zip(shares[1:].unbind(), tensors[1:]):
        total.addcmul_(share, tensor)
    return total.to(dtype)


def inner_products(tensors: Sequence[Tensor], other: Tensor, kernels: str) -> Tensor:
    """`[n]`: the inner product of each of n tensors with one other of the same shape, in at least float32."""
    if kernels == "triton":
        from .triton_mixing import inner_products as fused_products

        return fused_products(tensors, other)
    flat = at_least_float32(other).reshape(-1)
    return torch.stack([torch.dot(tensor.to(flat.dtype).reshape(-1), flat) for tensor in tensors])


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert bfloat16 and float16 to float32, so that long sums keep their digits; other dtypes are unchanged."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor

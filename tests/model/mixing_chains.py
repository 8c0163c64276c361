"""A chain of mixing readers with random inputs, in the linked or the plain form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from elc_composer.model.layer_mixing import linked_mix, mix

READERS = 5
SHAPE = (2, 3, 7)


def chain(
    inputs: list[Tensor], linked: bool, recompute: bool = False, kernels: str = "torch"
) -> tuple[list[Tensor], list[Tensor]]:
    """A little network of readers, each followed by a nonlinear layer; returns its states and mixes.

    `inputs`: the first state, then the readers' weights.
    """
    states, mixes = [inputs[0]], []
    links: tuple[Tensor, ...] = ()
    for weights in inputs[1:]:

        def layer(states, links, weights=weights):
            if linked:
                mixed, links = linked_mix(states, weights, links, READERS, kernels)
            else:
                mixed = mix(states, weights)
            return torch.sin(2 * mixed) + mixed, mixed, links

        readable = [*(s.detach() if links else s for s in states[:-1]), states[-1]]
        output, mixed, links = (
            checkpoint(layer, readable, links, use_reentrant=False) if recompute else layer(readable, links)
        )
        states.append(output)
        mixes.append(mixed)
    return states, mixes


def random_inputs(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    weights = [torch.randn(n + 1, generator=generator, dtype=torch.float64) for n in range(READERS)]
    weights[3][1] = -torch.inf  # a pruned source
    return [tensor.to(dtype).requires_grad_() for tensor in (first, *weights)]


def largest(actual: list[Tensor], expected: list[Tensor]) -> float:
    """Largest error, relative to each expected tensor's largest magnitude."""
    assert len(actual) == len(expected)
    return max(float((a - e).abs().max() / e.abs().max().clamp(min=1e-9)) for a, e in zip(actual, expected))

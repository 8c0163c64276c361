"""Attention by torch's operators against the plain form, and which path is taken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from elc_composer.model import ElcConfig
from elc_composer.model.attention import RelativePositions, bias_by_bucket, by_distance
from elc_composer.model.attention_mask import apply_mask
from elc_composer.model.cpu_attention import CpuAttention
from elc_composer.model.dropout import LEVELS, draw_kept
from tests.model.small_models import attention


def results(kernels: str, length: int, padded: bool) -> list[Tensor]:
    """Output at real positions and all gradients."""
    module = attention(kernels)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, length, 48, dtype=torch.float64, generator=generator).requires_grad_()
    relative = torch.randn(15, 48, dtype=torch.float64, generator=generator).requires_grad_()
    real = torch.arange(length) < torch.tensor([[length], [max(1, length // 2)], [1]])
    buckets = RelativePositions(ElcConfig(position_bucket_size=8))(length)
    padding = ~real[:, None, None, :] if padded else None
    out = module(x, padding, relative, buckets)
    out = out[real] if padded else out
    with torch.no_grad():
        inference = module(x, padding, relative, buckets)
    wanted = torch.randn(out.shape, dtype=torch.float64, generator=generator)
    gradients = torch.autograd.grad((out * wanted).sum(), [x, relative, *module.parameters()])
    return [out, inference[real] if padded else inference, *gradients]


# 8 tokens have as many distances as there are buckets; beyond, the table is looked up.
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 40])
@pytest.mark.parametrize("padded", [False, True])
def test_fused_agrees_with_plain(length: int, padded: bool) -> None:
    for plain, fast in zip(results("eager", length, padded), results("torch", length, padded), strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9999])
def test_what_is_dropped_on_the_cpu_is_dropped_in_the_backward_pass(share: float, padded: bool) -> None:
    batch, length, heads, size, scale = 2, 11, 3, 5, 0.2
    generator = torch.Generator().manual_seed(3)
    shapes = [(batch, length, 2, heads, size), (batch, length, heads, size), (15, 2, heads, size)]
    leaves = [torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_() for s in shapes]
    buckets = RelativePositions(ElcConfig(position_bucket_size=8))(length)
    padding = (torch.arange(length) >= torch.tensor([[length], [4]]))[:, None, None, :] if padded else None
    wanted = torch.randn(shapes[1], dtype=torch.float64, generator=generator)

    def written_out() -> Tensor:
        query, key = leaves[0].transpose(1, 3).unbind(2)
        query_position, key_position = (leaves[2] * scale).transpose(0, 2).unbind(1)
        bias = apply_mask(bias_by_bucket(query, key, query_position, key_position, buckets), padding)
        probabilities = torch.softmax(query @ key.transpose(-1, -2) * scale + bias, dim=-1)
        levels = round(share * LEVELS)
        kept = draw_kept((heads, batch, length, length), levels).transpose(0, 1)
        dropped = probabilities * kept * LEVELS / (LEVELS - levels)
        return (dropped @ leaves[1].transpose(1, 2)).transpose(1, 2)

    found = []
    for attend in (written_out, lambda: CpuAttention.apply(*leaves, buckets, padding, scale, share)):
        torch.manual_seed(7)
        out = attend()
        found.append([out, *torch.autograd.grad(out, leaves, wanted)])
    for expected, actual in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("length", [1, 2, 40])
def test_buckets_by_distance(length: int) -> None:
    buckets = RelativePositions(ElcConfig())(length)
    vector = by_distance(buckets)
    assert vector.shape == (2 * length - 1,)
    for query in range(length):
        for key in range(length):
            assert vector[query - key + length - 1] == buckets[query, key]


@pytest.mark.parametrize("kernels", ["eager", "torch"])
@pytest.mark.parametrize("length", [5, 40])
def test_dropout_is_of_probabilities_and_in_training_only(kernels: str, length: int) -> None:
    module = attention(kernels)
    x, relative = torch.randn(2, length, 48).double(), torch.randn(15, 48).double()
    buckets = RelativePositions(ElcConfig(position_bucket_size=8))(length)
    assert torch.equal(module(x, None, relative, buckets), module(x, None, relative, buckets))
    module.train()
    module.dropout.p = 0.0
    assert not torch.equal(module(x, None, relative, buckets), module(x, None, relative, buckets))

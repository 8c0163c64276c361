"""Attention by torch's operators against the plain form, and which path is taken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from elc_composer.model import ElcConfig
from elc_composer.model.attention import Attention, RelativePositions, by_distance


def attention(kernels: str) -> Attention:
    torch.manual_seed(0)
    config = ElcConfig(hidden_size=48, num_attention_heads=4, kernels=kernels, position_bucket_size=8)
    return Attention(config).double().eval()


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

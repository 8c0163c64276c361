"""LayerNorms that keep autocast's dtype."""

from __future__ import annotations

import pytest
import torch

from elc_composer.model import MIXING_RULES, ElcConfig, ElcForMaskedLM
from elc_composer.model.layer_norm import LayerNorm


@pytest.mark.parametrize("affine", [False, True])
def test_writes_autocasts_dtype_and_gives_float32_gradients(affine: bool) -> None:
    torch.manual_seed(0)
    x = (5 * torch.randn(3, 64) + 2).requires_grad_()
    for dtype, wanted in (("autocast", torch.bfloat16), ("float32", torch.float32)):
        norm = LayerNorm(64, 1e-7, dtype, affine)
        plain = torch.nn.LayerNorm(64, 1e-7, elementwise_affine=affine)
        assert torch.equal(norm(x), plain(x))
        with torch.autocast("cpu", torch.bfloat16):
            found = norm(x)
        assert found.dtype is wanted
        assert torch.allclose(found.float(), plain(x), atol=0.02)
        for one, other in zip(
            torch.autograd.grad(found.float().square().sum() + found[:, 0].sum(), [x, *norm.parameters()]),
            torch.autograd.grad(plain(x).square().sum() + plain(x)[:, 0].sum(), [x, *plain.parameters()]),
            strict=True,
        ):
            assert one.dtype is torch.float32
            assert (one - other).norm() <= 0.03 * other.norm() + 0.02


@pytest.mark.parametrize("dtype", ["autocast", "float32"])
@pytest.mark.parametrize("variant", list(MIXING_RULES))
def test_loss_and_gradients_under_autocast_are_near_those_in_float32(variant: str, dtype: str) -> None:
    torch.manual_seed(0)
    config = ElcConfig(
        layer_mixing=variant,
        layer_norm_dtype=dtype,
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=32,
        position_bucket_size=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = ElcForMaskedLM(config)
    ids = torch.randint(7, 50, (4, 32))
    found = []
    for autocast in (True, False):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = model(ids, None, ids, output_hidden_states=True)
        output.loss.backward()
        assert output.loss.dtype is torch.float32
        if autocast and dtype == "autocast":
            assert {state.dtype for state in output.hidden_states} == {torch.bfloat16}
        found.append((output.loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])))
    (loss, gradient), (exact_loss, exact_gradient) = found
    assert loss == pytest.approx(float(exact_loss), rel=5e-3)
    assert (gradient - exact_gradient).norm() <= 0.03 * exact_gradient.norm()

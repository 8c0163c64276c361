"""Torch's default dtype sets the dtype of new parameters and nothing else of a model."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from elc_composer.model import MIXING_RULES, ElcConfig, ElcForMaskedLM
from elc_composer.model.attention import RelativePositions, relative_position_buckets
from tests.model.default_dtype import default_dtype, narrow

SHAPE = {
    "vocab_size": 60,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
}


@narrow
@pytest.mark.parametrize(("bucket_size", "longest"), [(32, 512), (32, 128), (8, 64), (64, 4096), (2, 2)])
def test_buckets(narrow: torch.dtype, bucket_size: int, longest: int) -> None:
    expected = relative_position_buckets(bucket_size, longest)
    with default_dtype(narrow):
        found = relative_position_buckets(bucket_size, longest)
    assert found.dtype == torch.int64
    assert torch.equal(found, expected)


@narrow
def test_buckets_of_models_made_from_a_config(narrow: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = relative_position_buckets(32, 512)
    AutoConfig.register("elc", ElcConfig, exist_ok=True)
    AutoModelForMaskedLM.register(ElcConfig, ElcForMaskedLM, exist_ok=True)
    model = AutoModelForMaskedLM.from_config(ElcConfig(**SHAPE), dtype=narrow)
    assert model.dtype == narrow
    assert torch.equal(model.transformer.relative_positions.buckets, expected)


@narrow
def test_buckets_by_way_of_the_meta_device(narrow: torch.dtype) -> None:
    expected = relative_position_buckets(32, 512)
    with default_dtype(narrow):
        with torch.device("meta"):
            table = RelativePositions(ElcConfig(**SHAPE))
        table.to_empty(device="cpu")
        table.reset_parameters()
    assert torch.equal(table.buckets, expected)


@narrow
@pytest.mark.parametrize("kernels", ["eager", "torch"])
@pytest.mark.parametrize("variant", MIXING_RULES)
def test_loss_and_gradients(variant: str, kernels: str, narrow: torch.dtype) -> None:
    """Float32 weights give the same bits, with dropout, whatever the default dtype was during every call."""
    config = ElcConfig(layer_mixing=variant, kernels=kernels, max_position_embeddings=64, **SHAPE)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(7, 60, (3, 50), generator=generator)
    mask = torch.arange(50) < torch.tensor([[50], [31], [2]])
    torch.manual_seed(0)
    weights = ElcForMaskedLM(config).state_dict()
    results = []
    for default in (torch.float32, narrow):
        with default_dtype(default):
            model = ElcForMaskedLM(config).float()
            model.load_state_dict(weights)
            torch.manual_seed(2)
            loss = model.train()(ids, mask, torch.where(mask, ids, -100)).loss
            results.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    for wide, other in zip(*results, strict=True):
        assert torch.equal(wide, other)


@narrow
def test_initial_values_are_those_of_the_dtype_drawn(narrow: torch.dtype) -> None:
    with default_dtype(narrow):
        model = ElcForMaskedLM(ElcConfig(layer_mixing="base", **SHAPE))
    for layer, module in enumerate(model.transformer.layers):
        assert module.prev_layer_weights.dtype == narrow
        assert module.prev_layer_weights.tolist() == [0.0] * layer + [1.0]

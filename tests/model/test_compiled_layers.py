"""`compile_layers`: graphs of training at two lengths and an evaluation, and the same gradients as uncompiled."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from elc_composer.model import MIXING_RULES, ElcConfig, ElcForMaskedLM
from elc_composer.model import compiled_layers as module
from elc_composer.training.composer_model import is_layer
from elc_composer.training.parallelism import checkpoint_layers


def small(variant: str) -> ElcForMaskedLM:
    torch._dynamo.reset()
    torch.manual_seed(0)
    config = ElcConfig(
        layer_mixing=variant,
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=64,
        position_bucket_size=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return ElcForMaskedLM(config).train()


def step(model: ElcForMaskedLM, rows: int, length: int, training: bool = True, autocast: bool = False) -> list:
    ids = torch.randint(7, 50, (rows, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[0, length // 2 :] = False
    model.train(training).zero_grad()
    with torch.set_grad_enabled(training), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(ids, mask, ids, masked_positions=torch.arange(0, rows * length, 5)).loss
    if training:
        loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("variant", list(MIXING_RULES))
def test_two_graphs_for_each_training_shape_and_none_for_evaluation(variant: str) -> None:
    model, counter, counts = small(variant), CompileCounterWithBackend("aot_eager"), []
    plain = copy.deepcopy(model)
    names = list(model.state_dict())
    compiled = model.compile_layers(counter)
    for rows, length, training in ((4, 32, True), (2, 64, True), (4, 32, False), (3, 24, False), (4, 32, True)):
        for one, other in zip(step(model, rows, length, training), step(plain, rows, length, training), strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * max(1.0, float(other.abs().max())))
        counts.append(counter.frame_count)
    # All layers but the last one share a graph; the last one ends at `masked_positions`.
    assert counts == [2, 4, 4, 4, 4]
    assert list(model.state_dict()) == names
    assert compiled.seconds > 0


@pytest.mark.parametrize("variant", ["base", "zero", "ltg"])
def test_recomputed_layers_are_compiled_too(variant: str) -> None:
    """Gradient checkpointing with compiled layers: gradients of the plain model."""
    model, counter = small(variant), CompileCounterWithBackend("aot_eager")
    plain = copy.deepcopy(model)
    model.gradient_checkpointing_enable()
    model.compile_layers(counter)
    for one, other in zip(step(model, 4, 32), step(plain, 4, 32), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * max(1.0, float(other.abs().max())))
    assert counter.frame_count >= 2


def test_autocast_is_compiled_too() -> None:
    model, counter = small("normalized"), CompileCounterWithBackend("aot_eager")
    plain = copy.deepcopy(model)
    model.compile_layers(counter)
    found, wanted = step(model, 4, 32, autocast=True), step(plain, 4, 32, autocast=True)
    assert counter.frame_count == 2
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() <= 0.03 * other.norm() + 1e-6


def test_further_shapes_run_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SHAPES", 2)
    model, counter = small("base"), CompileCounterWithBackend("aot_eager")
    model.compile_layers(counter)
    step(model, 4, 32)
    with pytest.warns(UserWarning, match="further ones run uncompiled"):
        step(model, 3, 32)
    assert counter.frame_count == 2


def test_recomputed_layers_are_compiled() -> None:
    model, counter = small("zero"), CompileCounterWithBackend("aot_eager")
    plain = copy.deepcopy(model)
    checkpoint_layers(model, is_layer)
    model.compile_layers(counter)
    for one, other in zip(step(model, 4, 32), step(plain, 4, 32), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * max(1.0, float(other.abs().max())))
    assert counter.frame_count == 2


def test_copies_are_not_compiled() -> None:
    model = small("base")
    model.compile_layers("eager")
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(layer.compiled is None for layer in copied.transformer.layers)

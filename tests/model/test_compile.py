"""`torch.compile` takes the whole training step without a break, and once for each shape."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from elc_composer.data.masking import MaskingConfig
from elc_composer.data.positions import LabelPositions
from elc_composer.model import MIXING_RULES, ElcConfig, ElcForMaskedLM
from elc_composer.training.composer_model import ElcComposerModel

STAGES = {32: 6, 64: 3}
"""Length of each stage's sequences -> sequences of its microbatches."""
VARIANTS = ["weighted_output", *(pytest.param(v, marks=pytest.mark.slow) for v in MIXING_RULES if v[0] != "w")]


def batch(length: int, seed: int) -> dict:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(7, 50, (STAGES[length], length), generator=generator)
    labels = torch.where(torch.rand(ids.shape, generator=generator) < 0.15, ids, -100)
    lengths = torch.randint(3, length + 1, (len(ids), 1), generator=generator)
    found = {"input_ids": ids, "attention_mask": torch.arange(length) < lengths, "labels": labels}
    counts = {"token_counts": lengths.flatten().tolist(), "label_counts": (labels != -100).sum(1).tolist()}
    return LabelPositions(MaskingConfig()).locate({**found, **counts})


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_graph_for_each_length_and_no_other(variant: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    config = ElcConfig(
        layer_mixing=variant,
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        position_bucket_size=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = ElcComposerModel(ElcForMaskedLM(config))
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=counter, fullgraph=True, dynamic=False)
    for length in STAGES:
        for seed in range(2):
            given = batch(length, seed)
            gradients = []
            for forward in (compiled, model):
                model.zero_grad()
                loss = forward(given).loss
                loss.backward()
                gradients.append([loss.detach(), *(p.grad for p in model.parameters())])
            for one, other in zip(*gradients):
                assert torch.allclose(one, other, rtol=1e-4, atol=1e-6 * max(1.0, float(other.abs().max())))
    assert counter.frame_count == len(STAGES)
    torch._dynamo.reset()

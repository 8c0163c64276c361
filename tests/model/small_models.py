"""A small ELC-BERT whose mixing weights differ from their initialization, a batch for it, and an attention layer."""

from __future__ import annotations

import torch
from torch import Tensor

from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.model.attention import Attention

SHAPE = {
    "vocab_size": 60,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "max_position_embeddings": 64,
    "position_bucket_size": 8,
}


def build(variant: str, kernels: str, dropout: float = 0.0) -> ElcForMaskedLM:
    torch.manual_seed(0)
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    model = ElcForMaskedLM(ElcConfig(layer_mixing=variant, kernels=kernels, **rates, **SHAPE))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("prev_layer_weights"):
                parameter.copy_(torch.linspace(-1, 1, len(parameter)) ** 2)
    return model


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(7, 60, (3, 37), generator=generator)
    labels = torch.where(torch.rand(ids.shape, generator=generator) < 0.2, ids, -100)
    mask = torch.arange(37) < torch.tensor([[37], [1], [20]])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels.masked_fill(~mask, -100)}


def attention(kernels: str) -> Attention:
    torch.manual_seed(0)
    config = ElcConfig(hidden_size=48, num_attention_heads=4, kernels=kernels, position_bucket_size=8)
    return Attention(config).double().eval()

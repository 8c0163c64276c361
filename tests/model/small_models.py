"""Small ELC-BERT models with mixing weights that differ from their initialization."""

from __future__ import annotations

import torch

from elc_composer.model import ElcConfig, ElcForMaskedLM

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

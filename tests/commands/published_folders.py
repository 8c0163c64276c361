"""Small models in the layouts of published checkpoints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.model.attention import RelativePositions

SHAPE = {
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "position_bucket_size": 4,
}


def published_state(model: ElcForMaskedLM) -> dict[str, Tensor]:
    """A model's parameters as published checkpoints hold them, position table in every layer included."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    table = RelativePositions(model.config)(model.config.max_position_embeddings)
    for layer in range(model.config.num_hidden_layers):
        state[f"transformer.layers.{layer}.attention.position_indices"] = table.clone()
    return state


def make(variant: str = "base") -> ElcForMaskedLM:
    torch.manual_seed(5)
    return ElcForMaskedLM(ElcConfig(layer_mixing=variant, **SHAPE)).eval()


def write_training_file(path: Path, state: dict[str, Tensor], **args: object) -> Path:
    torch.save({"model": state, "optimizer": {"state": {}}, "args": argparse.Namespace(**args)}, path)
    return path


def write_folder(folder: Path, state: dict[str, Tensor], safe: bool = False, **changes: object) -> Path:
    folder.mkdir()
    if safe:
        save_file(state, folder / "model.safetensors")
    else:
        torch.save(state, folder / "pytorch_model.bin")
    auto_map = {"AutoConfig": "configuration_ltgbert.LtgBertConfig", "AutoModel": "modeling_ltgbert.LtgBertModel"}
    sizes = {**SHAPE, "layer_norm_eps": 1e-7, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    settings = {**sizes, "model_type": "ltgbert", "pad_token_id": 4, "auto_map": auto_map, **changes}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder

"""Which parameters decay, and the optimizers built on that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from elc_composer.common.errors import ConfigError
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.optim import Lamb, OptimizerConfig, build_optimizer, no_decay_names, parameter_groups
from tests.conftest import require


@pytest.mark.golden
def test_published_names(golden_dir: Path):
    golden = np.load(require(golden_dir / "training_run.npz"))
    variants = [key.split("/")[0] for key in golden.files if key.endswith("/no_decay_names")]
    assert variants
    for variant in variants:
        init = {key.split("/init/")[1]: golden[key] for key in golden.files if key.startswith(f"{variant}/init/")}
        vocab, hidden = init["embedding.word_embedding.weight"].shape
        config = ElcConfig(
            layer_mixing=variant,
            vocab_size=vocab,
            hidden_size=hidden,
            intermediate_size=init["transformer.layers.0.mlp.mlp.4.weight"].shape[1],
            num_hidden_layers=sum(name.endswith("in_proj_v.weight") for name in init),
            num_attention_heads=1,
        )
        model = ElcForMaskedLM(config)
        assert no_decay_names(model) == golden[f"{variant}/no_decay_names"].tolist()


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 4)
        self.norm = nn.RMSNorm(4)
        self.batch = nn.BatchNorm1d(4)
        self.hidden = nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.normalized_weight = nn.Parameter(torch.ones(3))
        self.prev_layer_weights = nn.Parameter(torch.ones(3))
        self.head = nn.Linear(4, 5)
        self.head.weight = self.words.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(self.words(x)))


EXPECTED = [
    "prev_layer_weights",
    "words.weight",
    "norm.weight",
    "batch.weight",
    "batch.bias",
    "hidden.bias",
    "head.bias",
]


def test_rule_on_other_models():
    model = Small()
    assert no_decay_names(model) == EXPECTED
    decayed, others = parameter_groups(model, 0.3)
    assert [id(p) for p in decayed["params"]] == [id(model.normalized_weight), id(model.hidden.weight)]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    every = [id(p) for group in (decayed, others) for p in group["params"]]
    assert len(set(every)) == len(every) == sum(p.requires_grad for p in model.parameters())


def test_tie_is_seen_from_either_side():
    model = nn.ModuleDict({"a_head": nn.Linear(4, 5, bias=False), "words": nn.Embedding(5, 4)})
    model["a_head"].weight = model["words"].weight
    assert no_decay_names(model) == ["a_head.weight"]


def test_wrapping_changes_nothing():
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model = Small()
    model.hidden = checkpoint_wrapper(model.hidden)
    wrapped = nn.Module()
    wrapped.module = torch.compile(model, backend="eager")
    assert no_decay_names(wrapped) == EXPECTED


def test_build_optimizer():
    model = Small()
    lamb = build_optimizer(model, OptimizerConfig())
    assert isinstance(lamb, Lamb)
    assert {k: lamb.param_groups[0][k] for k in ("lr", "betas", "eps", "weight_decay")} == {
        "lr": 1e-2,
        "betas": (0.9, 0.98),
        "eps": 1e-6,
        "weight_decay": 0.1,
    }
    adamw = build_optimizer(model, OptimizerConfig(name="adamw", lr=1e-4, weight_decay=0.01))
    assert isinstance(adamw, torch.optim.AdamW)
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.01, 0.0]
    json.dumps(lamb.state_dict()["param_groups"])


@pytest.mark.parametrize(
    ("config", "culprit"),
    [
        (OptimizerConfig(name="sgd"), "optimizer.name is 'sgd'"),
        (OptimizerConfig(name="adamw", betas=[0.9, 1.5]), "adamw"),
        (OptimizerConfig(name="adamw", betas=[0.9]), "betas"),
        (OptimizerConfig(lr=-1), "lr is -1"),
    ],
)
def test_bad_config_is_named(config: OptimizerConfig, culprit: str):
    with pytest.raises(ConfigError, match=culprit):
        build_optimizer(Small(), config)


def test_frozen_model_is_refused():
    with pytest.raises(ConfigError, match="requires a gradient"):
        build_optimizer(Small().requires_grad_(False), OptimizerConfig())

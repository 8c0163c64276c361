"""Fresh models are drawn as published, however made: directly, over the meta device, by transformers, under FSDP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from elc_composer.model import MIXING_RULES, ElcConfig, ElcForMaskedLM
from tests.model.initialization import assert_initialized
from tests.multirank.launch import launch

SHAPE = {
    "vocab_size": 500,
    "hidden_size": 96,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}


@pytest.fixture(params=MIXING_RULES)
def config(request: pytest.FixtureRequest) -> ElcConfig:
    torch.manual_seed(7)
    return ElcConfig(layer_mixing=request.param, **SHAPE)


def test_direct(config: ElcConfig) -> None:
    model = ElcForMaskedLM(config)
    assert_initialized(dict(model.named_parameters()), config)
    assert model.classifier.nonlinearity[5].weight is model.embedding.word_embedding.weight


def test_layer_weights_exist_as_the_variant_says(config: ElcConfig) -> None:
    names = {name for name, _ in ElcForMaskedLM(config).named_parameters() if "prev_layer_weights" in name}
    rule = config.mixing_rule
    layers = {f"transformer.layers.{i}.prev_layer_weights" for i in range(config.num_hidden_layers)}
    expected = (layers if rule.learned else set()) | (
        {"transformer.prev_layer_weights"} if rule.mixed_output else set()
    )
    assert names == expected


def test_by_way_of_the_meta_device(config: ElcConfig) -> None:
    with torch.device("meta"):
        model = ElcForMaskedLM(config)
    assert all(parameter.is_meta for parameter in model.parameters())
    model.to_empty(device="cpu")
    model.tie_weights()
    model.apply(model._init_weights)
    assert_initialized(dict(model.named_parameters()), config)
    buckets = ElcForMaskedLM(config).transformer.relative_positions.buckets
    assert torch.equal(model.transformer.relative_positions.buckets, buckets)


def test_from_pretrained_keeps_what_is_there_and_draws_what_is_missing(config: ElcConfig, tmp_path: Path) -> None:
    model = ElcForMaskedLM(config)
    saved = {name: torch.randn_like(value) for name, value in model.state_dict().items()}
    tied = {"classifier.nonlinearity.5.weight", "embedding.word_embedding.weight"}
    saved["classifier.nonlinearity.5.weight"] = saved["embedding.word_embedding.weight"]
    model.load_state_dict(saved)
    dropped = {
        "transformer.layers.2.mlp.mlp.1.weight",
        "embedding.relative_layer_norm.weight",
        "classifier.nonlinearity.1.bias",
    }
    model.save_pretrained(tmp_path, state_dict={k: v for k, v in saved.items() if k not in dropped})
    loaded, info = ElcForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    parameters = dict(loaded.named_parameters())
    assert set(info["missing_keys"]) == dropped
    assert_initialized({name: parameters[name] for name in dropped}, config)
    for name, value in loaded.state_dict().items():
        assert name in dropped or torch.equal(value, saved[name]), name
    assert tied & set(parameters), "the tied matrix is one parameter"


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ({"vocab_size": 16384}, 98_229_838),
        ({"vocab_size": 6144, "hidden_size": 384, "intermediate_size": 1024, "num_attention_heads": 6}, 23_799_630),
    ],
    ids=["strict", "strict-small"],
)
def test_published_sizes(shape: dict[str, int], count: int) -> None:
    with torch.device("meta"):
        model = ElcForMaskedLM(ElcConfig(**shape))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.multirank
@pytest.mark.parametrize("strategy", ["fsdp1", "fsdp2"])
def test_sharded_from_the_meta_device(strategy: str, tmp_path: Path) -> None:
    """Two ranks initialize their shards of a model that never existed whole; the gathered whole is as published."""
    job = Path(__file__).parent / "jobs" / "initialization_job.py"
    launch(job, strategy, json.dumps(SHAPE), tmp_path)
    for variant in ("base", "weighted_output"):
        config = ElcConfig(layer_mixing=variant, **SHAPE)
        plain = ElcForMaskedLM(config)
        gathered = [torch.load(tmp_path / f"{variant}_rank{rank}.pt", weights_only=True) for rank in (0, 1)]
        for state in gathered:
            assert set(state["parameters"]) == {name for name, _ in plain.named_parameters()}
            assert_initialized(state["parameters"], config)
            assert torch.equal(state["buckets"], plain.transformer.relative_positions.buckets)
        first, second = (state["parameters"] for state in gathered)
        assert all(torch.equal(first[name], second[name]) for name in first)

from __future__ import annotations

from pathlib import Path

import pytest

from elc_composer.common.errors import ConfigError
from elc_composer.common.strict_yaml import load_strict, to_yaml
from elc_composer.training.config import load_config
from elc_composer.training.config_reference import reference
from elc_composer.training.dry_run import describe_run
from tests.conftest import ROOT

YAMLS = sorted((ROOT / "yamls").rglob("*.yaml"))


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_shipped_configs_load_and_survive_writing(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(to_yaml(config))
    assert to_yaml(load_strict(type(config), copy)) == to_yaml(config)


@pytest.mark.parametrize(("name", "parameters"), [("elc_strict", "98,229,838"), ("elc_strict_small", "23,799,630")])
def test_published_sizes_and_tokens(name: str, parameters: str) -> None:
    text = describe_run(load_config(ROOT / "yamls" / f"{name}.yaml"))
    assert f"model: {parameters} parameters" in text
    assert "total: 65,536,000,000 token slots" in text
    assert "250 warm-up steps of 15,625" in text


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("optimiser.lr=1", ["'optimiser'", "did you mean 'optimizer'"]),
        ("model.hiden_size=8", ["'model.hiden_size'", "did you mean 'hidden_size'"]),
        ("stages.0.seq_len=8", ["'stages.0.seq_len'", "did you mean 'seq_length'"]),
        ("callbacks.layer_weight_monitor.intervall=1ba", ["did you mean 'interval'"]),
        ("max_steps=many", ["'max_steps'", "many"]),
        ("precision=bf16", ["'precision'", "amp_bf16"]),
        ("masking.probability=1.5", ["masking.probability"]),
    ],
)
def test_wrong_keys_and_values_are_named(override: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(ROOT / "yamls" / "elc_strict.yaml", [override])
    for part in parts:
        assert part in str(caught.value)


def test_model_settings_are_checked_by_the_model() -> None:
    with pytest.raises(ConfigError, match="layer_mixing 'bose' is none of base, zero"):
        describe_run(load_config(ROOT / "yamls" / "elc_strict.yaml", ["model.layer_mixing=bose"]))


def test_reference_is_current() -> None:
    page = ROOT / "docs" / "configuration.md"
    assert page.read_text() == reference(), (
        "write it anew: python -m elc_composer.training.config_reference > docs/configuration.md"
    )


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("callbacks.speed_monitor.window_size=0", "speed_monitor.window_size is 0"),
        ("callbacks.optimizer_monitor.batch_log_interval=0", "optimizer_monitor.batch_log_interval is 0"),
        ("parallelism.dist_timeout=-1", "parallelism.dist_timeout is -1.0"),
    ],
)
def test_numbers_that_composer_would_stumble_over_are_refused(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_config(ROOT / "yamls" / "quickstart.yaml", [override])

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from elc_composer.common.errors import ConfigError
from elc_composer.common.strict_yaml import load_strict, to_yaml
from elc_composer.common.typed_values import options_of, section_of
from elc_composer.training.config import RunConfig, load_config
from elc_composer.training.config_reference import reference
from elc_composer.training.dry_run import describe_run
from tests.conftest import ROOT

YAMLS = sorted((ROOT / "yamls").glob("*.yaml"))


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
    with pytest.raises(ConfigError, match="layer_mixing is 'bose'; it must be one of base, zero"):
        describe_run(load_config(ROOT / "yamls" / "elc_strict.yaml", ["model.layer_mixing=bose"]))


def test_reference_is_current() -> None:
    page = ROOT / "docs" / "configuration.md"
    assert page.read_text() == reference(), (
        "write it again: python -m elc_composer.training.config_reference > docs/configuration.md"
    )


def test_every_key_has_a_description() -> None:
    rows = [line.split(" | ") for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    assert [row[0] for row in rows if len(row[-1].strip(" |")) < 5] == []
    assert "None" not in reference()


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


def interval_keys(schema: type = RunConfig, prefix: str = "") -> Iterator[str]:
    """Every key of a run config that holds a Composer time string."""
    hints = get_type_hints(schema)
    for name in (field.name for field in dataclasses.fields(schema) if field.init):
        section = section_of(hints[name]) or section_of((get_args(hints[name]) or (None,))[0])
        index = "0." if get_origin(hints[name]) is list else ""
        if section is not None:
            yield from interval_keys(section, f"{prefix}{name}.{index}")
        elif name.endswith("interval") and str in options_of(hints[name]):
            yield f"{prefix}{name}"


def test_all_interval_keys_are_found() -> None:
    assert {
        "evaluators.eval_interval",
        "evaluators.minimal_pairs.0.eval_interval",
        "loggers.console_interval",
        "checkpoints.save_interval",
        "callbacks.layer_weight_monitor.interval",
        "callbacks.layer_weight_monitor.picture_interval",
        "callbacks.weight_distribution_monitor.interval",
        "callbacks.mixed_input_monitor.interval",
        "callbacks.mixed_input_monitor.picture_interval",
    } <= set(interval_keys())


@pytest.mark.parametrize("key", sorted(interval_keys()))
def test_every_interval_is_checked_with_its_full_key(key: str) -> None:
    for wrong in ("often", "5", "infdur", "0ba", "1.5ba"):
        with pytest.raises(ConfigError) as refused:
            load_config(ROOT / "yamls" / "quickstart.yaml", [f"{key}={wrong}"])
        assert str(refused.value).startswith(f"{key} is '{wrong}'; it must be a positive number with a unit, such as ")
    load_config(ROOT / "yamls" / "quickstart.yaml", [f"{key}=7ba"])


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("evaluators.eval_interval", "10sec"),
        ("evaluators.eval_interval", "0.1dur"),
        ("evaluators.minimal_pairs.0.eval_interval", "10sec"),
        ("loggers.console_interval", "100tok"),
    ],
)
def test_units_that_a_part_of_composer_cannot_count_are_refused(key: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} is '{wrong}'"):
        load_config(ROOT / "yamls" / "quickstart.yaml", [f"{key}={wrong}"])


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ({"run_name": "3.10"}, {"run_name": "3.10"}),
        ({"run_name": "no"}, {"run_name": "no"}),
        ({"run_name": "007"}, {"run_name": "007"}),
        ({"run_name": "1e5"}, {"run_name": "1e5", "run_folder": "runs/quickstart/1e5"}),
        ({"run_folder": "runs/a #1"}, {"run_folder": "runs/a #1"}),
        ({"run_folder": "/x/a: b"}, {"run_folder": "/x/a: b"}),
        ({"tokenizer": "null"}, {"tokenizer": None}),
        ({"loggers.wandb.tags": "[007, no]"}, {"loggers.wandb.tags": ["007", "no"]}),
    ],
    ids=str,
)
def test_text_of_a_run_stays_as_written(written: dict[str, str], values: dict[str, Any], tmp_path: Path) -> None:
    overrides = [f"{key}={text}" for key, text in written.items()]
    if "run_folder" in values and "run_folder" not in written:
        overrides.append("run_folder=runs/quickstart/${run_name}")
    config = load_config(ROOT / "yamls" / "quickstart.yaml", overrides)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    for each in (config, load_config(tmp_path / "config.yaml")):
        for key, value in values.items():
            assert functools.reduce(getattr, key.split("."), each) == value


@pytest.mark.parametrize(
    "override",
    [
        *("max_steps=36:40", "gradient_clip_norm=1:30.5", "data.cache_limit=1:00", "seed=017", "max_steps=1e3"),
        *("stages.0.device_train_microbatch_size=1:20", "stages.0.device_train_microbatch_size=010", "tokenizer="),
    ],
)
def test_numbers_of_a_run_are_plain_decimals(override: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(override.split("=")[0])):
        describe_run(load_config(ROOT / "yamls" / "quickstart.yaml", [override]))

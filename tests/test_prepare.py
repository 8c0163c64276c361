"""A run is continued with its own settings; what does not change its steps may change."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from elc_composer.config import load_config
from elc_composer.errors import ConfigError
from elc_composer.prepare import _check_same_run
from elc_composer.strict_yaml import to_yaml
from tests.conftest import ROOT

CONFIG = ROOT / "yamls" / "quickstart.yaml"


def continue_with(folder: Path, *overrides: str) -> None:
    """Check a run in `folder`, begun with the quickstart's settings, against the same with `overrides`."""
    here = f"run_folder={folder}"
    (folder / "config.yaml").write_text(to_yaml(load_config(CONFIG, [here])))
    _check_same_run(load_config(CONFIG, [here, *overrides]))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seed=5", "another seed"),
        ("max_steps=3", "another max_steps"),
        ("optimizer.lr=0.5", r"another optimizer \(lr: "),
        ("masking.probability=0.3", r"another masking \(probability: "),
        ("gradient_clip_norm=1", "another gradient_clip_norm"),
        ("gradient_clip_norm=null", "another gradient_clip_norm"),
        ("label_smoothing=0.1", r"another label_smoothing \(0.0 there, 0.1 here"),
        ("data.short_p=0.5", r"another data \(short_p: "),
        ("data.shuffle_seed=9", r"another data \(shuffle_seed: None there, 9 here"),
        ("data.streams.0.repeat=2", r"another data \(streams: "),
    ],
)
def test_what_would_change_the_steps_is_refused(override: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"holds a run with {told}"):
        continue_with(tmp_path, override)


def test_the_record_of_an_older_version_matches(tmp_path: Path) -> None:
    here = f"run_folder={tmp_path}"
    record = yaml.safe_load(to_yaml(load_config(CONFIG, [here])))
    del record["label_smoothing"]
    record["optimizer"]["implementation"] = "auto"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(record))
    _check_same_run(load_config(CONFIG, [here]))
    with pytest.raises(ConfigError, match="another label_smoothing"):
        _check_same_run(load_config(CONFIG, [here, "label_smoothing=0.1"]))


@pytest.mark.parametrize(
    "override",
    [
        "data.num_workers=1",
        "data.streams.0.local=elsewhere",
        "stages.0.device_train_microbatch_size=8",
        "model.kernels=eager",
        "evaluators.dev_loss=false",
        "checkpoints.keep=7",
    ],
)
def test_what_changes_no_step_may_change(override: str, tmp_path: Path) -> None:
    continue_with(tmp_path, override)

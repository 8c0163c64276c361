"""A run is resumed only with the settings that decide its steps; other settings may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from elc_composer.common.errors import ConfigError
from elc_composer.common.strict_yaml import to_yaml
from elc_composer.training.config import load_config
from elc_composer.training.same_run import check_same_run
from tests.conftest import ROOT

CONFIG = ROOT / "yamls" / "quickstart.yaml"


def continue_with(folder: Path, *overrides: str) -> None:
    """Compare a run in `folder` with the quickstart's settings with the same settings and `overrides`."""
    here = f"run_folder={folder}"
    (folder / "config.yaml").write_text(to_yaml(load_config(CONFIG, [here])))
    check_same_run(load_config(CONFIG, [here, *overrides]))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seed=5", "another seed"),
        ("max_steps=3", "another max_steps"),
        ("optimizer.lr=0.5", r"another optimizer \(lr: "),
        ("masking.probability=0.3", r"another masking \(probability: "),
        ("gradient_clip_norm=1", "another gradient_clip_norm"),
        ("gradient_clip_norm=null", "another gradient_clip_norm"),
        ("data.short_p=0.5", r"another data \(short_p: "),
        ("data.shuffle_seed=9", r"another data \(shuffle_seed: null there, 9 here"),
        ("data.streams.0.repeat=2", r"another data \(streams: "),
    ],
)
def test_what_would_change_the_steps_is_refused(override: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"holds a run with {told}"):
        continue_with(tmp_path, override)


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

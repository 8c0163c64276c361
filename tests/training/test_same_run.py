"""Settings of a resumed run: those that would change its steps are refused, runs of earlier versions keep theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from elc_composer.common.errors import ConfigError
from elc_composer.common.strict_yaml import to_yaml
from elc_composer.data.masking import MaskingConfig
from elc_composer.training.config import load_config
from elc_composer.training.same_run import check_same_run, with_masking
from tests.conftest import ROOT

CONFIG = ROOT / "yamls" / "quickstart.yaml"
OLD_RECORD = ROOT / "tests" / "records" / "run_of_1c4f268.yaml"
"""`config.yaml` of a quickstart run, written by commit 1c4f268: before the published masking rules."""


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
        ("label_smoothing=0.1", r"another label_smoothing \(0.0 there, 0.1 here"),
        ("data.short_p=0.5", r"another data \(short_p: "),
        ("data.shuffle_seed=9", r"another data \(shuffle_seed: null there, 9 here"),
        ("data.streams.0.repeat=2", r"another data \(streams: "),
    ],
)
def test_error_for_a_setting_that_would_change_the_steps(override: str, told: str, tmp_path: Path) -> None:
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
def test_settings_that_change_no_step_may_change(override: str, tmp_path: Path) -> None:
    continue_with(tmp_path, override)


def test_a_run_that_began_with_norms_in_float32_goes_on_with_them(tmp_path: Path) -> None:
    here = [f"run_folder={tmp_path}", "precision=amp_bf16"]
    record = yaml.safe_load(to_yaml(load_config(CONFIG, here)))
    del record["model"]["layer_norm_dtype"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(record))
    check_same_run(load_config(CONFIG, [*here, "model.layer_norm_dtype=float32"]))
    with pytest.raises(ConfigError, match=r"another model \(layer_norm_dtype: float32 there, autocast here\)"):
        check_same_run(load_config(CONFIG, here))


def test_the_record_of_an_older_version_matches(tmp_path: Path) -> None:
    here = f"run_folder={tmp_path}"
    record = yaml.safe_load(to_yaml(load_config(CONFIG, [here])))
    del record["label_smoothing"], record["model"]["layer_norm_dtype"]
    record["optimizer"]["implementation"] = "auto"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(record))
    check_same_run(load_config(CONFIG, [here]))
    with pytest.raises(ConfigError, match="another label_smoothing"):
        check_same_run(load_config(CONFIG, [here, "label_smoothing=0.1"]))


def resume_old(folder: Path, *overrides: str) -> MaskingConfig:
    (folder / "config.yaml").write_text(OLD_RECORD.read_text())
    return check_same_run(load_config(CONFIG, [f"run_folder={folder}", *overrides]))


@pytest.mark.parametrize(
    "overrides", [(), ("masking.rules=fitted",), ("masking.rules=fitted", "masking.max_spans=null")]
)
def test_a_run_of_an_earlier_version_keeps_its_masking_rules(overrides: tuple[str, ...], tmp_path: Path) -> None:
    masking = resume_old(tmp_path, *overrides)
    assert (masking.rules, masking.max_spans) == ("fitted", None)
    assert (masking.probability, masking.max_span_length) == (0.2, 3)


def test_a_run_of_an_earlier_version_resumes_again_from_the_record_of_this_one(tmp_path: Path) -> None:
    first = resume_old(tmp_path)
    config = load_config(CONFIG, [f"run_folder={tmp_path}"])
    (tmp_path / "config.yaml").write_text(to_yaml(with_masking(config, first)))
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["masking"]["rules"] == "fitted"
    assert check_same_run(config) == first


def test_error_for_other_masking_than_that_of_a_run_of_an_earlier_version(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"another masking \(max_spans: null there, 50 here\)"):
        resume_old(tmp_path, "masking.max_spans=50")
    with pytest.raises(ConfigError, match=r"another masking \(probability: 0\.2 there, 0\.3 here\)"):
        resume_old(tmp_path, "masking.probability=0.3")


def test_a_run_of_this_version_takes_nothing_over(tmp_path: Path) -> None:
    here = f"run_folder={tmp_path}"
    (tmp_path / "config.yaml").write_text(to_yaml(load_config(CONFIG, [here, "masking.max_spans=50"])))
    with pytest.raises(ConfigError, match=r"another masking \(max_spans: 50 there, 100 here\)"):
        check_same_run(load_config(CONFIG, [here]))
    with pytest.raises(ConfigError, match=r"another masking \(rules: published there, fitted here\)"):
        check_same_run(load_config(CONFIG, [here, "masking.max_spans=50", "masking.rules=fitted"]))


def test_keys_that_a_record_lacks_have_their_defaults(tmp_path: Path) -> None:
    record = yaml.safe_load(OLD_RECORD.read_text())
    for section, key in (("optimizer", "betas"), ("model", "layer_norm_eps"), ("data", "short_p")):
        del record[section][key]
    del record["gradient_clip_norm"]
    del record["stages"][0]["device_train_microbatch_size"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(record))
    here = f"run_folder={tmp_path}"
    assert check_same_run(load_config(CONFIG, [here])).rules == "fitted"
    for override in ("gradient_clip_norm=1", "data.short_p=0.5", "optimizer.betas=[0.5, 0.9]"):
        with pytest.raises(ConfigError, match="another"):
            check_same_run(load_config(CONFIG, [here, override]))


@pytest.mark.parametrize(
    "damage",
    [{"masking": None}, {"stages": None}, {"stages": [3]}, {"model": "x"}, {"data": {"streams": [1]}}, {"data": 5}],
)
def test_error_for_a_record_with_invalid_sections(damage: dict, tmp_path: Path) -> None:
    record = {**yaml.safe_load(OLD_RECORD.read_text()), **damage}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(record))
    with pytest.raises(ConfigError, match=r"config\.yaml is damaged; repair it, or delete it"):
        check_same_run(load_config(CONFIG, [f"run_folder={tmp_path}"]))


def test_texts_of_environment_variables_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTE", "secret")
    config = load_config(CONFIG, [f"run_folder={tmp_path}", "run_name=${oc.env:NOTE}"])
    assert "secret" not in to_yaml(with_masking(config, MaskingConfig()))

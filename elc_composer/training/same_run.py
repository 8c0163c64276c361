"""Compares a config with the record of the run in its folder, and keeps the masking rules of runs of earlier versions.

A run resumes only with settings that give the same steps. Records (`config.yaml` of the run folder) of earlier versions
lack keys that were added since; such a key takes the value that equals the behaviour of that version.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from pathlib import Path
from typing import Any

import yaml

from elc_composer.common.errors import ConfigError
from elc_composer.common.strict_yaml import plain, to_yaml
from elc_composer.data.masking import MaskingConfig
from elc_composer.training.config import RunConfig
from elc_composer.training.stages import StageConfig

log = logging.getLogger(__name__)

SAME_IN_A_RUN = (
    "seed", "max_steps", "stages", "model", "optimizer", "schedule", "masking", "gradient_clip_norm", "label_smoothing",
    "data",
)  # fmt: skip
ORDER = ("train_split", "short_p", "shuffle", "shuffle_algo", "shuffle_seed", "shuffle_block_size", "epoch_size")
SHARES = ("split", "proportion", "repeat", "choose")
EARLIER_VALUES: dict[str, dict[str, Any]] = {"masking": {"rules": "fitted"}}
"""Section, key and value, for keys whose default is not the behaviour of the versions that lack them. Other keys that a
record lacks take their default."""
KEPT = ("rules", "max_spans")
"""Masking keys whose defaults changed with the published rules."""


def check_same_run(config: RunConfig) -> MaskingConfig:
    """Compare `config` with the run in its folder; returns the masking settings to continue that run with.

    These are `config.masking`, except for a run that began with the fitted masking rules of earlier versions: that run
    keeps its `masking.rules` and `masking.max_spans` where `config` has the defaults.

    Raises:
        ConfigError: for a setting that would change the steps of the run.
    """
    before = _read_record(Path(config.run_folder) / "config.yaml")
    if before is None:
        return config.masking
    config = with_masking(config, _masking_of_run(config, before["masking"]))
    now = yaml.safe_load(to_yaml(config))
    for tree in (before, now):
        for stage in tree["stages"]:
            stage.pop("device_train_microbatch_size", None)
        tree["model"].pop("kernels", None)
        tree["data"] = _order_of_samples(tree["data"])
    for key in SAME_IN_A_RUN:
        if before[key] != now[key]:
            raise ConfigError(
                f"{config.run_folder} holds a run with another {key} ({_difference(before[key], now[key])}); "
                "continue it with its own, or name another run_folder"
            )
    return config.masking


def with_masking(config: RunConfig, masking: MaskingConfig) -> RunConfig:
    """A copy of `config` with other masking settings."""
    # `dataclasses.replace` would drop an attribute that is no field: the texts that name environment variables.
    config = copy.copy(config)
    config.masking = masking
    return config


def _read_record(file: Path) -> dict[str, Any] | None:
    """The recorded config with all keys of this version; None where there is none that can be compared."""
    if not file.is_file():
        return None
    try:
        before = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        before = None
    if not isinstance(before, dict):
        # The machine failed while an earlier version wrote the file. It is written again; the checkpoint decides.
        return None
    for section, values in EARLIER_VALUES.items():
        _fill(before.get(section), values)
    _fill(before, plain(RunConfig()))
    lists = [before["stages"], before["data"].get("streams") if isinstance(before["data"], dict) else None]
    sections = [before["masking"], before["model"], *(entry for entries in lists for entry in entries or [None])]
    if not all(isinstance(section, dict) for section in sections):
        raise ConfigError(f"{file} is damaged; repair it, or delete it to resume without comparing the settings")
    for stage in before["stages"]:
        _fill(stage, plain(StageConfig()))
    return before


def _fill(record: Any, defaults: dict[str, Any]) -> None:
    """Add the keys that a recorded section lacks; a value that is no section stays as it is."""
    if not isinstance(record, dict):
        return
    for key, default in defaults.items():
        if key not in record:
            record[key] = default
        elif isinstance(default, dict):
            _fill(record[key], default)


def _masking_of_run(config: RunConfig, recorded: dict[str, Any]) -> MaskingConfig:
    if recorded["rules"] != "fitted" or not isinstance(recorded["max_spans"], int | None):
        return config.masking
    defaults = MaskingConfig()
    kept = {key: recorded[key] for key in KEPT if getattr(config.masking, key) == getattr(defaults, key)}
    masking = dataclasses.replace(config.masking, **kept)
    if masking != config.masking:
        log.warning(
            "%s holds a run of an earlier version; it continues with its recorded %s",
            config.run_folder,
            ", ".join(f"masking.{key}: {'null' if value is None else value}" for key, value in kept.items()),
        )
    return masking


def _order_of_samples(data: dict[str, Any]) -> dict[str, Any]:
    """The data settings that decide which samples come when; storage and transport may change."""
    shares = [{key: stream.get(key) for key in SHARES} for stream in data.get("streams", [])]
    return {**{key: data.get(key) for key in ORDER}, "streams": shares}


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in now if before.get(key) != now[key]]
        return ", ".join(f"{key}: {before.get(key)} there, {now[key]} here" for key in keys)
    return f"{before} there, {now} here"

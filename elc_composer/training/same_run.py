"""Comparison of a config with the run that its folder holds, before that run is resumed.

A run resumes only with settings that give the same steps. Records (`config.yaml` of the run folder) of earlier versions
lack keys that were added since; such a key takes the value that equals the behaviour of that version.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from pathlib import Path
from typing import Any

from elc_composer.common.errors import ConfigError
from elc_composer.common.run_folder import CONFIG
from elc_composer.common.strict_yaml import to_yaml
from elc_composer.common.typed_values import untyped
from elc_composer.common.yaml_text import parse_yaml, read_yaml_text
from elc_composer.data.masking import MaskingConfig
from elc_composer.training.config import RunConfig
from elc_composer.training.stages import StageConfig

log = logging.getLogger(__name__)

SAME_IN_A_RUN = (
    "seed", "max_steps", "stages", "model", "optimizer", "schedule", "masking", "gradient_clip_norm", "label_smoothing",
    "data",
)  # fmt: skip
"""Keys that decide the optimizer steps of a run; all others may change when it is resumed."""
ORDER = ("train_split", "short_p", "shuffle", "shuffle_algo", "shuffle_seed", "shuffle_block_size", "epoch_size")
"""Keys of `data` that decide which samples each step gets; location and transport of the data may change."""
SHARES = ("split", "proportion", "repeat", "choose")
"""Keys of a stream that decide which samples each step gets."""
EARLIER_VALUES: dict[str, dict[str, Any]] = {
    "masking": {"rules": "fitted", "max_spans": None},
    "model": {"layer_norm_dtype": "float32"},
}
"""Section, key and value, for keys whose default is not the behaviour of the versions that lack them. Other keys that a
record lacks take their default."""
REMOVED_KEYS = {"optimizer": ("implementation",)}
"""Section and keys of earlier versions that did not change the steps: all forms of LAMB take the same ones."""
KEPT = ("rules", "max_spans")
"""Masking keys whose defaults changed with the published rules."""


def check_same_run(config: RunConfig) -> MaskingConfig:
    """Compare `config` with the run in its folder; returns the masking settings to continue that run with.

    These are `config.masking`, except for a run that began with the fitted masking rules of earlier versions: that run
    keeps its `masking.rules` and `masking.max_spans` where `config` has the defaults. A missing or damaged config.yaml
    is not compared: it is written again, and the checkpoint holds the training state.

    Raises:
        ConfigError: naming the setting with both values.
    """
    file = Path(config.run_folder) / CONFIG
    saved = _read(file) if file.exists() else None
    if saved is None:
        log.warning(
            "%s has no readable record of the run's settings; if a version before the published masking rules began "
            "the run, set masking.rules=fitted",
            file,
        )
        return config.masking
    config = with_masking(config, _masking_of_run(config, saved["masking"]))
    before, now = _compared(saved), _compared(_as_recorded(config))
    for key in SAME_IN_A_RUN:
        if before[key] != now[key]:
            raise ConfigError(
                f"{config.run_folder} holds a run with another {key} ({_difference(before[key], now[key])}); "
                "resume it with its own settings, or set another run_folder"
            )
    return config.masking


def with_masking(config: RunConfig, masking: MaskingConfig) -> RunConfig:
    """A copy of `config` with other masking settings."""
    # `dataclasses.replace` would drop an attribute that is not a field: the texts that name environment variables.
    config = copy.copy(config)
    config.masking = masking
    return config


def _as_recorded(config: Any) -> dict[str, Any]:
    recorded = untyped(parse_yaml(to_yaml(config), CONFIG).tree)
    assert isinstance(recorded, dict)
    return recorded


def _read(file: Path) -> dict[str, Any] | None:
    """The recorded config with all keys of this version; None if it cannot be compared."""
    try:
        saved = untyped(parse_yaml(read_yaml_text(file), file).tree)
    except ConfigError as error:
        log.warning("the settings of the run in the folder are not compared with this run's: %s", error)
        return None
    if not isinstance(saved, dict) or not saved:
        # An empty file is what a power cut leaves of a file that was not flushed to disk.
        return None
    for section, keys in REMOVED_KEYS.items():
        if isinstance(saved.get(section), dict):
            saved[section] = {key: value for key, value in saved[section].items() if key not in keys}
    for section, values in EARLIER_VALUES.items():
        _fill(saved.get(section), values)
    _fill(saved, _as_recorded(RunConfig(run_name="", max_steps=0)))
    data = saved["data"]
    streams = data.get("streams") if isinstance(data, dict) else None
    sections = [saved["masking"], saved["model"], data]
    for entries in (saved["stages"], streams):
        sections += entries if isinstance(entries, list) else [None]
    if not all(isinstance(section, dict) for section in sections):
        raise ConfigError(f"{file} is damaged; repair it, or delete it to resume without comparing the settings")
    for stage in saved["stages"]:
        _fill(stage, _as_recorded(StageConfig(seq_length=0, fraction=0, global_train_batch_size=0)))
    return saved


def _fill(record: Any, defaults: dict[str, Any]) -> None:
    """Add the keys that a recorded section lacks; a value that is not a section stays as it is."""
    if not isinstance(record, dict):
        return
    for key, default in defaults.items():
        if key not in record:
            record[key] = default
        elif isinstance(default, dict):
            _fill(record[key], default)


def _masking_of_run(config: RunConfig, recorded: dict[str, Any]) -> MaskingConfig:
    max_spans = recorded["max_spans"]
    if recorded["rules"] != "fitted" or not (max_spans is None or isinstance(max_spans, int)):
        return config.masking
    defaults = MaskingConfig()
    kept = {key: recorded[key] for key in KEPT if getattr(config.masking, key) == getattr(defaults, key)}
    masking = dataclasses.replace(config.masking, **kept)
    if masking != config.masking:
        log.warning(
            "%s holds a run of an earlier version; it continues with its recorded %s",
            config.run_folder,
            ", ".join(f"masking.{key}: {_shown(value)}" for key, value in kept.items()),
        )
    return masking


def _compared(tree: dict[str, Any]) -> dict[str, Any]:
    """A config without the settings that do not change the steps."""
    data = {key: tree["data"].get(key) for key in ORDER}
    data["streams"] = [{key: stream.get(key) for key in SHARES} for stream in tree["data"]["streams"]]
    stages = [_without(stage, "device_train_microbatch_size") for stage in tree["stages"]]
    model = _without(tree["model"], "kernels")
    if tree["precision"] == "fp32":
        # Without autocast its value makes no difference.
        model = _without(model, "layer_norm_dtype")
    return {**tree, "stages": stages, "model": model, "data": data}


def _without(section: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != name}


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in now if before.get(key) != now[key]]
        return ", ".join(f"{key}: {_shown(before.get(key))} there, {_shown(now[key])} here" for key in keys)
    return f"{_shown(before)} there, {_shown(now)} here"


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 200 else f"{text[:197]}..."

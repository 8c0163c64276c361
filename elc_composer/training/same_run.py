"""Comparison of a config with the run that its folder holds, before that run is resumed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from elc_composer.common.errors import ConfigError
from elc_composer.common.run_folder import CONFIG
from elc_composer.common.strict_yaml import to_yaml
from elc_composer.common.typed_values import untyped
from elc_composer.common.yaml_text import parse_yaml, read_yaml_text
from elc_composer.training.config import RunConfig

log = logging.getLogger(__name__)

SAME_IN_A_RUN = (
    "seed", "max_steps", "stages", "model", "optimizer", "schedule", "masking", "gradient_clip_norm", "data",
)  # fmt: skip
"""Keys that decide the optimizer steps of a run; all others may change when it is resumed."""
ORDER = ("train_split", "short_p", "shuffle", "shuffle_algo", "shuffle_seed", "shuffle_block_size", "epoch_size")
"""Keys of `data` that decide which samples each step gets; location and transport of the data may change."""
SHARES = ("split", "proportion", "repeat", "choose")
"""Keys of a stream that decide which samples each step gets."""


def check_same_run(config: RunConfig) -> None:
    """Refuse to resume the run in the folder with settings that would change its steps.

    A missing or damaged config.yaml is not compared: it is written again, and the checkpoint holds the training state.

    Raises:
        ConfigError: naming the setting with both values.
    """
    file = Path(config.run_folder) / CONFIG
    saved = _read(file) if file.exists() else None
    if saved is None:
        return
    before, now = _compared(saved), _compared(untyped(parse_yaml(to_yaml(config), file).tree))
    for key in SAME_IN_A_RUN:
        if before.get(key) != now[key]:
            raise ConfigError(
                f"{config.run_folder} holds a run with another {key} ({_difference(before.get(key), now[key])}); "
                "resume it with its own settings, or set another run_folder"
            )


def _read(file: Path) -> dict[str, Any] | None:
    try:
        saved = untyped(parse_yaml(read_yaml_text(file), file).tree)
    except ConfigError as error:
        log.warning("the settings of the run in the folder are not compared with this run's: %s", error)
        return None
    # An empty file is what a power cut leaves of a file that was not flushed to disk.
    return saved if isinstance(saved, dict) and saved else None


def _compared(tree: dict[str, Any]) -> dict[str, Any]:
    """A config without the settings that do not change the steps."""
    tree = dict(tree)
    stages, data = tree.get("stages"), tree.get("data")
    if isinstance(stages, list):
        tree["stages"] = [_without(stage, "device_train_microbatch_size") for stage in stages]
    tree["model"] = _without(tree.get("model"), "kernels")
    if isinstance(data, dict):
        tree["data"] = {key: data.get(key) for key in ORDER}
        streams = data.get("streams")
        tree["data"]["streams"] = (
            [_only(stream, SHARES) for stream in streams] if isinstance(streams, list) else streams
        )
    return tree


def _without(section: Any, name: str) -> Any:
    return {key: value for key, value in section.items() if key != name} if isinstance(section, dict) else section


def _only(section: Any, names: tuple[str, ...]) -> Any:
    return {key: section.get(key) for key in names} if isinstance(section, dict) else section


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in now if before.get(key) != now[key]]
        return ", ".join(f"{key}: {_shown(before.get(key))} there, {_shown(now[key])} here" for key in keys)
    return f"{_shown(before)} there, {_shown(now)} here"


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 200 else f"{text[:197]}..."

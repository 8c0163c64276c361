"""Comparison of a config with the run already in its folder, before that run is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from elc_composer.common.errors import ConfigError
from elc_composer.common.strict_yaml import to_yaml
from elc_composer.training.config import RunConfig

SAME_IN_A_RUN = (
    "seed", "max_steps", "stages", "model", "optimizer", "schedule", "masking", "gradient_clip_norm", "data",
)  # fmt: skip
ORDER = ("train_split", "short_p", "shuffle", "shuffle_algo", "shuffle_seed", "shuffle_block_size", "epoch_size")
SHARES = ("split", "proportion", "repeat", "choose")


def check_same_run(config: RunConfig) -> None:
    """Refuse to continue a run whose steps would not be the same ones any more."""
    file = Path(config.run_folder) / "config.yaml"
    if not file.is_file():
        return
    try:
        before = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        before = None
    if not isinstance(before, dict):
        # Cut short where the machine failed; it is written anew, and the checkpoint is what counts.
        return
    now = yaml.safe_load(to_yaml(config))
    for tree in (before, now):
        for stage in tree.get("stages", []):
            stage.pop("device_train_microbatch_size", None)
        tree.get("model", {}).pop("kernels", None)
        tree["data"] = _what_is_read(tree.get("data", {}))
    for key in SAME_IN_A_RUN:
        if before.get(key) != now[key]:
            raise ConfigError(
                f"{config.run_folder} holds a run with another {key} ({_difference(before.get(key), now[key])}); "
                "continue it with its own, or name another run_folder"
            )


def _what_is_read(data: dict[str, Any]) -> dict[str, Any]:
    """What of the data section says which samples come when; where they lie and how they travel may change."""
    shares = [{key: stream.get(key) for key in SHARES} for stream in data.get("streams", [])]
    return {**{key: data.get(key) for key in ORDER}, "streams": shares}


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in now if before.get(key) != now[key]]
        return ", ".join(f"{key}: {before.get(key)} there, {now[key]} here" for key in keys)
    return f"{before} there, {now} here"

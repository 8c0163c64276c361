"""The run configs that come with the package: `yamls:NAME` in place of a path."""

from __future__ import annotations

from pathlib import Path

import elc_composer
from elc_composer.common.errors import ConfigError

PREFIX = "yamls:"


def config_file(text: str | Path) -> Path:
    """The file that a command's CONFIG means: a path, or `yamls:NAME` for one that comes with the package.

    NAME is the path below `yamls/` without `.yaml`, such as `elc_strict` or `finetune/rte`.

    Raises:
        ConfigError: no such config; the message lists those that exist.
    """
    name = str(text)
    if not name.startswith(PREFIX):
        return Path(text)
    known = shipped_configs()
    found = known.get(name.removeprefix(PREFIX).removesuffix(".yaml"))
    if found is None:
        listed = ", ".join(f"{PREFIX}{each}" for each in known) or f"none (no folder {_folder()})"
        raise ConfigError(f"{name}: no such config comes with elc_composer; there are {listed}")
    return found


def shipped_configs() -> dict[str, Path]:
    """All of them, sorted, by NAME."""
    folder = _folder()
    return {str(file.relative_to(folder).with_suffix("")): file for file in sorted(folder.rglob("*.yaml"))}


def _folder() -> Path:
    # The wheel has yamls/ inside the package; in a checkout it lies beside the package.
    package = Path(elc_composer.__file__).parent
    inside = package / "yamls"
    return inside if inside.is_dir() else package.parent / "yamls"

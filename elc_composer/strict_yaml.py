"""YAML and `key=value` overrides merged strictly into a typed dataclass: a wrong key or value stops with one sentence."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from elc_composer.errors import ConfigError

Schema = TypeVar("Schema")


def load_strict(schema: type[Schema], path: Path, overrides: Sequence[str] = ()) -> Schema:
    """Read a run config.

    Args:
        schema: dataclass whose fields say which keys exist and of what type.
        path: YAML file.
        overrides: `key.path=value` strings; list entries by index (`stages.0.seq_length=64`).

    Returns:
        An instance of `schema`.

    Raises:
        ConfigError: naming the key, the file and line or the override it stands in, and the nearest valid key.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such config file{_nearest(path.name, _siblings(path))}")
    text = path.read_text()
    try:
        loaded = OmegaConf.create(yaml.compose(text) and text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    config = OmegaConf.structured(schema)
    if isinstance(loaded, ListConfig):
        raise ConfigError(f"{path}: a config is a mapping of keys, not a list")
    try:
        config = OmegaConf.merge(config, loaded)
    except OmegaConfBaseException as error:
        raise ConfigError(_explain(error, schema, lambda key: _line_of(text, path, key))) from error
    for override in overrides:
        config = _override(config, override, schema)
    try:
        return OmegaConf.to_object(config)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(_explain(error, schema, lambda key: f"{path}: ")) from error


def to_yaml(config: Any) -> str:
    """The resolved config as YAML that `load_strict` reads back."""
    return OmegaConf.to_yaml(OmegaConf.create(plain(config)))


def plain(value: Any) -> Any:
    """Dataclasses, enums and paths as dicts, names and strings; fields that hold None stay."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _override(config: Any, override: str, schema: type) -> DictConfig:
    key, equals, _ = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override '{override}' is not of the form key=value")
    try:
        value = OmegaConf.from_dotlist([f"value={override.partition('=')[2]}"]).value
        OmegaConf.update(config, key, value, merge=True)
    except (OmegaConfBaseException, yaml.YAMLError, TypeError, IndexError, AssertionError) as error:
        raise ConfigError(_explain(error, schema, lambda _: f"override '{override}': ", key)) from error
    return config


def _explain(error: Exception, schema: type, place: Any, key: str | None = None) -> str:
    full_key = str(getattr(error, "full_key", None) or key or "")
    reason = str(error).splitlines()[0].rstrip(".")
    if isinstance(error, (ConfigKeyError, ConfigAttributeError)):
        name = full_key.rpartition(".")[2]
        parent = getattr(error, "object_type", None)
        known = [field.name for field in dataclasses.fields(parent)] if dataclasses.is_dataclass(parent) else []
        return f"{place(full_key)}unknown key '{full_key}'{_nearest(name, known)}"
    return f"{place(full_key)}'{full_key}': {reason}"


def _nearest(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = difflib.get_close_matches(name, known, 1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; valid here: {', '.join(known)}" if known else ""


def _siblings(path: Path) -> list[str]:
    return [file.name for file in path.parent.glob("*.yaml")] if path.parent.is_dir() else []


def _line_of(text: str, path: Path, full_key: str) -> str:
    """`file:line: ` of a dotted key, as far as the YAML has it."""
    node, line = yaml.compose(text), None
    for part in full_key.replace("[", ".").replace("]", "").split("."):
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                if key_node.value == part:
                    node, line = value_node, key_node.start_mark.line + 1
                    break
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
    return f"{path}:{line}: " if line else f"{path}: "

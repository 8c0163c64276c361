"""YAML and `key=value` overrides merged strictly into a typed dataclass; a mistake stops with one sentence."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from elc_composer.common.errors import ConfigError
from elc_composer.common.redaction import from_environment, hide, hide_logins, put_back, refuse_logins

AS_WRITTEN = "_as_written"

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
    try:
        return _load(schema, path, overrides)
    except ConfigError as error:
        raise ConfigError(hide_logins(str(error))) from None


def _load(schema: type[Schema], path: Path, overrides: Sequence[str]) -> Schema:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such config file{_nearest(path.name, _siblings(path))}")
    try:
        text = path.read_text()
        root = yaml.compose(text)
        loaded = OmegaConf.create(text) if isinstance(root, yaml.MappingNode) else OmegaConf.create({})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}: a config is a mapping of keys, not a list")
    config = _merge(schema, OmegaConf.to_container(loaded), lambda key: _line_of(text, path, key))
    for override in overrides:
        config = _override(config, override, schema)
    raw = OmegaConf.to_container(config, enum_to_str=True)
    try:
        result: Any = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        # The cause would print the value of an environment variable.
        raise ConfigError(f"{path}: {hide(_reason(error), raw)}") from None
    resolved = plain(result)
    refuse_logins(resolved)
    setattr(result, AS_WRITTEN, from_environment(raw, resolved))
    return result


def to_yaml(config: Any) -> str:
    """The resolved config as YAML that `load_strict` reads back; what comes from the environment is named only."""
    return yaml.safe_dump(put_back(plain(config), getattr(config, AS_WRITTEN, {})), sort_keys=False, allow_unicode=True)


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


def _merge(schema: type, tree: Any, place: Callable[[str], str]) -> Any:
    _check_keys(tree, schema, "", place)
    try:
        return OmegaConf.merge(OmegaConf.structured(schema), tree)
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", None) or "")
        raise ConfigError(f"{place(key)}{_reason(error)}") from error


def _override(config: Any, override: str, schema: type) -> Any:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override '{override}' is not of the form key=value")
    # On the plain form, since a structured section that is null takes no keys.
    tree = OmegaConf.to_container(config, enum_to_str=True)
    try:
        value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]  # type: ignore[index, call-overload]
        *parents, last = key.split(".")
        node: Any = tree
        for parent in parents:
            if isinstance(node, dict) and node.get(parent) is None:
                node[parent] = {}
            node = node[int(parent) if isinstance(node, list) else parent]
        node[int(last) if isinstance(node, list) else last] = value
    except (IndexError, TypeError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"override '{override}': there is no place for '{key}' in the config") from error
    return _merge(schema, tree, lambda _: f"override '{override}': ")


def _check_keys(tree: Any, expected: Any, path: str, place: Callable[[str], str]) -> None:
    """Walk a plain tree along the schema's types; OmegaConf's own error names neither list entries nor near keys."""
    options = [option for option in get_args(expected) or (expected,) if option is not type(None)]
    if isinstance(tree, dict):
        schema = next((option for option in options if dataclasses.is_dataclass(option)), None)
        if schema is None:
            return
        hints = get_type_hints(schema)
        known = [field.name for field in dataclasses.fields(schema) if field.init]
        for key, value in tree.items():
            full_key = f"{path}.{key}" if path else str(key)
            if key not in known:
                raise ConfigError(f"{place(full_key)}unknown key '{full_key}'{_nearest(str(key), known)}")
            _check_keys(value, hints[key], full_key, place)
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            _check_keys(value, options[0], f"{path}[{index}]", place)


def _reason(error: Exception) -> str:
    key = getattr(error, "full_key", None)
    text = str(error).splitlines()[0].rstrip(".")
    return f"'{key}': {text}" if key else text


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

"""Reads a run config: a YAML file and `key=value` overrides, merged strictly into a typed dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from elc_composer.common.errors import ConfigError
from elc_composer.common.interpolation import escape, resolve
from elc_composer.common.redaction import hide, hide_logins, put_back, refuse_logins
from elc_composer.common.typed_values import convert, is_container, nearest, options_of, section_of, unknown_key
from elc_composer.common.yaml_text import (
    Scalar,
    Tree,
    dump_yaml,
    parse_quoted,
    parse_yaml,
    read_yaml_text,
    scalars,
    to_tree,
)

AS_WRITTEN = "_as_written"

Schema = TypeVar("Schema")


def load_strict(schema: type[Schema], path: Path, overrides: Sequence[str] = ()) -> Schema:
    """Read a run config.

    Args:
        schema: dataclass whose fields are the keys, with their types and defaults.
        path: YAML file.
        overrides: `key.path=value` strings; list entries by index (`stages.0.seq_length=64`). A value for a text field
            is taken as it is, without its quotes if it is quoted as a whole; one for a list or section is YAML.

    Returns:
        An instance of `schema`.

    Raises:
        ConfigError: an unknown key or a value that does not fit; one line with the key, where it was written (file and
            line, or override), and the nearest valid key or what to write.
    """
    try:
        return _Loader(path).load(schema, overrides)
    except ConfigError as error:
        # Without its cause, which may hold the value of an environment variable.
        raise ConfigError(hide_logins(str(error))) from None


def to_yaml(config: Any) -> str:
    """The resolved config as YAML; `load_strict` reads an equal config from it.

    A value that comes from an environment variable is written as its `${oc.env:NAME}`.
    """
    return dump_yaml(put_back(_escaped(plain(config)), getattr(config, AS_WRITTEN, {})))


def plain(value: Any) -> Any:
    """Dataclasses as dicts, enums as their names, paths as text; fields that are None stay."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return escape(value) if isinstance(value, str) else value


class _Loader:
    """Merges defaults, file and overrides as text, then resolves references, then converts to types."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, int] = {}
        self._overridden: dict[str, str] = {}

    def load(self, schema: type[Schema], overrides: Sequence[str]) -> Schema:
        if not self._path.exists():
            siblings = [file.name for file in self._path.parent.glob("[!.]*.yaml")]
            raise ConfigError(f"{self._path}: the config file does not exist{nearest(self._path.name, siblings)}")
        document = parse_yaml(read_yaml_text(self._path), self._path)
        if not isinstance(document.tree, dict):
            raise ConfigError(f"{self._path}: a config is a mapping of keys, not a list or a single value")
        self._lines = document.lines
        tree = self._merge(_defaults(schema), document.tree, schema, "")
        for override in overrides:
            tree = self._override(tree, override, schema)
        try:
            resolved = resolve(tree, self._place)
            result = convert(resolved, schema, "", self._place)
        except ConfigError as error:
            raise ConfigError(hide(str(error), [scalar.text for _, scalar in scalars(tree)])) from None
        refuse_logins(plain(result))
        sources = {key: scalar.source for key, scalar in scalars(resolved) if scalar.source is not None}
        setattr(result, AS_WRITTEN, sources)
        return result

    def _place(self, key: str) -> str:
        """Where a key was written: the override or line of the key itself, else of the section around it."""
        parts = key.split(".") if key else []
        around = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
        for each in around:
            if each in self._overridden:
                return f"override '{self._overridden[each]}': "
        line = next((self._lines[each] for each in around if each in self._lines), None)
        return f"{self._path}: " if line is None else f"{self._path}:{line}: "

    def _merge(self, default: Tree | None, own: Tree, hint: Any, key: str) -> Tree:
        """`own` over `default`: sections key by key, lists and single values as a whole."""
        section = section_of(hint)
        if isinstance(own, dict) and section is not None:
            base = default if isinstance(default, dict) else _defaults(section)
            hints = get_type_hints(section)
            merged = dict(base)
            for name, value in own.items():
                full_key = f"{key}.{name}" if key else name
                if not _has(section, name):
                    raise unknown_key(name, full_key, section, self._place)
                merged[name] = self._merge(base.get(name), value, hints[name], full_key)
            return merged
        if isinstance(own, list):
            item = _item_type(hint)
            return [self._merge(None, value, item, f"{key}.{index}") for index, value in enumerate(own)]
        return own

    def _override(self, tree: Tree, override: str, schema: type) -> Tree:
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"override '{override}' is not of the form key=value")
        self._overridden = {
            other: said for other, said in self._overridden.items() if not f"{other}.".startswith(f"{key}.")
        }
        self._overridden[key] = override
        return self._replaced(tree, schema, key.split("."), "", override)

    def _replaced(self, node: Tree | None, hint: Any, parts: list[str], key: str, override: str) -> Tree:
        """A copy of `node` in which the value at `parts` is that of the override."""
        if not parts:
            return self._merge(None, _value(override, hint), hint, key)
        name, rest = parts[0], parts[1:]
        full_key = f"{key}.{name}" if key else name
        section = section_of(hint)
        if section is not None and not isinstance(node, list):
            if not _has(section, name):
                raise unknown_key(name, full_key, section, self._place)
            # A section that is off (null) is switched on by a key in it.
            keys = node if isinstance(node, dict) else _defaults(section)
            inner = get_type_hints(section)[name]
            return {**keys, name: self._replaced(keys.get(name), inner, rest, full_key, override)}
        if isinstance(node, list) and name.isdecimal() and len(name) < 7 and int(name) < len(node):
            entry = self._replaced(node[int(name)], _item_type(hint), rest, full_key, override)
            return [*node[: int(name)], entry, *node[int(name) + 1 :]]
        there = f"'{key}' has {len(node)} entries" if isinstance(node, list) else f"'{key}' is a single value"
        raise ConfigError(f"override '{override}': '{full_key}' cannot be set; {there}")


def _value(override: str, hint: Any) -> Tree:
    key, _, text = override.partition("=")
    if not text.strip():
        empty = f", or {key}='\"\"' for an empty text" if str in options_of(hint) else ""
        raise ConfigError(f"override '{override}' has no value; write {key}=null for none{empty}")
    if is_container(hint):
        return parse_yaml(text, f"override '{override}'", comments=False).tree
    content = parse_quoted(text)
    return Scalar(text) if content is None else Scalar(content, quoted=True)


def _defaults(schema: type) -> dict[str, Tree]:
    """The keys of a section that have a default, as text."""
    found: dict[str, Tree] = {}
    for field in dataclasses.fields(schema):
        if field.init and field.default_factory is not dataclasses.MISSING:
            found[field.name] = to_tree(plain(field.default_factory()))
        elif field.init and field.default is not dataclasses.MISSING:
            found[field.name] = to_tree(plain(field.default))
    return found


def _has(section: type, name: str) -> bool:
    return any(field.name == name and field.init for field in dataclasses.fields(section))


def _item_type(hint: Any) -> Any:
    return next((get_args(option)[0] for option in options_of(hint) if get_args(option)), Any)

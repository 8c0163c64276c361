"""YAML with every scalar kept as text: read into a tree, and write so that the text reads back unchanged.

YAML 1.1 reads `no` as false, `1e5` as a number, `010` as 8 and `1:30` as 90. Here the reader of a value decides what
its text means, by the type that it expects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import yaml

from elc_composer.common.errors import ConfigError, one_line
from elc_composer.common.json_files import MAX_DEPTH

MAX_NODES = 100_000
"""Values of a document after aliases are expanded; a few lines of nested aliases can stand for billions."""
_NULL = ("null", "Null", "NULL", "~", "")
_STRING, _LIST, _MAPPING = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))
_WITHOUT_QUOTES = re.compile(r"[A-Za-z_/$][\w./${},:-]*", re.ASCII)
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"}


@dataclass(frozen=True)
class Scalar:
    """The text of one value."""

    text: str
    quoted: bool = False
    """Quoted text is never null."""
    source: str | None = None
    """The text with its `${...}`, if an environment variable went into `text`; written and shown instead of it."""

    @property
    def is_null(self) -> bool:
        """True for `null`, `~` and an empty value."""
        return not self.quoted and self.text in _NULL


Tree = Union[Scalar, "dict[str, Tree]", "list[Tree]"]


@dataclass(frozen=True)
class Document:
    """A parsed document."""

    tree: Tree
    lines: dict[str, int]
    """Line, from 1, of each dotted key."""


def parse_yaml(text: str, source: object, *, comments: bool = True) -> Document:
    """Parse one YAML document; an empty one is an empty mapping.

    Args:
        text: the document.
        source: file name or override, for the error message.
        comments: whether a comment may follow the value.

    Raises:
        ConfigError: invalid YAML, a key that occurs twice, a tag such as `!!int`, more than `MAX_DEPTH` levels or
            `MAX_NODES` values.
    """
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"{source}: invalid YAML: {_reason(error)}") from None
    except RecursionError:
        raise ConfigError(f"{source}: more than {MAX_DEPTH} levels of nesting") from None
    if root is not None and not comments and text[root.end_mark.index :].strip():
        raise ConfigError(f"{source}: '#' starts a comment in YAML; put quotes around a text that holds it")
    walk = _Walk(source)
    return Document({} if root is None else walk.tree(root, ""), walk.lines)


def _reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return one_line(error)
    return f"{getattr(error, 'problem', None) or 'error'} in line {mark.line + 1}, column {mark.column + 1}"


def parse_quoted(text: str) -> str | None:
    """The content of a text that is one quoted YAML scalar (`'a b'`, `"a\\tb"`); None for any other text."""
    if text[:1] not in ("'", '"'):
        return None
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        return None
    if isinstance(node, yaml.ScalarNode) and node.end_mark.index == len(text):
        return node.value
    return None


def dump_yaml(value: Any) -> str:
    """YAML of plain values (dicts, lists, text, numbers, booleans, None).

    Text is quoted unless no reader of YAML 1.1 or 1.2 can take it for anything else.
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31)


def to_tree(value: Any) -> Tree:
    """Plain values as a tree of text; the inverse of reading them by their types."""
    if isinstance(value, dict):
        return {str(key): to_tree(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_tree(item) for item in value]
    if value is None or isinstance(value, bool):
        return Scalar({None: "null", True: "true", False: "false"}[value])
    return Scalar(value, quoted=True) if isinstance(value, str) else Scalar(repr(value))


def scalars(tree: Tree, key: str = "") -> Iterator[tuple[str, Scalar]]:
    """Every scalar of a tree with its dotted key."""
    if isinstance(tree, Scalar):
        yield key, tree
        return
    for name, item in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from scalars(item, f"{key}.{name}" if key else str(name))


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dump_text(dumper: _Dumper, text: str) -> yaml.Node:
    plain = _WITHOUT_QUOTES.fullmatch(text) and text.lower() not in _WORDS
    # Single quotes cannot hold a line break such as U+0085 as it is; double quotes escape it.
    quotes = "'" if text.isprintable() else '"'
    return dumper.represent_scalar(_STRING, text, style=None if plain else quotes)


_Dumper.add_representer(str, _dump_text)


class _Walk:
    """Turns PyYAML's nodes into a tree, within limits."""

    def __init__(self, source: object) -> None:
        self.source = source
        self.lines: dict[str, int] = {}
        self._nodes = 0

    def tree(self, node: yaml.Node, key: str, depth: int = 0) -> Tree:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            limit = f"{MAX_DEPTH} levels of nesting" if depth > MAX_DEPTH else f"{MAX_NODES:,} values"
            raise ConfigError(f"{self.source}: more than {limit}")
        self.lines.setdefault(key, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == _MAPPING:
            return self._mapping(node, key, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _LIST:
            return [self.tree(item, _join(key, index), depth + 1) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag == _STRING:
            return Scalar(node.value, quoted=node.style is not None)
        raise self._error(node, f"the tag {node.tag} is not supported; write the value without it")

    def _mapping(self, node: yaml.MappingNode, key: str, depth: int) -> dict[str, Tree]:
        own: dict[str, Tree] = {}
        merged: dict[str, Tree] = {}
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                raise self._error(name, "a key must be text, not a list or mapping")
            if name.value == "<<" and name.style is None:
                for other in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(other, yaml.MappingNode):
                        raise self._error(name, "`<<` merges mappings only")
                    merged = {**self._mapping_of(other, key, depth), **merged}
                continue
            if name.value in own:
                raise self._error(name, f"the key '{name.value}' occurs twice; remove one")
            self.lines[_join(key, name.value)] = name.start_mark.line + 1
            own[name.value] = self.tree(value, _join(key, name.value), depth + 1)
        return {**merged, **own}

    def _mapping_of(self, node: yaml.MappingNode, key: str, depth: int) -> dict[str, Tree]:
        tree = self.tree(node, key, depth + 1)
        assert isinstance(tree, dict)
        return tree

    def _error(self, node: yaml.Node, problem: str) -> ConfigError:
        return ConfigError(f"{self.source}:{node.start_mark.line + 1}: {problem}")


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def read_yaml_text(path: Path) -> str:
    """The text of a YAML file in UTF-8, with or without a byte order mark.

    Raises:
        ConfigError: the file cannot be read or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror or one_line(error)})") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None

"""References in config values: `${key}`, `${oc.env:NAME}`, `${oc.env:NAME,default}`; a backslash escapes `${`.

OmegaConf has these as well, but reads defaults as typed values: `${oc.env:NAME,1e5}` becomes 100000.0.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from elc_composer.common.errors import ConfigError
from elc_composer.common.yaml_text import Scalar, Tree, parse_quoted

MAX_LENGTH = 100_000
"""Characters of a value after references are filled in; references to references can double it each time."""
_ENVIRONMENT = "oc.env:"
_OPEN = re.compile(r"(\\*)\$\{")
_KEY = re.compile(r"[\w-]+(\.[\w-]+)*")
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True)
class _Reference:
    expression: str


def escape(text: str) -> str:
    """`text` such that `resolve` gives it back: backslashes before `${` are doubled, and one more is put before it."""
    return _OPEN.sub(lambda found: found[1] * 2 + "\\${", text)


def resolve(tree: Tree, place: Callable[[str], str] = lambda key: "") -> Tree:
    """A copy of `tree` with every reference replaced by the single value that it refers to.

    A value that is one reference becomes null if it refers to null. `Scalar.source` is set where an environment
    variable was used. `place` gives the start of an error message for a dotted key, such as file and line.

    Raises:
        ConfigError: a reference that is not closed, has no single value, or leads back to itself; a variable that is
            not set.
    """
    resolver = _Resolver(tree, place)
    try:
        return resolver.node(tree, "")
    except RecursionError:
        raise ConfigError("references (${...}) lead through too many other references; shorten the chain") from None


class _Resolver:
    def __init__(self, root: Tree, place: Callable[[str], str]) -> None:
        self._root = root
        self._place = place
        self._active: list[str] = []
        self._done: dict[str, Scalar] = {}

    def node(self, node: Tree, key: str) -> Tree:
        if isinstance(node, dict):
            return {name: self.node(item, f"{key}.{name}" if key else name) for name, item in node.items()}
        if isinstance(node, list):
            return [self.node(item, f"{key}.{index}") for index, item in enumerate(node)]
        return self._scalar(node, key)

    def _scalar(self, scalar: Scalar, key: str) -> Scalar:
        if key in self._done:
            return self._done[key]
        if key in self._active:
            circle = " -> ".join([*self._active[self._active.index(key) :], key])
            raise ConfigError(f"{self._place(key)}'{key}' refers to itself ({circle}); write one of these values out")
        self._active.append(key)
        self._done[key] = self._filled(scalar, key)
        self._active.pop()
        return self._done[key]

    def _filled(self, scalar: Scalar, key: str) -> Scalar:
        try:
            parts = _parts(scalar.text)
        except ValueError as error:
            raise ConfigError(f"{self._place(key)}'{key}': {error}") from None
        if len(parts) == 1 and isinstance(parts[0], _Reference):
            target = self._lookup(parts[0].expression, key)
            return target if target.source is None else replace(target, source=scalar.text)
        text, uses_environment, has_reference = "", False, False
        for part in parts:
            if isinstance(part, str):
                text += part
                continue
            target = self._lookup(part.expression, key)
            if target.is_null:
                raise ConfigError(
                    f"{self._place(key)}'{key}': ${{{part.expression}}} is null, which cannot be part of a text"
                )
            text += target.text
            has_reference, uses_environment = True, uses_environment or target.source is not None
            if len(text) > MAX_LENGTH:
                raise ConfigError(
                    f"{self._place(key)}'{key}' has more than {MAX_LENGTH:,} characters after references are filled in"
                )
        return Scalar(text, scalar.quoted or has_reference, scalar.text if uses_environment else None)

    def _lookup(self, expression: str, key: str) -> Scalar:
        if expression.startswith(_ENVIRONMENT):
            return self._variable(expression.removeprefix(_ENVIRONMENT), key)
        if not _KEY.fullmatch(expression):
            raise ConfigError(
                f"{self._place(key)}'{key}': ${{{expression}}} is not supported; write a full key such as "
                "${run_name}, ${oc.env:NAME} for an environment variable, or \\${ for the characters themselves"
            )
        node = self._root
        for part in expression.split("."):
            if isinstance(node, dict) and part in node:
                node = node[part]
            elif isinstance(node, list) and part.isdecimal() and len(part) < 7 and int(part) < len(node):
                node = node[int(part)]
            else:
                raise ConfigError(f"{self._place(key)}'{key}': ${{{expression}}} refers to a key that does not exist")
        if not isinstance(node, Scalar):
            kind = "section" if isinstance(node, dict) else "list"
            raise ConfigError(f"{self._place(key)}'{key}': ${{{expression}}} is a {kind}; refer to single values")
        return self._scalar(node, expression)

    def _variable(self, text: str, key: str) -> Scalar:
        name, comma, default = text.partition(",")
        name = name.strip()
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{self._place(key)}'{key}': '{name}' is not a valid environment variable name")
        source = f"${{{_ENVIRONMENT}{text}}}"
        if name in os.environ:
            return Scalar(os.environ[name], quoted=True, source=source)
        if not comma:
            raise ConfigError(
                f"{self._place(key)}'{key}': environment variable '{name}' is not set; set it, or write "
                f"${{oc.env:{name},default}}"
            )
        content = parse_quoted(default.strip())
        fallback = Scalar(default.strip()) if content is None else Scalar(content, quoted=True)
        return replace(self._filled(fallback, key), source=source)


def _parts(text: str) -> list[str | _Reference]:
    """Literal texts, unescaped, and references in order."""
    parts: list[str | _Reference] = []
    position = 0
    while found := _OPEN.search(text, position):
        slashes = len(found[1])
        literal = text[position : found.start()] + "\\" * (slashes // 2)
        if slashes % 2:
            parts.append(literal + "${")
            position = found.end()
            continue
        end = _closing_brace(text, found.end())
        parts += [literal] if literal else []
        parts.append(_Reference(text[found.end() : end].strip()))
        position = end + 1
    rest = text[position:]
    return [*parts, rest] if rest or not parts else parts


def _closing_brace(text: str, start: int) -> int:
    depth, position = 1, start
    while position < len(text):
        if text.startswith("${", position):
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if not depth:
                return position
        position += 1
    raise ValueError("${ without a closing brace; write \\${ for the characters themselves")

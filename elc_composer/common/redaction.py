"""What comes from the environment stays there: configs that are printed or saved name the variable, not its value."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from elc_composer.common.errors import ConfigError

_VARIABLE = re.compile(r"\$\{oc\.env:\s*([^,}\s]+)")
# Secret keys may hold a slash, but a number and a slash after the colon are a port.
_LOGIN = re.compile(r"://(?:[^/\s@]+|[^/\s@:]+:(?!\d+/)[^\s@]*)@")


def hide(text: str, written: Iterable[str]) -> str:
    """A message without the values of the environment variables that a config names.

    Args:
        text: the message.
        written: the config's texts, with their `${oc.env:NAME}`.
    """
    for name in sorted({name for each in written for name in _VARIABLE.findall(each)}):
        if value := os.environ.get(name):
            text = text.replace(value, f"${{oc.env:{name}}}")
    return text


def put_back(tree: Any, written: Mapping[str, str]) -> Any:
    """A plain tree in which the values at `written`'s keys are as they were written."""
    for key, text in written.items():
        *parents, last = key.split(".")
        node = tree
        for part in parents:
            node = node[int(part) if isinstance(node, list) else part]
        node[int(last) if isinstance(node, list) else last] = text
    return tree


def refuse_logins(resolved: Any) -> None:
    """Refuse addresses that hold a name or password, which loggers and error messages would spread.

    Raises:
        ConfigError: naming the key, and not the value.
    """
    for key, value in leaves(resolved):
        if isinstance(value, str) and _LOGIN.search(value):
            raise ConfigError(
                f"'{key}' is an address with a user name or password in it; give these by the environment variables "
                "of the service instead (AWS_ACCESS_KEY_ID, MLFLOW_TRACKING_USERNAME, ...)"
            )


def hide_logins(text: str) -> str:
    """A message without the names and passwords of addresses in it."""
    return _LOGIN.sub("://...@", text)


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested dicts and lists, by its dotted key."""
    if isinstance(tree, (dict, list)):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree

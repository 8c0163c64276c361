"""What comes from the environment stays there: configs that are printed or saved name the variable, not its value."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from elc_composer.common.errors import ConfigError

_VARIABLE = re.compile(r"\$\{oc\.env:\s*([^,}\s]+)")
# Secret keys may hold a slash, but a number and a slash after the colon are a port.
_LOGIN = re.compile(r"://(?:[^/\s@]+|[^/\s@:]+:(?!\d+/)[^\s@]*)@")


def from_environment(raw: Any, resolved: Any) -> dict[str, str]:
    """The values that hold an environment variable's, by their dotted keys, each as it was written.

    Args:
        raw: plain tree with interpolations as written.
        resolved: the same tree, with values in their place.
    """
    written, values = dict(leaves(raw)), dict(leaves(resolved))
    secrets = environment_values(written)
    return {
        key: text
        for key, text in written.items()
        if isinstance(text, str)
        and "${" in text
        and ("oc.env" in text or any(secret in str(values.get(key)) for secret in secrets.values()))
    }


def environment_values(written: Mapping[str, Any]) -> dict[str, str]:
    """The variables that a config's leaves name, with what they hold; empty ones are left out."""
    names = {name for text in written.values() if isinstance(text, str) for name in _VARIABLE.findall(text)}
    return {name: value for name in names if (value := os.environ.get(name))}


def hide(text: str, raw: Any) -> str:
    """A message without the values of the environment variables that a config names."""
    for name, value in environment_values(dict(leaves(raw))).items():
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

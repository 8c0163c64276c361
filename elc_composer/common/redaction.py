"""Keeps secrets out of saved configs and messages: values of environment variables, and logins in addresses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from elc_composer.common.errors import ConfigError

_VARIABLE = re.compile(r"\$\{oc\.env:\s*([^,}\s]+)")
# A secret key may contain a slash, but a number and a slash after the colon are a port.
_LOGIN = re.compile(r"://(?:[^/\s@]+|[^/\s@:]+:(?!\d+/)[^\s@]*)@")


# The same with a slash too few, as a shell, pathlib or a typing mistake leaves it.
_MISTYPED_LOGIN = re.compile(
    r"\s*(?:(?:s3|gs|oci|azure|azure-dl|hf|https?):|[A-Za-z][A-Za-z0-9+.-]*:/)(?!/)[^\s@]*@", re.I
)


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
    """Replace values by their text with `${oc.env:NAME}`, by dotted key; changes and returns `tree`."""
    for key, text in written.items():
        *parents, last = key.split(".")
        node = tree
        for part in parents:
            node = node[int(part) if isinstance(node, list) else part]
        node[int(last) if isinstance(node, list) else last] = text
    return tree


def refuse_logins(resolved: Any) -> None:
    """Refuse addresses with a user name or password, which loggers and error messages would show.

    Raises:
        ConfigError: with the key, without the value.
    """
    for key, value in leaves(resolved):
        if isinstance(value, str) and (_LOGIN.search(value) or _MISTYPED_LOGIN.match(value)):
            raise ConfigError(
                f"'{key}' is an address with a user name or password in it; set the environment variables "
                "of the service instead (AWS_ACCESS_KEY_ID, MLFLOW_TRACKING_USERNAME, ...)"
            )


def hide_logins(text: str) -> str:
    """A message without user names and passwords of addresses."""
    return _LOGIN.sub("://...@", text)


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested dicts and lists with its dotted key."""
    if isinstance(tree, (dict, list)):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree

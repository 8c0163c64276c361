"""Prints a Markdown table of every key of a run config, read from the dataclasses (docs/configuration.md)."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from enum import Enum
from typing import Any, get_args, get_type_hints

from elc_composer.training.config import RunConfig

HEADER = """# Configuration

Every key of a run config (`yamls/*.yaml`), its type, its default and what it does. Written by
`python -m elc_composer.training.config_reference`; a test keeps it current.

On the command line any key is replaced by its path: `optimizer.lr=5e-3 stages.0.seq_length=64`.
Lists grow only as a whole: `data.streams=[{local: A}, {local: B}]`.
`${key}` refers to another key, `${oc.env:NAME}` to an environment variable. A wrong key or value stops with one line.
"""


def reference() -> str:
    """The whole page as Markdown."""
    return "\n".join([HEADER, *_sections(RunConfig, "")]) + "\n"


def _sections(schema: type, prefix: str) -> Iterator[str]:
    title = prefix.rstrip(".") or "Top level"
    yield f"\n## `{title}`\n" if prefix else f"\n## {title}\n"
    yield _summary(schema) + "\n"
    yield "| key | type | default | |\n|---|---|---|---|"
    hints, notes, nested = get_type_hints(schema), _notes(schema), []
    for field in dataclasses.fields(schema):
        if not field.init:
            continue
        inner, is_list = _section_of(hints[field.name])
        if inner is not None:
            nested.append((inner, f"{prefix}{field.name}{'[i]' if is_list else ''}."))
        yield f"| `{field.name}` | {_type_name(hints[field.name])} | {_default(field)} | {notes.get(field.name, '')} |"
    for inner, path in nested:
        yield from _sections(inner, path)


def _section_of(hint: Any) -> tuple[type | None, bool]:
    options = [option for option in get_args(hint) or (hint,) if option is not type(None)]
    found = next((option for option in options if dataclasses.is_dataclass(option)), None)
    return found, getattr(hint, "__origin__", None) is list  # type: ignore[return-value]


def _type_name(hint: Any) -> str:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(f"`{member.name}`" for member in hint)
    if hint is type(None):
        return "null"
    if getattr(hint, "__origin__", None) is list:
        return f"list of {_type_name(get_args(hint)[0])}"
    if get_args(hint):
        return " or ".join(_type_name(option) for option in get_args(hint))
    return "section" if dataclasses.is_dataclass(hint) else getattr(hint, "__name__", str(hint))


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
        on = "on" if dataclasses.is_dataclass(value) else f"`{value}`"
        return (
            f"{len(value)} of them" if isinstance(value, list) and value and dataclasses.is_dataclass(value[0]) else on
        )
    value = field.default
    if value is dataclasses.MISSING:
        return "required"
    if value is None or isinstance(value, bool):
        return f"`{({None: 'null', True: 'true', False: 'false'})[value]}`"
    return f"`{value.name if isinstance(value, Enum) else value}`".replace("|", "\\|")


def _summary(schema: type) -> str:
    return " ".join((schema.__doc__ or "").strip().split("\n\n")[0].split())


def _notes(schema: type) -> dict[str, str]:
    """The string under each field, or its entry in the docstring's `Args`."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(schema))).body[0].body  # type: ignore[attr-defined]
    except (OSError, TypeError):
        body = []
    notes = {}
    for node, following in itertools.pairwise(body):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            notes[ast.unparse(node.target)] = " ".join(str(following.value.value).split())
    for line in (schema.__doc__ or "").partition("Args:")[2].splitlines():
        name, colon, text = line.strip().partition(": ")
        if colon and name.isidentifier():
            notes.setdefault(name, text)
    return {name: text.replace("|", "\\|") for name, text in notes.items()}


if __name__ == "__main__":
    print(reference(), end="")

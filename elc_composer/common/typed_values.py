"""Conversion of text from YAML or the command line to the types of a dataclass."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from elc_composer.common.errors import ConfigError, one_line
from elc_composer.common.json_files import MAX_DIGITS
from elc_composer.common.yaml_text import Scalar, Tree

Place = Callable[[str], str]
"""Gives the start of an error message for a dotted key: `file:line: ` or the override."""

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SEXAGESIMAL = re.compile(r"[+-]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?")
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_YES, _NO = ("yes", "y", "on", "1"), ("no", "n", "off", "0")
_UNPRINTABLE = re.compile("[\0\ud800-\udfff]")


def options_of(hint: Any) -> list[Any]:
    """The alternatives of a type other than None."""
    return [option for option in union_members(hint) if option is not type(None)]


def union_members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union; the type itself if it is none."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def section_of(hint: Any) -> type | None:
    """The dataclass that a type allows, if any."""
    return next((each for each in options_of(hint) if isinstance(each, type) and dataclasses.is_dataclass(each)), None)


def is_container(hint: Any) -> bool:
    """True if a value of the type is a section, list or mapping."""
    return any(dataclasses.is_dataclass(each) or get_origin(each) in (list, dict) for each in options_of(hint))


def convert(tree: Tree, hint: Any, key: str, place: Place) -> Any:
    """A value of the type `hint`.

    Text stays as it was written; null is None for optional types; numbers are plain decimals; booleans are `true` and
    `false`; an enum is given by its member's name; a dataclass needs all keys that have no default.

    Raises:
        ConfigError: the text does not fit the type; the message names the key and says what to write.
    """
    members = options_of(hint)
    if isinstance(tree, Scalar) and tree.is_null and type(None) in union_members(hint):
        return None
    for option in members:
        if dataclasses.is_dataclass(option) and isinstance(tree, dict):
            return _section(tree, option, key, place)  # type: ignore[arg-type]
        if get_origin(option) is list and isinstance(tree, list):
            (item,) = get_args(option)
            return [convert(each, item, f"{key}.{index}", place) for index, each in enumerate(tree)]
        if get_origin(option) is dict and isinstance(tree, dict):
            _, item = get_args(option)
            return {name: convert(each, item, f"{key}.{name}", place) for name, each in tree.items()}
        if option is Any:
            return untyped(tree)
    if not isinstance(tree, Scalar):
        found = "a section of keys" if isinstance(tree, dict) else "a list"
        raise ConfigError(f"{place(key)}'{key}' is {found}; it must be {_wanted(hint)}")
    if tree.is_null:
        shown = tree.text or "empty"
        quote = f', or "{tree.text}" in quotes for this text' if str in members else ""
        remove = "; remove the key to keep the default" if is_container(hint) else ""
        raise ConfigError(f"{place(key)}'{key}' is {shown}; it must be {_wanted(hint)}{quote}{remove}")
    return _scalar(tree, hint, key, place)


def untyped(tree: Tree) -> Any:
    """Plain values without a schema: null, true and false, plain decimals as numbers, anything else as text."""
    if isinstance(tree, dict):
        return {name: untyped(item) for name, item in tree.items()}
    if isinstance(tree, list):
        return [untyped(item) for item in tree]
    if tree.quoted:
        return tree.text
    if tree.is_null:
        return None
    if tree.text in (*_TRUE, *_FALSE):
        return tree.text in _TRUE
    found = _number(tree.text, int)
    return next((each for each in (found, _number(tree.text, float)) if each is not None), tree.text)


def unknown_key(name: str, full_key: str, schema: type, place: Place) -> ConfigError:
    """The error for a key that a section does not have."""
    known = [field.name for field in dataclasses.fields(schema) if field.init]
    return ConfigError(f"{place(full_key)}unknown key '{full_key}'{nearest(name, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the known name that is close to `name`, else all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, 1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; valid here: {', '.join(known)}" if known else ""


def _section(tree: dict[str, Tree], schema: type, key: str, place: Place) -> Any:
    hints = get_type_hints(schema)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(schema):
        if not field.init:
            continue
        full_key = f"{key}.{field.name}" if key else field.name
        if field.name in tree:
            values[field.name] = convert(tree[field.name], hints[field.name], full_key, place)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{place(key)}'{full_key}' is missing; set it to {_wanted(hints[field.name])}")
    try:
        return schema(**values)
    except (ValueError, ArithmeticError) as error:
        raise ConfigError(_with_full_key(one_line(error), key, list(values))) from None


def _with_full_key(message: str, key: str, fields: list[str]) -> str:
    """A message of a section about itself with the full key; the section knows at most the last part of it."""
    top, last = key.split(".")[0], key.split(".")[-1]
    first_word = message.split(maxsplit=1)[0]
    if not key or first_word.startswith(f"{top}.") or first_word == f"{top}:":
        return message
    if first_word == f"{last}:":
        return f"{key}{message.removeprefix(last)}"
    if first_word.startswith(f"{last}."):
        return f"{key.removesuffix(last)}{message}"
    return f"{key}.{message}" if first_word in fields else f"{key}: {message}"


def _scalar(scalar: Scalar, hint: Any, key: str, place: Place) -> Any:
    members = options_of(hint)
    text = scalar.text.strip()
    for option in members:
        if option is bool and text in (*_TRUE, *_FALSE):
            return text in _TRUE
        if option in (int, float) and (str not in members or not scalar.quoted):
            number = _number(text, option)
            if number is not None:
                return number
        if isinstance(option, type) and issubclass(option, Enum) and text in option.__members__:
            return option[text]
    if str in members:
        found = _UNPRINTABLE.search(scalar.text)
        if found is not None:
            raise ConfigError(f"{place(key)}'{key}' holds {found[0]!r}, but text is UTF-8 without NUL characters")
        return scalar.text
    shown = _shortened(scalar.source or scalar.text)
    # Advice repeats the value, which stays hidden if it comes from an environment variable.
    advice = "" if scalar.source is not None else _advice(text, members)
    raise ConfigError(f"{place(key)}'{key}' is {shown!r}; it must be {_wanted(hint)}{advice}")


def _number(text: str, kind: type) -> int | float | None:
    if kind is int:
        return int(text) if _INTEGER.fullmatch(text) and len(text) <= MAX_DIGITS else None
    number = float(text) if _FLOAT.fullmatch(text) else math.inf
    return number if math.isfinite(number) else None


def _wanted(hint: Any) -> str:
    return " or ".join(dict.fromkeys(_kind(member) for member in sorted(union_members(hint), key=_null_last)))


def _null_last(member: Any) -> bool:
    return member is type(None)


def _kind(member: Any) -> str:
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text", type(None): "null"}
    if member in names:
        return names[member]
    if isinstance(member, type) and issubclass(member, Enum):
        return f"one of {', '.join(member.__members__)}"
    return "a list such as [a, b]" if get_origin(member) is list else "a section of keys"


def _advice(text: str, members: list[Any]) -> str:
    """What to write for a value that another reader of YAML takes for a number or boolean."""
    if bool in members:
        low = text.lower()
        return "; write true" if low in _YES else "; write false" if low in _NO else ""
    kind = int if int in members else float if float in members else None
    if kind is None:
        return ""
    number = _meant(text, kind)
    if number is not None:
        return f" in plain digits; write {number}"
    written = len(text) > MAX_DIGITS and _INTEGER.fullmatch(text)
    return f" of at most {MAX_DIGITS} digits" if kind is int and written else ""


def _meant(text: str, kind: type) -> int | float | None:
    """The number that a text stands for with a sign, leading zeros, underscores, another base, or base 60."""
    if len(text) > MAX_DIGITS:
        return None
    sign = -1 if text.startswith("-") else 1
    bare = text.lstrip("+-").replace("_", "")
    if _SEXAGESIMAL.fullmatch(text):
        number: float = 0
        for part in bare.split(":"):
            number = 60 * number + float(part)
    else:
        zeros = re.sub(r"^0+(?=[0-9])", "", bare)
        try:
            number = float(int(bare, 0)) if bare[:2] in ("0x", "0o", "0b") else float(zeros)
        except ValueError:
            return None
    number *= sign
    if not math.isfinite(number) or (kind is int and not number.is_integer()):
        return None
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."

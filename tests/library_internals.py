"""Lists the private names of libraries that the packages use, in subclasses and elsewhere, from their source.

python -m tests.library_internals
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator

import elc_composer
from tests.conftest import ROOT

LIBRARIES = ("composer", "streaming", "torch", "transformers", "numpy", "tokenizers")
OWN = "elc_composer"
PACKAGES = (OWN, "streaming_prep")
NOT_OF_A_LIBRARY = {"_as_written", "_minimal_pair_logits", "_over_time_", "_paradigm", "_token_id", "_exit"}
"""Keys and parts of names that the packages make up themselves, and `os._exit`, which is documented."""


@functools.cache
def private_names() -> dict[str, set[str]]:
    """For every class of the package with a base class in a library: the private names of that base in its code."""
    found: dict[str, set[str]] = {}
    for own in subclasses():
        written = attributes(own)
        for base in own.__mro__[1:]:
            if base.__module__.split(".")[0] in LIBRARIES:
                shared = written & (attributes(base) | set(vars(base)))
                if shared:
                    found.setdefault(f"{own.__module__}.{own.__name__}", set()).update(shared)
    return found


def subclasses() -> Iterator[type]:
    """Classes of the package whose method resolution order has a class of a library."""
    for module in pkgutil.walk_packages(elc_composer.__path__, f"{OWN}."):
        if module.name.rpartition(".")[2] == "__main__":
            continue
        for each in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(each) and each.__module__ == module.name:
                yield each


def attributes(cls: type) -> set[str]:
    """Private names (one underscore) that the class defines, reads or sets on any object."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return set()
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    names |= {
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


@functools.cache
def other_names() -> dict[str, set[str]]:
    """Files that use a private name which nothing in the packages defines, except names that `private_names` lists.

    Found are attributes of any object, imported names and parts of module names, and texts that are such a name: they
    are looked up by `getattr` or compared with names that a library writes.
    """
    trees = {
        file: ast.parse(file.read_text()) for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))
    }
    known = set(NOT_OF_A_LIBRARY).union(*private_names().values())
    for tree in trees.values():
        known |= set(_definitions(tree))
    found: dict[str, set[str]] = {}
    for file, tree in trees.items():
        for name in _mentions(tree):
            if name.startswith("_") and not name.startswith("__") and len(name) > 1 and name not in known:
                found.setdefault(name, set()).add(str(file.relative_to(ROOT)))
    return found


def _definitions(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_own(node.value):
            yield node.attr


def _is_own(node: ast.AST) -> bool:
    """Whether setting an attribute of it defines one of the packages' own; `config._x = ...` may set a library's."""
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _mentions(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            yield from (node.module or "").split(".")
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from alias.name.split(".")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value


if __name__ == "__main__":
    for place, names in sorted(private_names().items()):
        print(f"{place}: {', '.join(sorted(names))}")
    for name, places in sorted(other_names().items()):
        print(f"{name}: {', '.join(sorted(places))}")

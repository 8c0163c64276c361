"""Lists private names of Composer, Streaming and torch that the package's subclasses override or use.

python -m tests.library_internals
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator

import elc_composer

LIBRARIES = ("composer", "streaming", "torch", "transformers")
OWN = "elc_composer"


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


if __name__ == "__main__":
    for place, names in sorted(private_names().items()):
        print(f"{place}: {', '.join(sorted(names))}")

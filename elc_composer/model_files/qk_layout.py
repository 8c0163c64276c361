"""Detects how a folder's modeling code splits `in_proj_qk` into queries and keys; reorders rows that differ.

Three layouts exist in public code:

- ELC-BERT: all queries, then all keys, for contents and for positions. This is the layout of `elc_composer.model`.
- Per head: the queries and keys of head 0, then those of head 1, and so on. A permutation of rows converts it.
- LTG-BERT: contents as in ELC-BERT, positions per head. Contents and positions share the rows, so that no permutation
  converts it.

Shapes are the same in all three; a model loaded with the wrong layout runs and gives wrong logits.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

CONTENTS, POSITIONS = "contents", "positions"
WHOLE, PER_HEAD = "all queries, then all keys", "per head"
_RESHAPES = ("view", "reshape", "unflatten")


@dataclass
class Split:
    """Layout of contents and of positions, `WHOLE` or `PER_HEAD`; a key is missing if the code does not show it."""

    layouts: dict[str, str] = field(default_factory=dict)

    @property
    def is_mixed(self) -> bool:
        """Contents and positions differ."""
        return len(set(self.layouts.values())) > 1

    def is_all(self, layout: str) -> bool:
        """Contents and positions both have this layout."""
        return set(self.layouts) == {CONTENTS, POSITIONS} and set(self.layouts.values()) == {layout}


def split_in_code(folder: Path, pattern: str = "modeling*.py") -> Split:
    """The layout that the modeling code of a folder uses; the files are parsed, not run."""
    split = Split()
    for file in sorted(folder.glob(pattern)):
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                for part, layout in _splits(function):
                    # Per-head code also has ordinary reshapes: the one per-head reshape decides.
                    if layout == PER_HEAD or part not in split.layouts:
                        split.layouts[part] = layout
    return split


def contiguous_qk(name: str, value: Tensor, heads: int) -> Tensor:
    """Reorder the rows of a per-head `in_proj_qk` (`[2 * D, ...]`) to all queries, then all keys."""
    if ".in_proj_qk." not in name:
        return value
    if value.ndim == 0 or value.shape[0] % (2 * heads):
        return value  # wrong shape: reported with all others later
    rows = value.unflatten(0, (heads, 2, -1))
    return torch.cat((rows[:, 0], rows[:, 1]), dim=0).flatten(0, 1)


def _splits(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """Follow the results of `in_proj_qk` through a function's assignments: (contents or positions, layout)."""
    known: dict[str, str] = {}
    for statement in ast.walk(function):
        for call in ast.walk(statement) if isinstance(statement, ast.stmt) else ():
            if isinstance(call, ast.Call) and (part := _part(call, known)):
                yield part, PER_HEAD if _is_per_head(call) else WHOLE
        if isinstance(statement, ast.Assign) and (part := _part(statement.value, known)):
            known.update((target.id, part) for target in statement.targets if isinstance(target, ast.Name))


def _part(expression: ast.AST, known: dict[str, str]) -> str | None:
    """`contents` or `positions` if the expression contains a result of `in_proj_qk`, else None."""
    for node in ast.walk(expression):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("in_proj_qk"):
            inputs = ast.unparse(node).split("in_proj_qk", 1)[1]
            return POSITIONS if "relative" in inputs or "pos" in inputs else CONTENTS
        if isinstance(node, ast.Name) and node.id in known:
            return known[node.id]
    return None


def _is_per_head(call: ast.Call) -> bool:
    """Whether the call is a reshape to `[..., heads, 2 * head_size]` or `[..., heads, 2, head_size]`."""
    if not (isinstance(call.func, ast.Attribute) and call.func.attr in _RESHAPES):
        return False
    sizes = [size for each in call.args for size in (each.elts if isinstance(each, (ast.Tuple, ast.List)) else [each])]
    for before, size in zip([None, *sizes], sizes):
        if isinstance(size, ast.BinOp) and isinstance(size.op, ast.Mult):
            factors = (size.left, size.right)
            if any(_is_two(each) for each in factors) and any("head" in ast.unparse(each) for each in factors):
                return True
        if _is_two(size) and before is not None and "head" in ast.unparse(before):
            return True
    return False


def _is_two(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value == 2

"""Compiled layers: one graph for all layers of a shape, the mixing kernels outside."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor

from .layer_norm import autocast_dtype

MAX_SHAPES = 8
"""Shapes that are compiled. Each takes seconds to minutes, so that further ones run uncompiled."""
RECOMPILE_LIMIT = 64
"""Graphs that torch keeps for one function (its default is 8); beyond, `fullgraph=True` is an error."""


class CompiledLayers:
    """Runs a layer's `after_mix` compiled by `torch.compile`, for the first `MAX_SHAPES` shapes.

    All layers share one graph for each shape: the parameters are its inputs. The last layer with `positions` has
    another one. Shapes are static (`dynamic=False`), since code for symbolic sizes is slower.
    """

    def __init__(self, after_mix: Callable[..., Tensor], backend: str | Callable[..., Any]) -> None:
        import torch._dynamo

        # torch 2.7 and later have this name.
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILE_LIMIT)
        self.plain = after_mix
        self.compiled = torch.compile(after_mix, backend=backend, fullgraph=True, dynamic=False)
        self.shapes: set[tuple[Any, ...]] = set()
        self.seconds = 0.0
        """Time of the first forward call of each shape: nearly all compilation. A backward is compiled with it, or at
        its first call, which is not counted."""

    def __call__(
        self, layer: Any, x: Tensor, mask: Tensor | None, relative: Tensor, buckets: Tensor, positions: Tensor | None
    ) -> Tensor:
        """The result of `layer.after_mix(x, mask, relative, buckets, positions)`."""
        shape = (
            x.shape,
            x.dtype,
            None if mask is None else (mask.shape, mask.dtype),
            None if positions is None else len(positions),
            autocast_dtype(x),
        )
        if shape in self.shapes:
            return self.compiled(layer, x, mask, relative, buckets, positions)
        if len(self.shapes) == MAX_SHAPES:
            warnings.warn(f"{MAX_SHAPES} shapes of batches were compiled; further ones run uncompiled", stacklevel=2)
            return self.plain(layer, x, mask, relative, buckets, positions)
        self.shapes.add(shape)
        started = time.perf_counter()
        output = self.compiled(layer, x, mask, relative, buckets, positions)
        self.seconds += time.perf_counter() - started
        return output

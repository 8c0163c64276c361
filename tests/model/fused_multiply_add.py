"""Fused multiply-adds in Triton's interpreter, as a GPU's compiler forms them.

The compiler contracts `a * b + c` to one instruction that rounds once. The interpreter rounds the product and the sum,
so that it cannot show errors that contraction brings in. `contracted` makes it round once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np


@contextmanager
def contracted(which: str) -> Iterator[None]:
    """Contract every float32 sum and difference that has a product as an operand.

    Args:
        which: operand that is fused where both are products, `first` or `second`; the compiler may choose either.
    """
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    multiply = InterpreterBuilder.create_fmul
    expand, broadcast = InterpreterBuilder.create_expand_dims, InterpreterBuilder.create_broadcast

    def product(self: Any, a: Any, b: Any) -> Any:
        result = multiply(self, a, b)
        if result.data.dtype == np.float32:
            result.attr["factors"] = (a.data, b.data)
        return result

    def expanded(self: Any, x: Any, axis: int) -> Any:
        result = expand(self, x, axis)
        if "factors" in x.attr:
            result.attr["factors"] = tuple(
                np.expand_dims(np.broadcast_to(f, x.data.shape), axis) for f in x.attr["factors"]
            )
        return result

    def broadcasted(self: Any, x: Any, shape: Any) -> Any:
        result = broadcast(self, x, shape)
        if "factors" in x.attr:
            result.attr["factors"] = tuple(np.broadcast_to(f, result.data.shape) for f in x.attr["factors"])
        return result

    def total(sign: float) -> Any:
        def add(self: Any, a: Any, b: Any) -> Any:
            fused = [x for x in (a, b) if "factors" in x.attr]
            if not fused:
                return TensorHandle(np.add(a.data, b.data) if sign > 0 else np.subtract(a.data, b.data), a.dtype.scalar)
            chosen = fused[0 if which == "first" else -1]
            # A product of two float32 is exact in float64; only the sum is rounded, once more to float32.
            left, right = (factor.astype(np.float64) for factor in chosen.attr["factors"])
            exact = left * right
            with np.errstate(invalid="ignore", over="ignore"):
                summed = exact + sign * b.data if chosen is a else a.data + sign * exact
                return TensorHandle(np.asarray(summed, dtype=np.float32), a.dtype.scalar)

        return add

    with mock.patch.multiple(
        InterpreterBuilder,
        create_fmul=product,
        create_expand_dims=expanded,
        create_broadcast=broadcasted,
        create_fadd=total(1.0),
        create_fsub=total(-1.0),
    ):
        yield

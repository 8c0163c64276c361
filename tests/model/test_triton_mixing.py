"""The mixing kernels: their cases in Triton's interpreter, and their compilation for a GPU that need not be there."""

from __future__ import annotations

import pytest

from tests.model.triton_interpreter import interpreted

test_in_interpreter = interpreted("triton_mixing_cases.py")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["_weighted_sum", "_inner_products"])
@pytest.mark.parametrize("states", [1, 13, 49])
def test_compiles_for_a_gpu(name: str, states: int) -> None:
    triton = pytest.importorskip("triton", "3.3")
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from elc_composer.model import triton_mixing

    kernel = getattr(triton_mixing, name)
    constants = {"WIDE": tl.float32, "BLOCK": triton_mixing.BLOCK, "ROOM": triton.next_power_of_2(states)}
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    kinds = {"size": "i32", "partial": "*fp32", "tensors": ("*bf16",) * states, **dict.fromkeys(constants, "constexpr")}
    signature = {name: kinds.get(name, "*bf16") for name in kernel.arg_names}
    compiled = triton.compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 90, 32))
    assert compiled.asm["cubin"]

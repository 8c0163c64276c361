"""The Triton attention: its cases in Triton's interpreter, and its kernels compiled for GPUs that need not be there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from elc_composer.model import triton_attention_kernels as kernels
from elc_composer.model.triton_attention import launches, shared_arguments
from tests.model.triton_interpreter import interpreted

test_in_interpreter = interpreted("triton_attention_cases.py")
test_golden_numbers_in_interpreter = pytest.mark.golden(
    pytest.mark.slow(
        interpreted(
            "test_golden.py",
            "test_loss_and_gradients",
            select="test_loss_and_gradients and triton and float32 and weighted_output and as_given",
        )
    )
)

# An H100 gives a block 227 KiB of shared memory, an A100 163, consumer cards 99.
SHARED_MEMORY = 99 * 1024
POINTERS = {"BUCKETS": "*i32", "PADDING": "*i8", "SEED": "*i64", "LSE": "*fp32", "DELTA": "*fp32"}
NUMBERS = {"B": "i32", "T": "i32", "H": "i32", "threshold": "i32"}
NUMBERS |= dict.fromkeys(("scale", "scale_log2", "keep_scale"), "fp32")
TYPES = {torch.bfloat16: "*bf16", torch.float32: "*fp32"}


@pytest.mark.parametrize("name", ["forward_kernel", "query_gradient_kernel", "key_gradient_kernel"])
@pytest.mark.parametrize(
    ("dtype", "length", "head_size", "architecture"),
    [
        (torch.bfloat16, 128, 64, 90),
        (torch.bfloat16, 1, 64, 90),
        pytest.param(torch.bfloat16, 128, 64, 80, marks=pytest.mark.slow),
        pytest.param(torch.bfloat16, 128, 128, 90, marks=pytest.mark.slow),
        pytest.param(torch.float32, 128, 64, 90, marks=pytest.mark.slow),
    ],
)
def test_compiles_for_a_gpu(name: str, dtype: torch.dtype, length: int, head_size: int, architecture: int) -> None:
    triton = pytest.importorskip("triton", "3.3")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(kernels, name)
    query_key: Any = SimpleNamespace(dtype=dtype, shape=(2, length, 2, 12, head_size), device=torch.device("cuda"))
    constants = shared_arguments(query_key, torch.empty(64), torch.empty(0), 0.1)
    forward, backward = launches(length, head_size, dtype.itemsize)
    launch = forward if name == "forward_kernel" else backward
    constants |= {"BLOCK_M": launch.block_m, "BLOCK_N": launch.block_n, "BLOCK": launch.block_m}
    if length == 1:
        # Triton makes constants of integers that are 1.
        constants |= {"B": 1, "T": 1, "H": 1}
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    kinds = {**NUMBERS, **POINTERS, **dict.fromkeys(constants, "constexpr")}
    signature = {name: kinds.get(name, TYPES[dtype]) for name in kernel.arg_names}
    compiled = triton.compile(
        ASTSource(kernel, signature, constants),
        target=GPUTarget("cuda", architecture, 32),
        options={"num_warps": launch.warps, "num_stages": launch.stages},
    )
    assert compiled.asm["cubin"]
    assert compiled.metadata.shared <= SHARED_MEMORY

"""Triton attention: its cases in Triton's interpreter, and its kernels compiled for GPUs that need not be present."""

from __future__ import annotations

import itertools
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from elc_composer.model import triton_attention_kernels as kernels
from elc_composer.model.attention import relative_position_buckets
from elc_composer.model.triton_attention import Launch, launches, shared_arguments
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


def compiled(name: str, dtype: torch.dtype, length: int, head_size: int, architecture: int, launch: Launch) -> Any:
    """A kernel compiled by Triton for a GPU, with padding and dropout."""
    triton = pytest.importorskip("triton", "3.3")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(kernels, name)
    query_key: Any = SimpleNamespace(dtype=dtype, shape=(2, length, 2, 12, head_size), device=torch.device("cuda"))
    constants = shared_arguments(query_key, torch.empty(64), torch.empty(0), 0.1)
    constants |= {"BLOCK_M": launch.block_m, "BLOCK_N": launch.block_n, "BLOCK": launch.block_m}
    if length == 1:
        # Triton makes constants of integers that are 1.
        constants |= {"B": 1, "T": 1, "H": 1}
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    kinds = {**NUMBERS, **POINTERS, **dict.fromkeys(constants, "constexpr")}
    signature = {name: kinds.get(name, TYPES[dtype]) for name in kernel.arg_names}
    return triton.compile(
        ASTSource(kernel, signature, constants),
        target=GPUTarget("cuda", architecture, 32),
        options={"num_warps": launch.warps, "num_stages": launch.stages},
    )


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
    forward, backward = launches(length, head_size, dtype.itemsize)
    launch = forward if name == "forward_kernel" else backward
    kernel = compiled(name, dtype, length, head_size, architecture, launch)
    assert kernel.asm["cubin"]
    assert kernel.metadata.shared <= SHARED_MEMORY


@pytest.mark.parametrize(("dtype", "warps"), [(torch.bfloat16, 1), (torch.float32, 2)])
def test_short_sequences_take_few_warps_without_spills(dtype: torch.dtype, warps: int) -> None:
    launch, _ = launches(12, 64, dtype.itemsize)
    assert launch == Launch(16, 16, warps, 2)
    assert launches(17, 64, dtype.itemsize)[0].warps == launches(12, 128, dtype.itemsize)[0].warps == 4
    stores = re.findall(r"st\.local", compiled("forward_kernel", dtype, 12, 64, 90, launch).asm["ptx"])
    assert not stores


LAYOUT = re.compile(r"(#\w+) = #ttg\.blocked<\{sizePerThread = \[1, 1\], threadsPerWarp = \[(\d+), (\d+)\]")
# Only the look-ups are loads of two dimensions without a mask.
LOOK_UP = re.compile(r"tt\.load %\w+ : tensor<(\d+)x(\d+)x!tt\.ptr<bf16>, (#\w+)>")


def test_a_warp_looks_up_one_cache_line() -> None:
    """From the layouts that Triton chooses: each load of 32 scores reads one row of 64 buckets, which is 128 bytes.

    A GPU makes one pass over its L1 cache for each line that a warp's load touches; with the lanes along the rows of
    the table it makes 32.
    """
    queries, keys, length = 64, 32, 512
    code = compiled("forward_kernel", torch.bfloat16, length, 64, 90, Launch(queries, keys, 4, 2)).asm["ttgir"]
    lanes = {name: (int(rows), int(columns)) for name, rows, columns in LAYOUT.findall(code)}
    bucket = relative_position_buckets(32, length).tolist()
    look_ups = LOOK_UP.findall(code)
    assert len(look_ups) == 2
    for table, (rows, columns, layout) in zip(("by query", "by key"), look_ups, strict=True):
        tile = int(rows), int(columns)
        assert sorted(tile) == [keys, queries]
        warp = lanes[layout]
        passes = loads = 0
        for top, left in itertools.product(range(0, tile[0], warp[0]), range(0, tile[1], warp[1])):
            lines = set()
            for i, j in itertools.product(range(warp[0]), range(warp[1])):
                query, key = (top + i, left + j) if tile == (queries, keys) else (left + j, top + i)
                # The tile's corner is the key at 96 and the query at 64.
                row, distance = (query if table == "by query" else key), query + 64 - (key + 96)
                lines.add((row * 64 + bucket[distance + length - 1]) * 2 // 128)
            passes, loads = passes + len(lines), loads + 1
        assert loads == queries * keys // 32
        assert passes == loads, f"{table}: {passes} passes of {loads} loads"

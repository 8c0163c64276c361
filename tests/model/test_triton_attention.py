"""Triton attention: its cases in Triton's interpreter, and its kernels compiled for GPUs that need not be present."""

from __future__ import annotations

import pytest
import torch

from elc_composer.model import triton_attention_kernels as kernels
from elc_composer.model import triton_attention_saved_kernels as saved_kernels
from elc_composer.model.triton_attention import Launch, launches
from tests.model.compiled_attention import KERNELS, SAVED_KERNELS, compiled, costs, look_up_passes
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


@pytest.mark.parametrize("name", [*KERNELS, *SAVED_KERNELS])
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
    pytest.importorskip("triton", "3.3")
    saved = name in SAVED_KERNELS
    forward, backward = launches(length, head_size, dtype.itemsize, saved)
    launch = forward if name == "forward_kernel" else backward._replace(block_n=forward.block_n)
    module = saved_kernels if saved else kernels
    kernel = compiled(getattr(module, name), dtype, length, head_size, architecture, launch, backward.block_m)
    assert kernel.asm["cubin"]
    assert kernel.metadata.shared <= SHARED_MEMORY


@pytest.mark.parametrize(("dtype", "warps"), [(torch.bfloat16, 1), (torch.float32, 2)])
def test_short_sequences_take_few_warps_without_spills(dtype: torch.dtype, warps: int) -> None:
    pytest.importorskip("triton", "3.3")
    launch, _ = launches(12, 64, dtype.itemsize)
    assert launch == Launch(16, 16, warps, 2)
    assert launches(17, 64, dtype.itemsize)[0].warps == launches(12, 128, dtype.itemsize)[0].warps == 4
    code = compiled(kernels.forward_kernel, dtype, 12, 64, 90, launch, 0).asm["ptx"]
    assert "st.local" not in code


@pytest.mark.parametrize("keys", [32, 64])
def test_a_warp_looks_up_one_cache_line(keys: int) -> None:
    """From the layouts that Triton chooses: each load of 32 scores reads one row of 64 buckets, which is 128 bytes.

    A GPU makes one pass over its L1 cache for each line that a warp's load touches; with the lanes along the rows of
    the table it makes 32.
    """
    pytest.importorskip("triton", "3.3")
    code = compiled(kernels.forward_kernel, torch.bfloat16, 512, 64, 90, Launch(64, keys, 4, 2)).asm["ttgir"]
    assert look_up_passes(code, 64, keys, 512) == [(64 * keys // 32, 64 * keys // 32)] * 2


def test_counts_instructions_of_the_loop() -> None:
    pytest.importorskip("triton", "3.3")
    found = costs(kernels.forward_kernel, 512, 64, Launch(64, 32, 4, 2), square=False)
    # Two products of 64 x 64 x 32: 6 instructions of at most 64 x 256 x 16 each.
    assert found["wgmma_a_tile"] == 6
    assert 1 < found["warp_instructions_a_score"] < 3
    assert found["registers"] <= 255
    assert found["spilled_bytes"] == 0

"""Costs of the attention kernels from their machine code, without a GPU.

    python -m benchmarks.attention_compiled [--length 512] [--head-size 64] [--kernels FILE] [--label NAME]

Compiles each kernel for sm_90 in bfloat16, with padding and dropout, and counts for one tile of the loop over blocks:
warp instructions for each score, matrix instructions (wgmma), and passes through the L1 cache of the loads that look
position scores up; for the whole kernel registers of a thread, spilled bytes and shared memory. The counts are exact
for the code; they are not times.

`--kernels` takes another version of `triton_attention_kernels.py`, such as one from the history, for a comparison. The
result is added to `--out` under `--label` and Triton's version.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from elc_composer.model import triton_attention_kernels, triton_attention_saved_kernels
from elc_composer.model.triton_attention import launches
from tests.model.compiled_attention import KERNELS, SAVED_KERNELS, costs, transposes_queries


def load(path: Path) -> ModuleType:
    """A file of kernels as a module."""
    spec = importlib.util.spec_from_file_location("kernels_to_compare", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    import triton

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--head-size", type=int, default=64)
    parser.add_argument("--kernels", type=Path)
    parser.add_argument("--label", default="present")
    default = Path(__file__).parent / "results" / "attention_compiled.json"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    module = load(args.kernels) if args.kernels else triton_attention_kernels
    forward, backward = launches(args.length, args.head_size, torch.bfloat16.itemsize)
    result: dict[str, Any] = {}
    transposed = transposes_queries(module.forward_kernel)
    for name in KERNELS:
        square = name != "forward_kernel"
        launch = backward if square else forward
        kernel = getattr(module, name)
        result[name] = costs(kernel, args.length, args.head_size, launch, square, query_transposed=transposed)
    if not args.kernels:
        forward, backward = launches(args.length, args.head_size, torch.bfloat16.itemsize, True)
        result["forward_kernel that saves"] = costs(
            triton_attention_kernels.forward_kernel, args.length, args.head_size, forward, False, backward.block_m
        )
        launch = backward._replace(block_n=forward.block_n)
        for name in SAVED_KERNELS:
            kernel = getattr(triton_attention_saved_kernels, name)
            result[name] = costs(kernel, args.length, args.head_size, launch, True)
    found = json.loads(args.out.read_text()) if args.out.exists() else {}
    label = f"{args.label}, {args.length} tokens, heads of {args.head_size}, Triton {triton.__version__}"
    args.out.write_text(json.dumps({**found, label: result}, indent=2) + "\n")
    print(json.dumps({label: result}, indent=2))


if __name__ == "__main__":
    main()

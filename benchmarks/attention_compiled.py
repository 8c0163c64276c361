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
import itertools
import json
import re
import subprocess
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from elc_composer.model import triton_attention_kernels, triton_attention_saved_kernels
from elc_composer.model.attention import relative_position_buckets
from elc_composer.model.triton_attention import Launch, launches, shared_arguments

POINTERS = {"BUCKETS": "*i32", "PADDING": "*i8", "SEED": "*i64", "LSE": "*fp32", "DELTA": "*fp32", "MAXIMA": "*fp32"}
NUMBERS = dict.fromkeys(("B", "T", "H", "PADDED", "threshold"), "i32")
NUMBERS |= dict.fromkeys(("scale", "scale_log2", "keep_scale"), "fp32")
TYPES = {torch.bfloat16: "*bf16", torch.float32: "*fp32"}
KERNELS = ("forward_kernel", "query_gradient_kernel", "key_gradient_kernel")
SAVED_KERNELS = ("saved_query_gradient_kernel", "saved_key_gradient_kernel")

LAYOUT = re.compile(r"(#\w+) = #ttg\.blocked<\{sizePerThread = \[1, 1\], threadsPerWarp = \[(\d+), (\d+)\]")
# Only the look-ups are loads of single elements, in two dimensions and without a mask.
LOOK_UP = re.compile(r"tt\.load %\w+ : tensor<(\d+)x(\d+)x!tt\.ptr<bf16>, (#\w+)>")
LABEL = re.compile(r"^(\.L_x_\d+):")
INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(.*);")


def compiled(
    kernel: Any, dtype: torch.dtype, length: int, head_size: int, architecture: int, launch: Launch, save: int = 0
) -> Any:
    """A kernel compiled by Triton for a GPU, with padding and dropout.

    `save`: the forward saves its probabilities for blocks of that size. A backward kernel that reads them takes the
    forward's block of keys as `block_n`.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    query_key: Any = SimpleNamespace(dtype=dtype, shape=(2, length, 2, 12, head_size), device=torch.device("cuda"))
    constants = shared_arguments(query_key, torch.empty(64), torch.empty(0), 0.1)
    constants |= {"BLOCK_M": launch.block_m, "BLOCK_N": launch.block_n, "BLOCK": launch.block_m, "SAVE": save}
    if length == 1:
        # Triton makes constants of integers that are 1.
        constants |= {"B": 1, "T": 1, "H": 1}
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    kinds = {**NUMBERS, **POINTERS, **dict.fromkeys(constants, "constexpr")}
    signature = {name: kinds.get(name, TYPES[dtype]) for name in kernel.arg_names}
    # As Triton's launcher does: it compiles for addresses and sizes that are multiples of 16, which loads use.
    aligned = {name for name, kind in signature.items() if kind.startswith("*")}
    aligned |= {"T", "B", "PADDED"} if length % 16 == 0 else set()
    attributes = {(n,): [["tt.divisibility", 16]] for n, name in enumerate(kernel.arg_names) if name in aligned}
    return triton.compile(
        ASTSource(kernel, signature, constants, attributes),
        target=GPUTarget("cuda", architecture, 32),
        options={"num_warps": launch.warps, "num_stages": launch.stages},
    )


def tool(name: str, *arguments: str) -> str:
    """Output of one of the programs that Triton's wheel contains."""
    import triton

    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    done = subprocess.run([str(path), *arguments], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def loop_body(code: str) -> list[str]:
    """Instructions of the longest loop in a disassembly by nvdisasm."""
    lines = code.splitlines()
    starts = {found.group(1): n for n, line in enumerate(lines) if (found := LABEL.match(line))}
    longest: list[str] = []
    for end, line in enumerate(lines):
        target = re.search(r"BRA `\((\.L_x_\d+)\)", line)
        if target and (start := starts.get(target.group(1), end)) < end:
            body = [found.group(1) for x in lines[start : end + 1] if (found := INSTRUCTION.match(x))]
            longest = max(longest, body, key=len)
    return longest


def look_up_passes(ttgir: str, queries: int, keys: int, length: int) -> list[tuple[int, int]]:
    """For each look-up of a tile: L1 passes and warp loads, from the layouts that Triton chose.

    A GPU makes one pass through its L1 cache for each line of 128 bytes that a warp's load touches. The first look-up
    reads the row of a query, the second one that of a key. Rows have 64 buckets in bfloat16: one line.
    """
    lanes = {name: (int(rows), int(columns)) for name, rows, columns in LAYOUT.findall(ttgir)}
    bucket = relative_position_buckets(32, length).tolist()
    counts = []
    look_ups = [found for found in LOOK_UP.findall(ttgir) if found[2] in lanes]
    for (rows, columns, layout), by_query in zip(look_ups, (True, False), strict=False):
        tile, warp = (int(rows), int(columns)), lanes[layout]
        # A square tile does not show which side is transposed: content-to-position scores are.
        upright = tile == (queries, keys) and not (queries == keys and by_query)
        passes = loads = 0
        for top, left in itertools.product(range(0, tile[0], warp[0]), range(0, tile[1], warp[1])):
            lines = set()
            for i, j in itertools.product(range(warp[0]), range(warp[1])):
                query, key = (top + i, left + j) if upright else (left + j, top + i)
                # The tile's corner is the key at 96 and the query at 64.
                row, distance = (query if by_query else key), query + 64 - (key + 96)
                lines.add((row * 64 + bucket[distance + length - 1]) * 2 // 128)
            passes, loads = passes + len(lines), loads + 1
        counts.append((passes, loads))
    return counts


def costs(kernel: Any, length: int, head_size: int, launch: Launch, square: bool, save: int = 0) -> dict[str, Any]:
    """Counts of one kernel; `square` for tiles of `block_m` x `block_m`."""
    made = compiled(kernel, torch.bfloat16, length, head_size, 90, launch, save)
    queries, keys = launch.block_m, launch.block_m if square else launch.block_n
    with tempfile.TemporaryDirectory() as folder:
        ptx, cubin = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        ptx.write_text(made.asm["ptx"])
        cubin.write_bytes(made.asm["cubin"])
        body = loop_body(tool("nvdisasm", "-c", str(cubin)))
        report = tool("ptxas", "-arch=sm_90a", "-v", str(ptx), "-o", str(Path(folder, "again.cubin")))
    words = [line.split()[1 if line.startswith("@") else 0] for line in body]

    def reported(pattern: str) -> int:
        found = re.search(pattern, report)
        return int(found.group(1)) if found else 0

    return {
        "launch": list(launch),
        "warp_instructions_a_score": round(len(body) * launch.warps / (queries * keys), 3),
        "wgmma_a_tile": sum(word.startswith("HGMMA") for word in words) * launch.warps // 4,
        "spill_instructions_a_tile_and_thread": sum(word.startswith(("LDL", "STL")) for word in words),
        "registers": reported(r"Used (\d+) registers"),
        "spilled_bytes": reported(r"(\d+) bytes spill stores"),
        "shared_memory_bytes": made.metadata.shared,
        "look_up_passes_and_loads": look_up_passes(made.asm["ttgir"], queries, keys, length),
    }


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
    for name in KERNELS:
        square = name != "forward_kernel"
        launch = backward if square else forward
        result[name] = costs(getattr(module, name), args.length, args.head_size, launch, square)
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

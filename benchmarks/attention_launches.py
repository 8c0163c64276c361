"""Time launch shapes of the attention kernels on a GPU: `python -m benchmarks.attention --tune` calls `tune`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from elc_composer.model import triton_attention
from elc_composer.model.triton_attention import Launch, attention_backward_op, attention_op, launches

# Block of queries, block of keys, warps, stages. The backward kernels' tiles are square.
FORWARD = [Launch(64, 64, 4, 2), Launch(64, 32, 4, 2), Launch(64, 64, 4, 1), Launch(128, 64, 8, 2)]
BACKWARD = [Launch(64, 64, 4, 1), Launch(64, 64, 4, 2), Launch(64, 64, 8, 1)]
# Saved probabilities or not, forward or backward, in order of importance.
ORDER = [(True, "backward"), (True, "forward"), (False, "backward"), (False, "forward")]


@contextmanager
def launched(forward: Launch, backward: Launch) -> Iterator[None]:
    """Launch the kernels with these settings."""
    with mock.patch.object(triton_attention, "launches", return_value=(forward, backward)):
        yield


def device_milliseconds(run: Callable[[], object], repeats: int) -> float:
    """Median time on the device, by events, after two calls that compile and warm up."""
    times = []
    for turn in range(repeats + 2):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        if turn >= 2:
            times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def candidates(chosen: tuple[Launch, Launch], direction: str) -> list[tuple[Launch, Launch]]:
    """Settings of both passes, the chosen ones first."""
    if direction == "forward":
        found = [chosen, *((launch, chosen[1]) for launch in FORWARD)]
    else:
        found = [chosen, *((chosen[0], launch) for launch in BACKWARD)]
    return list(dict.fromkeys(found))


def tune(
    given: dict[str, tuple[tuple[Any, ...], Tensor]], seconds: float, repeats: int = 10
) -> list[dict[str, object]]:
    """Milliseconds of each launch shape for each shape of input, until `seconds` have passed.

    Times are those of one layer's operators: the kernels, the product for the tables and the sum for the positions.

    Args:
        given: by name, the operator's arguments up to `dropout`, and the gradient of its output.
    """
    end = time.monotonic() + seconds
    found: list[dict[str, object]] = []
    for save, direction in ORDER:
        # The same number of settings for every shape of input, so that a limit on time ends none of them early.
        lists = {}
        for name, (arguments, _) in given.items():
            value = arguments[1]
            chosen = launches(value.shape[1], value.shape[-1], value.element_size(), save)
            lists[name] = candidates(chosen, direction)
        for turn in range(max(map(len, lists.values()))):
            for name, settings in lists.items():
                if turn >= len(settings):
                    continue
                forward, backward = settings[turn]
                timed = forward if direction == "forward" else backward
                entry: dict[str, object] = {
                    "inputs": name, "pass": direction, "saved_probabilities": save, "launch": list(timed),
                    "chosen": turn == 0,
                }  # fmt: skip
                found.append(entry)
                if time.monotonic() > end:
                    entry["left_out"] = "no time left"
                    continue
                arguments, d_out = given[name]
                try:
                    with launched(forward, backward), torch.no_grad():
                        run = operator(arguments, d_out, save, direction)
                        entry["ms"] = round(device_milliseconds(run, repeats), 4)
                except Exception as problem:  # too much shared memory, for instance
                    entry["left_out"] = f"{type(problem).__name__}: {str(problem).splitlines()[0]}"
    return found


def operator(arguments: tuple[Any, ...], d_out: Tensor, save: bool, direction: str) -> Callable[[], object]:
    """A call of the forward or the backward operator."""
    if direction == "forward":
        return lambda: attention_op(*arguments, save)
    *tensors, scale, dropout = arguments
    kept = attention_op(*arguments, save)
    return lambda: attention_backward_op(d_out, *tensors, *kept, scale, dropout)

"""Masked language models of one size and one training step for all: this project's forms and transformers' models.

Nothing here needs Composer or Streaming.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, DebertaV2Config, DebertaV2ForMaskedLM

from elc_composer.data.masking import MaskingConfig
from elc_composer.data.positions import LabelPositions
from elc_composer.model import ElcConfig, ElcForMaskedLM

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "vocab_size": 512},
    "small": {"hidden_size": 384, "intermediate_size": 1024, "num_attention_heads": 6, "vocab_size": 6144},
    "base": {"hidden_size": 768, "intermediate_size": 2048, "num_attention_heads": 12, "vocab_size": 16384},
}
Step = Callable[[], Tensor]


def elc(size: str, layers: int = 12, longest: int = 512, **settings: Any) -> ElcForMaskedLM:
    """An ELC-BERT with the published dropout."""
    shape: dict[str, Any] = {**SIZES[size], "num_hidden_layers": layers, "max_position_embeddings": longest}
    return ElcForMaskedLM(ElcConfig(**{**shape, **settings}))


def deberta(size: str, layers: int = 12, longest: int = 512) -> DebertaV2ForMaskedLM:
    """transformers' DeBERTa-v2 with both relative scores and the same number of log buckets."""
    config = DebertaV2Config(
        **SIZES[size],
        num_hidden_layers=layers,
        max_position_embeddings=longest,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=32,
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        position_biased_input=False,
        type_vocab_size=0,
    )
    return DebertaV2ForMaskedLM(config)


def bert(size: str, layers: int = 12, longest: int = 512) -> BertForMaskedLM:
    """transformers' BERT with torch's fused attention."""
    config = BertConfig(**SIZES[size], num_hidden_layers=layers, max_position_embeddings=longest)
    config._attn_implementation = "sdpa"
    return BertForMaskedLM(config)


CONTESTANTS: dict[str, Callable[..., nn.Module]] = {
    "elc_base_eager": lambda size, **k: elc(size, layer_mixing="base", kernels="eager", **k),
    "elc_base_torch": lambda size, **k: elc(size, layer_mixing="base", kernels="torch", **k),
    "elc_base_triton": lambda size, **k: elc(size, layer_mixing="base", kernels="triton", **k),
    "elc_zero_auto": lambda size, **k: elc(size, layer_mixing="zero", kernels="auto", **k),
    "ltg_eager": lambda size, **k: elc(size, layer_mixing="ltg", kernels="eager", **k),
    "ltg_auto": lambda size, **k: elc(size, layer_mixing="ltg", kernels="auto", **k),
    "deberta_v2": deberta,
    "bert_sdpa": bert,
}


def random_batch(vocabulary: int, rows: int, length: int, device: str) -> dict[str, Tensor]:
    """Random tokens, 15 % masked independently, a tenth of the rows half as long; the same for every contestant."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(7, vocabulary, (rows, length), generator=generator)
    labels = torch.where(torch.rand(ids.shape, generator=generator) < 0.15, ids, -100)
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[: max(1, rows // 10), length // 2 :] = False
    labels = labels.masked_fill(~mask, -100)
    batch = LabelPositions(MaskingConfig()).locate({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return {key: value.to(device) for key, value in batch.items()}


def build(make: Callable[[], nn.Module], device: str) -> nn.Module:
    """A model that is created on its device: a base model takes seconds to initialize on a CPU."""
    torch.manual_seed(0)
    if device != "cpu":
        try:
            with torch.device(device):
                return make().to(device)
        except RuntimeError as problem:  # a constructor that mixes devices
            print(f"initialized on the CPU: {one_line(problem)}", file=sys.stderr)
    return make().to(device)


def compile_model(model: nn.Module) -> nn.Module:
    """ELC-BERT compiles what follows the mix of each layer; transformers' models as a whole, for static shapes."""
    if hasattr(model, "compile_layers"):
        model.compile_layers()
        return model
    return torch.compile(model, dynamic=False)  # type: ignore[return-value]


def training_step(model: nn.Module, batch: dict[str, Tensor], device: str, compiled: bool = False) -> Step:
    """Forward and backward of one batch from cleared gradients; bfloat16 autocast on a GPU, float32 on a CPU."""
    model.to(device).train()
    forward = compile_model(model) if compiled else model
    inputs = dict(batch)
    if not isinstance(model, ElcForMaskedLM):
        # These models have a head for all positions only.
        del inputs["masked_positions"]

    def step() -> Tensor:
        model.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = forward(**inputs).loss
        loss.backward()
        return loss.detach()

    return step


class Times(NamedTuple):
    """Seconds of one call."""

    whole: float
    """Including the device's work."""
    host: float
    """Until the call returned, before the device was done. A full launch queue makes the host wait for the device."""


def timed(step: Step, device: str, clock: Callable[[], float] = time.perf_counter) -> Times:
    """Time one call."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = clock()
    step()
    host = clock() - start
    if device == "cuda":
        torch.cuda.synchronize()
    return Times(clock() - start, host)


def take_turns(
    steps: dict[str, Step],
    device: str,
    repeats: int,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
    failures: dict[str, str] | None = None,
    seconds: float | None = None,
) -> dict[str, list[Times]]:
    """Times of every repeat; contestants take turns, so that a change in the machine's speed affects all.

    With `failures`, a contestant that raises is left out from then on, and its error is written there. After `seconds`
    the turn under way is the last, once there is a repeat of each.
    """
    times: dict[str, list[Times]] = {name: [] for name in steps}
    began = time.perf_counter()
    for turn in range(repeats + warmup):
        if seconds is not None and turn > warmup and time.perf_counter() - began > seconds:
            break
        for name in list(times):
            try:
                elapsed = timed(steps[name], device, clock)
            except Exception as problem:
                if failures is None:
                    raise
                failures[name] = one_line(problem)
                del times[name]
                continue
            if turn >= warmup:
                times[name].append(elapsed)
    return times


def one_line(problem: BaseException) -> str:
    """Type and first line of an error."""
    lines = str(problem).strip().splitlines()
    return f"{type(problem).__name__}: {lines[0][:300] if lines else ''}"


def quartiles(values: list[float]) -> list[float]:
    """Lower and upper quartile, also of one value."""
    return statistics.quantiles(values, n=4)[::2] if len(values) > 1 else [values[0], values[0]]


def matrix_rate(device: str, side: int | None = None, clock: Callable[[], float] = time.perf_counter) -> float:
    """FLOP/s of one large square matrix product in the dtype that training multiplies in."""
    side = side or (8192 if device == "cuda" else 1536)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = [timed(lambda: a @ b, device, clock).whole for _ in range(12)]
    return 2 * side**3 / statistics.median(seconds[2:])

"""Which combinations are refused before start, and that recomputing activations changes nothing but memory."""

from __future__ import annotations

import dataclasses
from unittest import mock

import pytest
import torch

from elc_composer.common.errors import ConfigError
from elc_composer.model import MIXING_RULES
from elc_composer.training import parallelism
from elc_composer.training.composer_model import is_layer
from elc_composer.training.parallelism import (
    ParallelismConfig,
    Precision,
    Strategy,
    check_parallelism,
    checkpoint_layers,
    compiles,
)
from tests.multirank.jobs.matrix_job import tiny_batches, tiny_model

FP32, BF16, FP16 = Precision.fp32, Precision.amp_bf16, Precision.amp_fp16
DDP, FSDP1, FSDP2 = Strategy.ddp, Strategy.fsdp1, Strategy.fsdp2

# device, ranks, strategy, precision, auto microbatch, other settings, part of the reason (None: accepted)
TABLE = [
    ("cpu", 1, DDP, FP32, False, {}, None),
    ("cpu", 2, DDP, FP32, False, {}, None),
    ("cpu", 2, DDP, FP32, False, {"activation_checkpointing": True, "compile": True}, None),
    ("cpu", 1, FSDP2, FP32, False, {"sharded_checkpoints": True}, None),
    ("cpu", 2, FSDP2, FP32, False, {}, "fsdp2 on 2 CPU ranks sums gradients"),
    ("cpu", 1, FSDP1, FP32, False, {}, "fsdp1 needs GPUs"),
    ("cpu", 1, DDP, BF16, False, {}, "amp_bf16 needs a GPU"),
    ("cpu", 1, DDP, FP16, False, {}, "amp_fp16 needs a GPU"),
    ("cpu", 1, DDP, FP32, True, {}, "auto needs a GPU"),
    (
        "cpu",
        1,
        DDP,
        FP32,
        False,
        {"sharded_checkpoints": True},
        "sharded_checkpoints=true needs strategy fsdp1 or fsdp2",
    ),
    ("gpu", 8, DDP, FP32, True, {"compile": True}, None),
    ("gpu", 8, DDP, BF16, True, {"activation_checkpointing": True}, None),
    ("gpu", 8, DDP, FP16, False, {}, None),
    ("gpu", 8, FSDP1, BF16, True, {"sharded_checkpoints": True, "activation_checkpointing": True}, None),
    ("gpu", 8, FSDP1, FP16, False, {}, None),
    ("gpu", 8, FSDP2, BF16, False, {"sharded_checkpoints": True, "activation_checkpointing": True}, None),
    ("gpu", 8, FSDP2, FP32, False, {}, None),
    ("gpu", 8, FSDP2, FP16, False, {}, "amp_fp16 is not tested with parallelism.strategy=fsdp2"),
    ("gpu", 8, FSDP2, BF16, True, {}, "auto is not supported with parallelism.strategy=fsdp2"),
    (
        "gpu",
        8,
        DDP,
        BF16,
        False,
        {"sharded_checkpoints": True},
        "sharded_checkpoints=true needs strategy fsdp1 or fsdp2",
    ),
]


@pytest.mark.parametrize(("device", "ranks", "strategy", "precision", "auto", "settings", "reason"), TABLE)
def test_combinations_work_or_are_refused(
    device: str,
    ranks: int,
    strategy: Strategy,
    precision: Precision,
    auto: bool,
    settings: dict[str, bool],
    reason: str | None,
) -> None:
    config = dataclasses.replace(ParallelismConfig(strategy), **settings)
    with mock.patch.object(torch, "__version__", "2.7.0"):
        if reason is None:
            check_parallelism(config, precision, device, ranks, auto)
            return
        with pytest.raises(ConfigError, match=reason):
            check_parallelism(config, precision, device, ranks, auto)


def test_every_refusal_is_in_the_table() -> None:
    reasons = [row[-1] for row in TABLE if row[-1] is not None]
    for _, sentence in parallelism.REFUSED:
        shown = sentence.replace("{ranks}", "2").replace("{precision.name}", "amp_bf16")
        if "newer than 2.7" not in shown:
            assert any(reason in shown for reason in reasons), sentence


@pytest.mark.parametrize(("version", "refused"), [("2.6.1", False), ("2.7.0+cu126", False), ("2.11.0", True)])
def test_auto_microbatches_of_fsdp1_need_an_older_torch(version: str, refused: bool) -> None:
    with mock.patch.object(torch, "__version__", version):
        if not refused:
            check_parallelism(ParallelismConfig(FSDP1), BF16, "gpu", 8, True)
            return
        with pytest.raises(ConfigError, match=r"newer than 2\.7"):
            check_parallelism(ParallelismConfig(FSDP1), BF16, "gpu", 8, True)


@pytest.mark.parametrize("variant", MIXING_RULES)
def test_recomputed_layers_give_the_same_loss_and_gradients_with_dropout(variant: str) -> None:
    batch = tiny_batches()[0]
    found = []
    for recompute in (False, True):
        model = tiny_model(variant, dropout=0.3).train()
        if recompute:
            checkpoint_layers(model, is_layer)
        torch.manual_seed(7)
        loss = model(batch["input_ids"], batch["attention_mask"], batch["labels"]).loss
        loss.backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        found.append((loss, gradients, torch.rand(1)))
    (loss, gradients, draw), (again, repeated, next_draw) = found
    assert torch.equal(loss, again)
    assert torch.equal(draw, next_draw), "the run's random numbers go on as if nothing had been drawn twice"
    for one, two in zip(gradients, repeated, strict=True):
        assert (one is None) == (two is None)
        assert one is None or torch.equal(one, two)


def test_recomputing_keeps_parameter_names_in_checkpoints() -> None:
    plain, wrapped = tiny_model("zero"), tiny_model("zero")
    checkpoint_layers(wrapped, is_layer)
    assert wrapped.state_dict().keys() == plain.state_dict().keys()
    wrapped.load_state_dict(plain.state_dict())


def test_recomputing_saves_what_layers_keep() -> None:
    """Tensors kept for the backward: a layer keeps its inputs only."""
    batch = tiny_batches()[0]
    kept = []
    for recompute in (False, True):
        model = tiny_model("zero").train()
        if recompute:
            checkpoint_layers(model, is_layer)
        sizes: dict[int, int] = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, sizes=sizes: sizes.__setitem__(tensor.data_ptr(), tensor.nbytes) or tensor, lambda x: x
        ):
            model.encode(batch["input_ids"], batch["attention_mask"])[-1].sum()
        kept.append(sum(sizes.values()))
    assert kept[1] < kept[0] / 2


def test_auto_compiles_on_gpus_under_ddp_only() -> None:
    for device, strategy, wanted in (("gpu", DDP, True), ("cpu", DDP, False), ("gpu", Strategy.fsdp2, False)):
        assert compiles(ParallelismConfig(strategy), device) is wanted
        for chosen in (True, False):
            assert compiles(ParallelismConfig(strategy, compile=chosen), device) is chosen
    with pytest.raises(ConfigError, match="is always; it must be auto, true or false"):
        ParallelismConfig(compile="always")

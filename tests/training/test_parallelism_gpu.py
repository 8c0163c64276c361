"""Every combination of parallelism, precision, recomputation, compiling and microbatches that is accepted on a GPU."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from composer import DataSpec, Trainer
from composer.utils import dist, get_device
from torch.utils.data import DataLoader

from elc_composer.common.errors import ConfigError
from elc_composer.common.process_group import join_process_group
from elc_composer.data.loader import count_tokens
from elc_composer.optim import OptimizerConfig, build_optimizer
from elc_composer.training.composer_model import ElcComposerModel, is_layer
from elc_composer.training.parallelism import (
    ParallelismConfig,
    Precision,
    Strategy,
    check_parallelism,
    checkpoint_layers,
    compiles,
    composer_parallelism,
    device_kind,
)
from tests.multirank.jobs.matrix_job import BATCH, STEPS, tiny_batches, tiny_model
from tests.recipe import Recorder, Rows

pytestmark = pytest.mark.gpu

TOLERANCE = {Precision.fp32: 1e-4, Precision.amp_bf16: 0.1, Precision.amp_fp16: 0.05}
MICROBATCH: list[int | str] = [BATCH, BATCH // 2, "auto"]


def train(config: ParallelismConfig, precision: Precision, microbatch: int | str) -> list[float]:
    model = tiny_model("weighted_output")
    optimizer = build_optimizer(model, OptimizerConfig(lr=0.05))
    if config.activation_checkpointing and config.strategy is Strategy.ddp:
        checkpoint_layers(model, is_layer)
    if compiles(config, device_kind()):
        model.compile_layers()
    rows, recorder = Rows(tiny_batches()), Recorder()
    loader: Any = DataLoader(rows, BATCH, sampler=dist.get_sampler(rows, shuffle=False))
    trainer = Trainer(
        model=ElcComposerModel(model),
        train_dataloader=DataSpec(loader, get_num_tokens_in_batch=count_tokens),
        max_duration=f"{STEPS}ba",
        optimizers=optimizer,
        callbacks=[recorder],
        precision=precision.value,
        accumulate_train_batch_on_tokens=True,
        device_train_microbatch_size=microbatch,
        parallelism_config=composer_parallelism(config),
        progress_bar=False,
    )
    trainer.fit()
    trainer.close()
    return recorder.losses


@pytest.fixture(scope="module")
def reference() -> list[float]:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    join_process_group(get_device(None), 60.0)
    return train(ParallelismConfig(compile=False), Precision.fp32, BATCH)


@pytest.mark.parametrize("microbatch", MICROBATCH)
@pytest.mark.parametrize(("checkpointing", "compiled"), list(itertools.product([False, True], [False, True])))
@pytest.mark.parametrize("precision", list(Precision), ids=lambda precision: precision.name)
@pytest.mark.parametrize("strategy", list(Strategy), ids=lambda strategy: strategy.name)
def test_what_is_accepted_trains(
    strategy: Strategy,
    precision: Precision,
    checkpointing: bool,
    compiled: bool,
    microbatch: int | str,
    reference: list[float],
) -> None:
    config = ParallelismConfig(strategy, checkpointing, compile=compiled)
    try:
        check_parallelism(config, precision, "gpu", dist.get_world_size(), microbatch == "auto")
    except ConfigError as refused:
        pytest.skip(f"refused: {refused}")
    losses = train(config, precision, microbatch)
    assert losses == pytest.approx(reference, abs=TOLERANCE[precision])

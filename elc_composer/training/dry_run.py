"""Dry run: prints the planned run and checks everything, without training."""

from __future__ import annotations

import torch
from composer.utils import dist

from elc_composer.common.errors import ConfigError
from elc_composer.common.strict_yaml import to_yaml
from elc_composer.model import ElcForMaskedLM
from elc_composer.optim.schedule import count_warmup_steps
from elc_composer.training.checks import check_devices
from elc_composer.training.config import RunConfig
from elc_composer.training.model_config import elc_config
from elc_composer.training.prepare import prepare_run
from elc_composer.training.stages import plan_stages


def dry_run(config: RunConfig) -> None:
    """Print the planned run, then check everything; a problem with this machine's devices is only noted."""
    first = dist.get_global_rank() == 0
    if first:
        print(describe_run(config), flush=True)
    prepare_run(config)
    try:
        check_devices(config)
        note = "ready to train"
    except ConfigError as error:
        note = f"but not on this machine: {error}"
    if first:
        print(f"data and tokenizer fit the model: {note}")


def describe_run(config: RunConfig) -> str:
    """The resolved config, the model's size, and steps, token slots and FLOPs of every stage.

    FLOPs are those of the matrix products of forward and backward pass; the head counts the expected number of masked
    positions.

    Raises:
        ConfigError: invalid model settings or stages.
    """
    plan = plan_stages(config.stages, config.max_steps)
    with torch.device("meta"):
        model = ElcForMaskedLM(elc_config(config.model))
    lines = [to_yaml(config), f"model: {model.num_parameters():,} parameters, {model.config.layer_mixing}"]
    total_tokens, total_flops = 0, 0
    for stage in plan:
        slots = stage.global_train_batch_size * stage.seq_length
        predicted = round(config.masking.probability * slots)
        flops = stage.steps * model.estimate_flops(stage.global_train_batch_size, stage.seq_length, predicted)
        total_tokens, total_flops = total_tokens + stage.tokens, total_flops + flops
        lines.append(
            f"stage {stage.index}: steps {stage.first_step:,} to {stage.last_step:,}, "
            f"{stage.global_train_batch_size:,} sequences of {stage.seq_length} tokens, "
            f"{stage.tokens:,} token slots, {flops:.3g} FLOPs"
        )
    warmup = count_warmup_steps(config.schedule, config.max_steps)
    lines.append(f"schedule: {config.schedule.name}, {warmup:,} warm-up steps of {config.max_steps:,}")
    lines.append(f"total: {total_tokens:,} token slots, {total_flops:.3g} FLOPs")
    return "\n".join(lines)

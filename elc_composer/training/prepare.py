"""Checks of a config against data, tokenizer, minimal pairs and checkpoints, before anything is built."""

from __future__ import annotations

import dataclasses

import torch

from elc_composer.common.errors import ConfigError
from elc_composer.data.check import check_data
from elc_composer.evaluation.minimal_pairs import read_minimal_pairs
from elc_composer.model import ElcConfig
from elc_composer.optim import build_optimizer
from elc_composer.optim.schedule import check_schedule
from elc_composer.prepared.fast_tokenizer import load_fast_tokenizer
from elc_composer.training.checks import check_callbacks, check_numbers, check_stage
from elc_composer.training.config import RunConfig
from elc_composer.training.resume_choice import choose_resume_point
from elc_composer.training.run import Run
from elc_composer.training.stages import plan_stages
from elc_composer.training.tokenizer import check_data_tokenizer, prepared_tokenizer


def prepare_run(config: RunConfig) -> Run:
    """Check a config against devices, data, tokenizer and checkpoints.

    Raises:
        ConfigError: for settings that contradict each other or the devices.
        DataError: for data or a tokenizer that are missing, damaged or do not fit the model.
    """
    model = elc_config(config)
    plan = plan_stages(config.stages, config.max_steps)
    check_schedule(config.schedule, config.max_steps)
    check_callbacks(config)
    check_numbers(config)
    build_optimizer(torch.nn.Linear(1, 1), config.optimizer)
    for stage in plan:
        check_stage(stage, model)
    tokenizer = load_fast_tokenizer(config.tokenizer or prepared_tokenizer(config.data))
    if len(tokenizer) != model.vocab_size:
        raise ConfigError(
            f"model.vocab_size is {model.vocab_size:,} but the tokenizer has {len(tokenizer):,} entries; "
            "set model.vocab_size to that, or name the tokenizer that the data were prepared with"
        )
    for name in ("pad", "cls", "sep", "mask"):
        own, expected = getattr(model, f"{name}_token_id"), getattr(tokenizer, f"{name}_token_id")
        if own != expected:
            raise ConfigError(f"model.{name}_token_id is {own} but the tokenizer's is {expected}; set it to that")
    splits = [config.data.train_split] + [config.data.eval_split] * config.evaluators.dev_loss
    lengths = [stage.seq_length for stage in plan]
    check_data(config.data, seq_lengths=lengths, splits=splits, vocab_size=len(tokenizer))
    check_data_tokenizer(tokenizer, config.data)
    for pairs in config.evaluators.minimal_pairs:
        read_minimal_pairs(pairs.path)
    return Run(config, model, plan, tokenizer, choose_resume_point(config))


def elc_config(config: RunConfig) -> ElcConfig:
    """The model's configuration.

    Raises:
        ConfigError: for settings that the model refuses, with its reason.
    """
    try:
        return ElcConfig(**dataclasses.asdict(config.model))
    except ValueError as error:
        raise ConfigError(f"model.{error}") from error

"""Checks a config against data, tokenizer, minimal pairs and checkpoints, before anything is built."""

from __future__ import annotations

import torch

from elc_composer.data.check import check_data
from elc_composer.evaluation.minimal_pairs import MinimalPair, read_minimal_pairs
from elc_composer.optim import build_optimizer
from elc_composer.optim.schedule import check_schedule
from elc_composer.prepared.fast_tokenizer import load_fast_tokenizer
from elc_composer.training.checks import check_callbacks, check_numbers, check_stage
from elc_composer.training.config import RunConfig
from elc_composer.training.model_config import elc_config
from elc_composer.training.resume_choice import choose_resume_point
from elc_composer.training.run import Run
from elc_composer.training.same_run import with_masking
from elc_composer.training.stages import plan_stages
from elc_composer.training.tokenizer import check_model_tokenizer, check_stream_tokenizers, tokenizer_location


def prepare_run(config: RunConfig) -> Run:
    """Check a config, and read what the run needs from disk: tokenizer, minimal pairs, resume point.

    Cheap checks come first, so that a typing mistake is reported before data are read.

    Raises:
        ConfigError: settings that contradict each other, the tokenizer or the run in the folder.
        DataError: data, tokenizer or minimal pairs that are missing, damaged or do not fit the model.
    """
    model = elc_config(config.model)
    plan = plan_stages(config.stages, config.max_steps)
    check_schedule(config.schedule, config.max_steps)
    check_callbacks(config)
    check_numbers(config)
    # The optimizer checks its settings when it is built; any parameters will do.
    build_optimizer(torch.nn.Linear(1, 1), config.optimizer)
    for stage in plan:
        check_stage(stage, model)
    location = tokenizer_location(config)
    tokenizer = load_fast_tokenizer(location)
    check_model_tokenizer(model, tokenizer)
    splits = [config.data.train_split] + [config.data.eval_split] * config.evaluators.dev_loss
    lengths = [stage.seq_length for stage in plan]
    check_data(config.data, seq_lengths=lengths, splits=splits, vocab_size=len(tokenizer))
    check_stream_tokenizers(tokenizer, location, config.data)
    resume, masking = choose_resume_point(config)
    return Run(with_masking(config, masking), model, plan, tokenizer, _read_pairs(config), resume)


def _read_pairs(config: RunConfig) -> dict[str, list[MinimalPair]]:
    return {pairs.label: read_minimal_pairs(pairs.path) for pairs in config.evaluators.minimal_pairs}

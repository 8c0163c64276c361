"""Builds the components of a run: model, data, evaluators, callbacks, Trainer."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from composer import Algorithm, Callback, DataSpec, Evaluator, Trainer
from composer.algorithms import GradientClipping
from composer.utils import dist, reproducibility

from elc_composer.callbacks import GradientNorm, LossGuard, Preemption, SeededSteps, StepMetrics
from elc_composer.checkpoints.allowed_classes import loading_without_code
from elc_composer.checkpoints.s3 import Bucket, Mirror
from elc_composer.checkpoints.save import CheckpointWriter
from elc_composer.common.strict_yaml import to_yaml
from elc_composer.data.loader import WholeEpochLoader, build_eval_loader, build_train_loader
from elc_composer.data.words import words_per_epoch
from elc_composer.evaluation.in_training.evaluators import MinimalPairEvaluators, minimal_pair_evaluators
from elc_composer.evaluation.in_training.interval import EvaluationInterval
from elc_composer.model import ElcForMaskedLM
from elc_composer.optim import build_optimizer, build_scheduler
from elc_composer.training.callbacks import build_monitors
from elc_composer.training.compile_time import CompileTime
from elc_composer.training.composer_model import ElcComposerModel, is_layer
from elc_composer.training.events import EventLog
from elc_composer.training.loggers import build_loggers
from elc_composer.training.parallelism import Strategy, checkpoint_layers, compiles, composer_parallelism, device_kind
from elc_composer.training.run import Run
from elc_composer.training.stages import Stage, device_microbatch_size
from elc_composer.training.tracking import RunDescription

DEV_METRICS = ["LanguageCrossEntropy", "LanguagePerplexity", "MaskedAccuracy"]


def build_model(run: Run) -> ElcForMaskedLM:
    """Build the model, with the same initial weights on every rank."""
    reproducibility.seed_all(run.config.seed)
    return ElcForMaskedLM(run.model)


def build_train_data(run: Run, stage: Stage) -> DataSpec:
    """Build the loader of one stage, which starts with the stage's first batch."""
    config = run.config
    return build_train_loader(
        config.data,
        config.masking,
        run.token_ids,
        seq_length=stage.seq_length,
        device_batch_size=stage.global_train_batch_size // dist.get_world_size(),
        seed=config.seed,
        stage=stage.index,
        first_step=stage.first_step,
        total_steps=config.max_steps,
    )


def build_evaluators(run: Run) -> MinimalPairEvaluators:
    """Build the evaluators of the dev split and of every set of minimal pairs."""
    config = run.config.evaluators
    built = minimal_pair_evaluators(
        config.minimal_pairs,
        run.tokenizer,
        minimal_pairs=run.minimal_pairs,
        eval_interval=config.eval_interval,
    )
    if config.dev_loss:
        loader = build_eval_loader(
            run.config.data,
            run.config.masking,
            run.token_ids,
            seq_length=run.plan[0].seq_length,
            device_batch_size=config.device_eval_batch_size,
            seed=run.config.seed,
        )
        dev = Evaluator(
            label="dev",
            dataloader=loader,
            metric_names=DEV_METRICS,
            subset_num_batches=-1 if config.dev_batches < 0 else max(1, config.dev_batches // dist.get_world_size()),
            eval_interval=EvaluationInterval(config.eval_interval),
        )
        built.evaluators.append(dev)
    return built


def build_saver(run: Run, events: EventLog) -> CheckpointWriter | None:
    """Build the checkpoint writer, with copies in S3 if `save_folder` is an S3 address; None if nothing is saved."""
    config = run.config.checkpoints
    folder = config.local(run.config.run_folder)
    if folder is None:
        return None
    mirror = None
    if config.remote is not None and dist.get_global_rank() == 0:
        mirror = Mirror(Bucket(config.remote), config.keep)
    return CheckpointWriter(
        folder,
        config.save_interval,
        config.keep,
        mirror,
        note=lambda step, path: events.note("saved", step, f"checkpoint {path.name}"),
    )


def build_callbacks(
    run: Run, preemption: Preemption, saver: CheckpointWriter | None, skipped: set[int]
) -> list[Callback]:
    """Build the callbacks: monitors, then pre-emption, then the checkpoint writer, which reacts to it."""
    # Copies, because monitors hold state, and a run that is rolled back builds them again from the config.
    monitors = build_monitors(copy.deepcopy(run.config.callbacks), run.folder)
    for guard in monitors:
        if isinstance(guard, LossGuard):
            guard.skipped = set(skipped)
            if saver is not None:
                saver.checks = [guard.check_weights]
    return [SeededSteps(run.config.seed), *monitors, preemption, *([] if saver is None else [saver])]


def count_words(callbacks: Iterable[Callback], run: Run, data: DataSpec) -> None:
    """Tell the step metrics the words of an epoch of `data`, the training data of a stage."""
    for callback in callbacks:
        if isinstance(callback, StepMetrics) and isinstance(data.dataloader, WholeEpochLoader):
            callback.words_per_epoch = words_per_epoch(run.config.data, data.dataloader.dataset)


def build_algorithms(run: Run) -> list[Algorithm]:
    """Build gradient clipping and the gradient-norm log; Composer runs the last algorithm first after a batch."""
    clip = run.config.gradient_clip_norm
    clipping = [] if clip is None else [GradientClipping(clipping_type="norm", clipping_threshold=clip)]
    return [*clipping, *([GradientNorm()] if run.config.callbacks.gradient_norm else [])]


def build_trainer(run: Run, data: DataSpec, stage: Stage, callbacks: list[Callback]) -> Trainer:
    """Build Composer's Trainer; if the run is resumed, with the state of the checkpoint."""
    config = run.config
    model = build_model(run)
    evaluators = build_evaluators(run)
    optimizer = build_optimizer(model, config.optimizer)
    tracked = config.loggers.tensorboard or config.loggers.wandb is not None or config.loggers.mlflow is not None
    count_words(callbacks, run, data)
    describe = [RunDescription(to_yaml(config), model.num_parameters())] if tracked else []
    if config.parallelism.activation_checkpointing and config.parallelism.strategy is Strategy.ddp:
        checkpoint_layers(model, is_layer)
    compiled = model.compile_layers() if compiles(config.parallelism, device_kind()) else None
    with loading_without_code():
        return Trainer(
            model=ElcComposerModel(model, evaluators.metrics, run.config.label_smoothing),
            train_dataloader=data,
            eval_dataloader=evaluators.evaluators or None,
            optimizers=optimizer,
            schedulers=build_scheduler(config.schedule, optimizer, config.max_steps),
            step_schedulers_every_batch=True,
            max_duration=f"{config.max_steps}ba",
            algorithms=build_algorithms(run),
            callbacks=[*callbacks, *describe, *([] if compiled is None else [CompileTime(compiled)])],
            loggers=build_loggers(config.loggers, run.folder, config.run_name, resumed=run.resume is not None),
            progress_bar=config.loggers.progress_bar,
            log_to_console=config.loggers.console_interval is not None,
            console_log_interval=config.loggers.console_interval or "1ep",
            device_train_microbatch_size=device_microbatch_size(stage),
            accumulate_train_batch_on_tokens=True,
            precision=config.precision.value,
            parallelism_config=composer_parallelism(config.parallelism),
            dist_timeout=config.parallelism.dist_timeout,
            load_path=None if run.resume is None else run.resume.path,
            run_name=config.run_name,
            seed=config.seed,
        )

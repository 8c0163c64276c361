"""One fine-tuning run: a task, a seed and a recipe, trained with Composer's Trainer and resumed after a kill."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from composer import Callback, DataSpec, Evaluator, Trainer
from composer.algorithms import GradientClipping
from composer.callbacks import LRMonitor
from composer.core import Precision, State
from torch import nn

from elc_composer.callbacks import LayerWeightMonitor, MetricsFile, SeededSteps
from elc_composer.callbacks.layer_weights import softmax
from elc_composer.checkpoints.names import step_of
from elc_composer.checkpoints.s3 import remove
from elc_composer.checkpoints.save import CheckpointWriter
from elc_composer.common import run_folder
from elc_composer.common.errors import ConfigError
from elc_composer.common.files import digest, write_json, write_text
from elc_composer.common.json_files import read_object
from elc_composer.common.module_names import layer_labels
from elc_composer.finetuning.batches import Encoded, Padding, encode, eval_loader, split_batch, train_loader
from elc_composer.finetuning.composer_model import INPUTS, ClassifierComposerModel
from elc_composer.finetuning.files import TaskFiles, read_examples
from elc_composer.finetuning.keep_best import EpochTimer, KeepBest
from elc_composer.finetuning.metrics import majority, scores
from elc_composer.finetuning.model_source import ModelSource, padding_matters
from elc_composer.finetuning.presets import Recipe
from elc_composer.finetuning.tasks import Task

MICROBATCHES = 4
RESULT, TIMES, BEST, MODEL = "result.json", "times.json", "best.pt", "model.pt"


@dataclass(frozen=True)
class Job:
    """One fine-tuning run; can be sent to another process."""

    source: ModelSource
    model_digest: str
    task: Task
    files: TaskFiles
    file_digests: tuple[tuple[str, str], ...]
    recipe: Recipe
    seed: int
    folder: Path
    keep_model: bool = False

    @property
    def name(self) -> str:
        """Task and seed."""
        return f"{self.task.name} seed {self.seed}"

    def settings(self) -> dict[str, Any]:
        """Everything that decides the result, as JSON values."""
        return {
            "task": self.task.name,
            "seed": self.seed,
            "from_scratch": self.source.from_scratch,
            "model": self.model_digest,
            "data": dict(self.file_digests),
            "fields": [list(self.task.fields), self.task.label, self.task.names and list(self.task.names)],
            "recipe": self.recipe.as_json(),
        }

    def finished(self) -> dict[str, Any] | None:
        """The result in the job's folder, or None if it has not ended.

        Raises:
            ConfigError: the folder holds a job of other settings.
        """
        begun = self.folder / "settings.json"
        if begun.is_file() and read_object(begun) != json.loads(json.dumps(self.settings())):
            raise ConfigError(
                f"{self.folder} holds a fine-tuning run of other settings, data or model: choose another folder, or "
                "delete this one"
            )
        return read_object(self.folder / RESULT) if (self.folder / RESULT).is_file() else None


def run_job(job: Job, device: str = "cpu") -> dict[str, Any]:
    """Fine-tune, or resume from the newest checkpoint; write `result.json`, `predictions.json` and the metrics.

    Returns:
        The result: scores by evaluation set, those of the majority class, the best epoch, history and layer weights.
    """
    found = job.finished()
    if found is not None:
        return found
    write_json(job.folder / "settings.json", job.settings())
    write_text(job.folder / run_folder.CONFIG, json.dumps({"finetune": job.settings()}, indent=2) + "\n")
    train, evaluation, padding = _data(job)
    model = job.source.build(job.recipe, job.task.classes, job.seed)
    before = layer_shares(model)
    kept = KeepBest(job.folder / BEST, job.recipe.best, job.recipe.patience, job.recipe.threshold)
    timer = EpochTimer()
    trainer = build_trainer(job, model, train, evaluation["valid"], padding, device, [kept, timer])
    try:
        trainer.fit()
        result = _result(job, model, trainer.state, train, evaluation, padding, kept)
    finally:
        trainer.close()
    result["layer_weights"] = {"before": before, "after": layer_shares(model)}
    write_json(job.folder / TIMES, {"seconds_per_epoch": timer.seconds})
    if job.keep_model:
        weights = {name: value.cpu() for name, value in model.state_dict().items()}
        torch.save(weights, job.folder / MODEL)
    write_json(job.folder / RESULT, result)
    for leftover in (job.folder / run_folder.CHECKPOINTS, job.folder / BEST):
        remove(leftover)
    return result


def build_trainer(
    job: Job,
    model: nn.Module,
    train: Encoded,
    valid: Encoded,
    padding: Padding,
    device: str,
    callbacks: Iterable[Callback] = (),
) -> Trainer:
    """Composer's Trainer of a job, with the state of its newest checkpoint if it has one."""
    recipe = job.recipe
    total = recipe.steps_per_epoch(len(train)) * recipe.epochs
    checkpoints = job.folder / run_folder.CHECKPOINTS
    monitors: list[Callback] = [SeededSteps(job.seed), LRMonitor()]
    if layer_shares(model):
        monitors.append(LayerWeightMonitor(interval="1ep", picture_interval=f"{total}ba", folder=str(job.folder)))
    loader = train_loader(train, padding, batch_size=recipe.batch_size, drop_last=recipe.drop_last, seed=job.seed)
    classifier = ClassifierComposerModel(model, job.task.classes)
    # On a CPU, microbatches of similar lengths halve the padding. The gradient is that of the whole batch.
    trim = device == "cpu" and not padding.exact
    micro = max(1, recipe.batch_size // MICROBATCHES) if trim else recipe.batch_size
    every = int(recipe.evaluate_every.removesuffix("ba")) if recipe.evaluate_every.endswith("ba") else None
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=recipe.weight_decay
    )
    return Trainer(
        model=classifier,
        train_dataloader=DataSpec(loader, split_batch=partial(split_batch, trim=trim)),
        device_train_microbatch_size=micro,
        eval_dataloader=Evaluator(
            label="valid",
            dataloader=DataSpec(eval_loader(valid, padding), split_batch=partial(split_batch, trim=False)),
            metric_names=list(classifier.eval_metrics),
            # Composer (0.32.1) evaluates at the end of training even if it is not due; the pipelines do not.
            eval_interval=_EvaluationTimes(every),
        ),
        optimizers=optimizer,
        schedulers=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: recipe.rate(step, total)),
        step_schedulers_every_batch=True,
        max_duration=f"{recipe.epochs}ep",
        algorithms=[] if recipe.clip_norm is None else [GradientClipping("norm", recipe.clip_norm)],
        callbacks=[*monitors, *callbacks, CheckpointWriter(checkpoints, "1ep", keep=1)],
        loggers=[MetricsFile(str(job.folder / run_folder.METRICS))],
        progress_bar=False,
        device=device,
        precision=Precision.FP32,
        load_path=_newest(checkpoints),
        # Batches depend on seed and epoch only: past epochs need not be replayed on resume.
        spin_dataloaders=False,
        run_name=job.folder.name,
        seed=job.seed,
    )


class _EvaluationTimes:
    """Composer's `eval_interval`: after each epoch, or after every `steps` steps."""

    def __init__(self, steps: int | None) -> None:
        self.steps = steps

    def __call__(self, state: State, event: Any) -> bool:
        if self.steps is None:
            return event.name == "EPOCH_END"
        return event.name == "BATCH_END" and int(state.timestamp.batch) % self.steps == 0


def layer_shares(model: nn.Module) -> dict[str, list[float]]:
    """Share of each source in what each layer reads; empty for models without learned layer weights."""
    found = {name: value for name, value in model.named_parameters() if name.endswith("prev_layer_weights")}
    return {label: softmax(found[name].detach().flatten().tolist()) for name, label in layer_labels(found).items()}


@torch.no_grad()
def predict(model: nn.Module, data: Encoded, padding: Padding, device: torch.device) -> list[int]:
    """Predicted classes in the order of the file."""
    model.eval()
    found: dict[int, int] = {}
    for batch in eval_loader(data, padding):
        inputs = {name: batch[name].to(device) for name in INPUTS if name in batch and name != "labels"}
        found.update(zip(batch["index"].tolist(), model(**inputs).logits.argmax(-1).tolist()))
    return [found[index] for index in range(len(data))]


@lru_cache(maxsize=4)
def _encoded(path: Path, content: str, task: Task, recipe: Recipe, source: ModelSource, scored: bool) -> Encoded:
    """Token ids of a file; cached, because the seeds of a task read the same. `content` is the file's digest."""
    examples = read_examples(path, task, scored=scored, limit=None if scored else recipe.train_limit)
    return encode(examples, source.tokenizer(), recipe.max_length, token_types=recipe.head == "own")


def _data(job: Job) -> tuple[Encoded, dict[str, Encoded], Padding]:
    content = dict(job.file_digests)
    train = _encoded(job.files.train, content["train"], job.task, job.recipe, job.source, False)
    evaluation = {
        name: _encoded(path, content[name], job.task, job.recipe, job.source, True)
        for name, path in job.files.evaluation.items()
    }
    exact = padding_matters(job.source.config(), job.recipe)
    padding = Padding(job.source.tokenizer().pad_token_id, job.recipe.padding_side, exact)
    return train, evaluation, padding


def _newest(folder: Path) -> str | None:
    steps = {step_of(each.name): each for each in folder.iterdir()} if folder.is_dir() else {}
    whole = [step for step in steps if step is not None]
    return str(steps[max(whole)]) if whole else None


def _result(
    job: Job,
    model: nn.Module,
    state: State,
    train: Encoded,
    evaluation: dict[str, Encoded],
    padding: Padding,
    kept: KeepBest,
) -> dict[str, Any]:
    device = next(model.parameters()).device
    predictions: dict[str, list[int]] = {}
    best: dict[str, Any] = {"epoch": int(state.timestamp.epoch), "step": int(state.timestamp.batch)}
    if kept.best is not None:
        model.load_state_dict(torch.load(kept.path, map_location=device, weights_only=True))
        predictions["valid"] = kept.best["predictions"]
        best = {key: kept.best[key] for key in ("epoch", "step")}
    for name, data in evaluation.items():
        if name not in predictions:
            predictions[name] = predict(model, data, padding, device)
    guess = majority(train.labels)
    classes = job.task.classes
    write_json(job.folder / "predictions.json", predictions)
    return {
        "task": job.task.name,
        "seed": job.seed,
        "settings": digest(job.settings()),
        "scores": {name: scores(predictions[name], data.labels, classes) for name, data in evaluation.items()},
        "majority": {name: scores([guess] * len(data), data.labels, classes) for name, data in evaluation.items()},
        "examples": {"train": len(train), **{name: len(data) for name, data in evaluation.items()}},
        "best": best,
        "history": kept.history,
    }

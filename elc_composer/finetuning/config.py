"""The `finetune` section of a YAML config: one fine-tuning run of one task and seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elc_composer.common.errors import ConfigError
from elc_composer.common.strict_yaml import load_strict
from elc_composer.finetuning.files import TaskFiles
from elc_composer.finetuning.job import Job
from elc_composer.finetuning.model_source import ModelSource
from elc_composer.finetuning.plan import plan
from elc_composer.finetuning.presets import PRESETS, SEEDS
from elc_composer.finetuning.tasks import Task


@dataclass
class OwnTask:
    """A task of one's own: files in JSON Lines or CSV, and the names of their columns."""

    train: str
    """File of the training examples."""
    valid: str
    """File of the validation examples."""
    text: str
    """Column of the text, or of the first text of a pair."""
    labels: list[str]
    """Every label as written in the files, in the order of the classes."""
    second_text: str | None = None
    """Column of the second text."""
    label: str = "label"
    """Column of the label."""
    metrics: list[str] = field(default_factory=lambda: ["accuracy"])
    """Reported metrics: accuracy, f1 (two classes; of the second label), mcc."""

    def __post_init__(self) -> None:
        if len(set(self.labels)) < 2 or len(set(self.labels)) != len(self.labels):
            raise ConfigError(f"own.labels is {self.labels}; it must list at least two different labels")
        allowed = ("accuracy", "f1", "mcc") if len(self.labels) == 2 else ("accuracy", "mcc")
        for metric in self.metrics:
            if metric not in allowed:
                raise ConfigError(f"own.metrics: '{metric}' is not possible, must be of {', '.join(allowed)}")

    def task(self, name: str) -> Task:
        """The task."""
        return Task(
            name,
            (self.text,),
            () if self.second_text is None else (self.second_text,),
            classes=len(self.labels),
            metrics=tuple(self.metrics),
            label=self.label,
            names=tuple(self.labels),
        )


@dataclass
class FinetuneSection:
    """One fine-tuning run."""

    model: str
    """A run folder, a checkpoint, an exported or published folder, or a folder of any transformers encoder."""
    task: str
    """Name of a task; free to choose with `own`."""
    data: str | None = None
    """Folder of the tasks' files; null only with `own`."""
    own: OwnTask | None = None
    """Files and columns of a task of one's own."""
    preset: str = "babylm2025"
    """Settings of a pipeline: babylm2023, babylm2025 or babylm2026."""
    seed: int | None = None
    """Seed of head, order of examples and dropout; null: the preset's."""
    run_folder: str = "runs/finetune"
    """Folder of the results; a run in it is resumed."""
    from_scratch: bool = False
    """Fresh weights in place of the stored ones."""
    device: str = "auto"
    """auto, cpu or gpu."""
    train_examples: int | None = None
    """At most this many training examples."""
    learning_rate: float | None = None
    """In place of the preset's."""
    batch_size: int | None = None
    """In place of the preset's."""
    epochs: int | None = None
    """In place of the preset's."""
    max_length: int | None = None
    """Longest input in tokens, in place of the preset's."""
    dropout: float | None = None
    """Dropout of encoder and head, in place of the model's and the preset's."""
    keep_model: bool = False
    """Keep the weights of the best model as model.pt in the job's folder."""
    trust_remote_code: bool = False
    """Run code in the model's folder; models of this project do not need it."""

    def jobs(self) -> list[Job]:
        """The one job, checked; see `plan` for the errors."""
        files = None if self.own is None else TaskFiles(Path(self.own.train), {"valid": Path(self.own.valid)})
        if files is None and self.data is None:
            raise ConfigError("finetune.data is null; name the folder with the task's files, or files of `own`")
        if self.preset not in PRESETS:
            raise ConfigError(f"preset: '{self.preset}' is unknown, must be one of {', '.join(PRESETS)}")
        overrides: dict[str, Any] = {
            name: getattr(self, name) for name in ("learning_rate", "batch_size", "epochs", "max_length", "dropout")
        }
        return plan(
            ModelSource(Path(self.model), self.from_scratch, self.trust_remote_code),
            Path(self.data or "."),
            [self.task if self.own is None else self.own.task(self.task)],
            preset=self.preset,
            seeds=[SEEDS[self.preset] if self.seed is None else self.seed],
            out=Path(self.run_folder),
            files=files,
            train_examples=self.train_examples,
            keep_model=self.keep_model,
            **overrides,
        )


@dataclass
class FinetuneConfig:
    """A config file with the one section `finetune`."""

    finetune: FinetuneSection


def load_finetuning(path: str | Path, overrides: list[str]) -> FinetuneSection:
    """Read the section from a file and `key=value` overrides; see `load_strict` for rules and errors."""
    return load_strict(FinetuneConfig, Path(path), overrides).finetune

"""Fine-tuning settings of the BabyLM pipelines of 2023, 2025 and 2026, and their resolution for one task."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from elc_composer.common.errors import ConfigError
from elc_composer.finetuning.tasks import Task


@dataclass(frozen=True)
class Recipe:
    """All settings of one fine-tuning run except model, data and seed."""

    preset: str
    learning_rate: float
    batch_size: int
    epochs: int
    max_length: int
    """Longest input in tokens; longer ones are cut, the longer text of a pair first."""
    padding_side: str
    token: str
    """Token that the head reads: `first` or `last`."""
    head: str
    """`own`: the model's class for sequence classification; `pipeline`: `EncoderWithHead`."""
    schedule: str
    """`linear` to 0, or `cosine` to `final_share` of the learning rate."""
    warmup_share: float
    final_share: float
    weight_decay: float
    clip_norm: float | None
    drop_last: bool
    evaluate_every: str
    """Composer time string: an epoch, or a number of steps."""
    patience: int | None
    """Evaluations without an improvement after which training stops; None: never."""
    threshold: float
    """Smallest improvement that counts for `patience`."""
    best: str
    """Metric that chooses the model to keep."""
    train_limit: int | None
    """Training examples read from the start of the file; None: all."""
    dropout: float | None = None
    """Dropout of encoder and head; None: the model's, and 0.1 in the pipeline's head."""

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    def steps_per_epoch(self, examples: int) -> int:
        """Optimizer steps of an epoch."""
        return examples // self.batch_size if self.drop_last else math.ceil(examples / self.batch_size)

    def rate(self, step: int, total: int) -> float:
        """Factor of the learning rate at a step, counted from 0, of `total`."""
        warmup = int(self.warmup_share * total)
        if step < warmup:
            return step / warmup
        progress = min((step - warmup) / max(1, total - warmup), 1.0)
        if self.schedule == "linear":
            return 1.0 - progress
        return self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * progress))


_OF_2023 = Recipe(
    preset="babylm2023",
    learning_rate=5e-5,
    batch_size=64,
    epochs=10,
    max_length=128,
    padding_side="right",
    token="first",
    head="own",
    schedule="linear",
    warmup_share=0.0,
    final_share=0.0,
    weight_decay=0.0,
    clip_norm=1.0,
    drop_last=False,
    evaluate_every="200ba",
    patience=10,
    threshold=0.001,
    best="f1",
    train_limit=None,
)
_OF_2025 = Recipe(
    preset="babylm2025",
    learning_rate=3e-5,
    batch_size=32,
    epochs=10,
    max_length=512,
    padding_side="right",
    token="first",
    head="pipeline",
    schedule="cosine",
    warmup_share=0.06,
    final_share=0.1,
    weight_decay=0.01,
    clip_norm=None,
    drop_last=True,
    evaluate_every="1ep",
    patience=None,
    threshold=0.0,
    best="accuracy",
    train_limit=None,
)
PRESETS = {
    "babylm2023": _OF_2023,
    "babylm2025": _OF_2025,
    "babylm2026": replace(_OF_2025, preset="babylm2026", padding_side="left", token="last"),
}
SEEDS = {"babylm2023": 12, "babylm2025": 42, "babylm2026": 42}
"""First seed of each preset; further ones count up from it."""
OVERRIDES = ("learning_rate", "batch_size", "epochs", "max_length", "dropout")
"""Settings of a preset that a run may replace."""


def recipe(preset: str, task: Task, train_examples: int | None = None, **overrides: Any) -> Recipe:
    """The settings of a preset for one task.

    Args:
        preset: `babylm2023`, `babylm2025` or `babylm2026`.
        task: some settings of the presets differ between tasks.
        train_examples: at most this many training examples.
        **overrides: values for the settings in `OVERRIDES`; None keeps the preset's.

    Raises:
        ConfigError: an unknown preset, or a number out of range.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset: '{preset}' is unknown, must be one of {', '.join(PRESETS)}")
    found = PRESETS[preset]
    if found.head == "own":
        found = replace(found, best="f1" if task.classes == 2 else "accuracy")
    else:
        found = replace(
            found,
            batch_size=16 if task.name in ("boolq", "multirc") else found.batch_size,
            epochs=30 if task.name == "wsc" else found.epochs,
            best="f1" if task.name in ("mrpc", "qqp") else "accuracy",
            train_limit=10_000 if task.name in ("mnli", "qqp") else None,
        )
    found = replace(found, **{name: value for name, value in overrides.items() if value is not None})
    if train_examples is not None:
        found = replace(found, train_limit=min(train_examples, found.train_limit or train_examples))
    for name, least in {"batch_size": 1, "epochs": 1, "max_length": 8, "train_limit": 1}.items():
        value = getattr(found, name)
        if value is not None and value < least:
            raise ConfigError(f"{name} is {value}, must be at least {least}")
    if not 0 < found.learning_rate < 1:
        raise ConfigError(f"learning_rate is {found.learning_rate}, must be above 0 and below 1")
    if found.dropout is not None and not 0 <= found.dropout < 1:
        raise ConfigError(f"dropout is {found.dropout}, must be at least 0 and below 1")
    return found

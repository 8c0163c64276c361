"""The `evaluators` section: dev loss and minimal pairs during training."""

from __future__ import annotations

from dataclasses import dataclass, field

from elc_composer.common.errors import ConfigError
from elc_composer.common.intervals import parse_interval
from elc_composer.evaluation.config import MinimalPairsConfig
from elc_composer.evaluation.in_training.interval import UNITS


@dataclass
class EvaluatorsConfig:
    """Evaluation during training."""

    eval_interval: str = "500ba"
    """Interval of evaluators without their own: a time string in ba, ep, sp or tok; they also run at the end."""
    dev_loss: bool = True
    """Evaluate loss, perplexity and masked accuracy on the dev split, with fixed masks."""
    dev_batches: int = 32
    """Largest number of dev batches, summed over all ranks; -1: all."""
    device_eval_batch_size: int = 64
    """Sequences per dev batch of one device."""
    before_training: bool = False
    """Also evaluate the model before the first step."""
    minimal_pairs: list[MinimalPairsConfig] = field(default_factory=list)
    """Sets of minimal pairs, each with its own label; an empty list evaluates none."""

    def __post_init__(self) -> None:
        parse_interval(self.eval_interval, "evaluators.eval_interval", UNITS)
        self._check_pairs()
        for name in ("device_eval_batch_size", "dev_batches"):
            number = getattr(self, name)
            if number < 1 and (name, number) != ("dev_batches", -1):
                raise ConfigError(f"evaluators.{name} is {number}; it must be at least 1")

    def _check_pairs(self) -> None:
        seen = {"dev": "the dev split"} if self.dev_loss else {}
        for index, pairs in enumerate(self.minimal_pairs):
            key = f"evaluators.minimal_pairs.{index}"
            if not pairs.path:
                raise ConfigError(f"{key}.path is missing; set it to a JSONL file, a folder of these, or an MDS folder")
            if pairs.label in seen:
                raise ConfigError(f"{key}.label is {pairs.label!r}, as that of {seen[pairs.label]}; choose another")
            seen[pairs.label] = key
            if pairs.eval_interval is not None:
                parse_interval(pairs.eval_interval, f"{key}.eval_interval", UNITS)

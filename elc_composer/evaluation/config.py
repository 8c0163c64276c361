"""Settings for minimal-pair scoring (command line and YAML)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import Enum

from elc_composer.common.errors import ConfigError


class Method(str, Enum):
    """How a sentence's tokens are hidden while each is predicted."""

    original = "original"
    """Only the predicted token is masked (Salazar et al. 2020)."""
    within_word_l2r = "within_word_l2r"
    """The later tokens of its word are masked as well (Kauf & Ivanova 2023)."""
    causal = "causal"
    """Nothing is masked: a causal model predicts each token from the earlier ones."""


class Reduction(str, Enum):
    """How token log-probabilities become a sentence's score."""

    sum = "sum"
    mean = "mean"


class Ties(str, Enum):
    """What a pair counts whose sentences score exactly alike."""

    half = "half"
    """One half, as guessing would earn."""
    good = "good"
    """One, as the 2023 and 2025 BabyLM pipelines count it."""
    bad = "bad"
    """Nothing."""

    @property
    def credit(self) -> float:
        """0.5, 1 or 0."""
        return {Ties.half: 0.5, Ties.good: 1.0, Ties.bad: 0.0}[self]


@dataclass
class ScoringConfig:
    """What a sentence's score is, and how many tokens go through the model at once."""

    method: Method = Method.original
    """`original`: mask the predicted token; `within_word_l2r`: and the rest of its word; `causal`: mask nothing."""
    reduction: Reduction = Reduction.sum
    """`sum` or `mean` of the token log-probabilities."""
    temperature: float = 1.0
    """Logits are divided by it before the softmax."""
    tokens_per_batch: int = 8192
    """Most tokens (rows times their length) of a forward pass on one device; what cannot be split may exceed it."""

    def __post_init__(self) -> None:
        self.method, self.reduction = Method(self.method), Reduction(self.reduction)
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"temperature is {self.temperature}: it must be above 0, and finite")
        if self.tokens_per_batch < 1:
            raise ConfigError(f"tokens_per_batch is {self.tokens_per_batch}: it must be at least 1")


@dataclass
class MinimalPairsConfig:
    """One set of minimal pairs that is scored while a model trains."""

    path: str = ""
    """Folder (or file) of JSONL, or MDS folder, also remote."""
    label: str = "blimp"
    """Names the set's metrics: `metrics/<label>/overall`."""
    subset_per_paradigm: int | None = None
    """Score this many pairs of each paradigm, drawn once with `subset_seed`; null: all pairs."""
    subset_seed: int = 0
    """Seed of the subset."""
    eval_interval: str | None = None
    """Composer time string such as `1000ba`; null: `evaluators.eval_interval`."""
    ties: Ties = Ties.half
    """Credit of a pair whose sentences score equally: `half` (0.5), `good` (1) or `bad` (0)."""
    log_paradigms: bool = True
    """Log each paradigm's accuracy besides the phenomena's."""
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    """Scoring method and batch size."""

    def __post_init__(self) -> None:
        self.ties = Ties(self.ties)
        if self.subset_per_paradigm is not None and self.subset_per_paradigm < 1:
            raise ConfigError(
                f"subset_per_paradigm is {self.subset_per_paradigm}: it must be at least 1, or null for all"
            )
        if not re.fullmatch(r"\w[\w.-]*", self.label):
            raise ConfigError(f"the label {self.label!r} of a set of minimal pairs must be a plain word such as blimp")
        if self.subset_per_paradigm is not None and self.subset_per_paradigm < 1:
            raise ConfigError(
                f"subset_per_paradigm is {self.subset_per_paradigm}: it must be at least 1, or null for all"
            )

"""Settings for minimal-pair scoring (command line and YAML)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import Enum

from elc_composer.common.errors import ConfigError


class Method(str, Enum):
    """Masking of a sentence's tokens while each of them is predicted."""

    original = "original"
    """Only the predicted token is masked (Salazar et al. 2020)."""
    within_word_l2r = "within_word_l2r"
    """The later tokens of its word are also masked (Kauf & Ivanova 2023)."""
    causal = "causal"
    """Nothing is masked; a causal model predicts each token from the earlier ones."""


class Reduction(str, Enum):
    """Reduction of token log-probabilities to a sentence's score."""

    sum = "sum"
    mean = "mean"


class Ties(str, Enum):
    """Credit of a pair whose sentences have equal scores."""

    half = "half"
    """0.5, the expected credit of guessing."""
    good = "good"
    """1, as in the BabyLM pipelines of 2023 and 2025."""
    bad = "bad"
    """0."""

    @property
    def credit(self) -> float:
        """0.5, 1 or 0."""
        return {Ties.half: 0.5, Ties.good: 1.0, Ties.bad: 0.0}[self]


def default_tokens_per_batch(device_type: str) -> int:
    """Tokens per batch that suit a device: 65,536 on a GPU, 2,048 elsewhere.

    A GPU needs longer for a batch than the host needs to issue its about 400 kernels (10 ms), and up to five gigabytes
    at base size; see docs/evaluation.md. On a CPU the states of a batch should stay in its caches.
    """
    return 65_536 if device_type == "cuda" else 2_048


@dataclass
class ScoringConfig:
    """Scoring method and batch size."""

    method: Method = Method.original
    """`original`: mask the predicted token; `within_word_l2r`: and the rest of its word; `causal`: mask nothing."""
    reduction: Reduction = Reduction.sum
    """`sum` or `mean` of the token log-probabilities."""
    temperature: float = 1.0
    """Logits are divided by it before the softmax."""
    tokens_per_batch: int = 8192
    """Maximum tokens (rows times length) of a forward pass on one device; a unit that cannot be split may exceed it."""

    def __post_init__(self) -> None:
        self.method, self.reduction = Method(self.method), Reduction(self.reduction)
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"temperature is {self.temperature}; it must be above 0 and finite")
        if self.tokens_per_batch < 1:
            raise ConfigError(f"tokens_per_batch is {self.tokens_per_batch}; it must be at least 1")


@dataclass
class MinimalPairsConfig:
    """A set of minimal pairs that is scored during training."""

    path: str = ""
    """JSONL file, folder with JSONL files, or MDS folder (local or remote)."""
    label: str = "blimp"
    """Name of the set in metrics: `metrics/<label>/overall`."""
    subset_per_paradigm: int | None = None
    """Score this many pairs of each paradigm, drawn once with `subset_seed`; null: all pairs."""
    subset_seed: int = 0
    """Seed of the subset."""
    eval_interval: str | None = None
    """Composer time string such as `1000ba`; null: `evaluators.eval_interval`."""
    ties: Ties = Ties.half
    """Credit of a pair whose sentences score equally: `half` (0.5), `good` (1) or `bad` (0)."""
    log_paradigms: bool = True
    """Log each paradigm's accuracy in addition to the phenomena's."""
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    """Scoring method and batch size."""

    def __post_init__(self) -> None:
        self.ties = Ties(self.ties)
        if self.subset_per_paradigm is not None and self.subset_per_paradigm < 1:
            raise ConfigError(
                f"subset_per_paradigm is {self.subset_per_paradigm}; it must be at least 1, or null for all"
            )
        if not re.fullmatch(r"\w[\w.-]*", self.label):
            raise ConfigError(f"the label of a set of minimal pairs is {self.label!r}; it must be a word such as blimp")

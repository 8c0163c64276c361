"""What a run measures while it trains: the dev split's loss and any sets of minimal pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

from elc_composer.evaluation.config import MinimalPairsConfig


@dataclass
class EvaluatorsConfig:
    """Evaluators and how often they run."""

    eval_interval: str = "500ba"
    """Composer time string, for every evaluator that names none of its own; the end of the run is evaluated, too."""
    dev_loss: bool = True
    """Loss, perplexity and masked accuracy on the dev split, with fixed masks."""
    dev_batches: int = 32
    """Batches of the dev split that are read at most, over all ranks; -1 reads all."""
    device_eval_batch_size: int = 64
    before_training: bool = False
    """Evaluate the untrained model, too."""
    minimal_pairs: list[MinimalPairsConfig] = field(default_factory=list)
    """Sets of minimal pairs, each with its own label."""

"""The checked run: its config and all that the checks read, so that nothing is read twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from elc_composer.checkpoints.resume import ResumePoint
from elc_composer.data.masking import TokenIds
from elc_composer.evaluation.minimal_pairs import MinimalPair
from elc_composer.model import ElcConfig
from elc_composer.training.config import RunConfig
from elc_composer.training.stages import Stage
from elc_composer.training.tokenizer import token_ids


@dataclass(frozen=True)
class Run:
    """A checked config with what the checks read."""

    config: RunConfig
    model: ElcConfig
    plan: list[Stage]
    tokenizer: PreTrainedTokenizerFast
    minimal_pairs: dict[str, list[MinimalPair]]
    """All pairs of each set, by its label."""
    resume: ResumePoint | None
    """The checkpoint to resume from; None for a new run."""

    @property
    def folder(self) -> Path:
        """The run folder; the run writes nowhere else."""
        return Path(self.config.run_folder)

    @property
    def first_step(self) -> int:
        """The next optimizer step, counted from 0."""
        return 0 if self.resume is None else self.resume.step

    @property
    def token_ids(self) -> TokenIds:
        """Special token ids and vocabulary size, for masking and collating."""
        return token_ids(self.tokenizer)

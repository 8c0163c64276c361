"""The checked run: its config, model config, stage plan, tokenizer and resume point."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from elc_composer.checkpoints.resume import ResumePoint
from elc_composer.data.masking import TokenIds
from elc_composer.model import ElcConfig
from elc_composer.training.config import RunConfig
from elc_composer.training.stages import Stage
from elc_composer.training.tokenizer import token_ids


@dataclass(frozen=True)
class Run:
    """A config that has been checked, with what was found on the way."""

    config: RunConfig
    model: ElcConfig
    plan: list[Stage]
    tokenizer: PreTrainedTokenizerFast
    resume: ResumePoint | None

    @property
    def folder(self) -> Path:
        """Everything that the run writes goes here."""
        return Path(self.config.run_folder)

    @property
    def first_step(self) -> int:
        """The optimizer step, from 0, that comes next."""
        return 0 if self.resume is None else self.resume.step

    @property
    def token_ids(self) -> TokenIds:
        """What masking and the collator must know of the tokenizer."""
        return token_ids(self.tokenizer)

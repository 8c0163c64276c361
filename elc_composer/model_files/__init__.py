"""Models read from files without unpickling: published, Hugging Face, trainer and sharded checkpoints."""

from elc_composer.model_files.published import Hints, read_published
from elc_composer.model_files.trainer_checkpoint import read_trainer_checkpoint

__all__ = ["Hints", "read_published", "read_trainer_checkpoint"]

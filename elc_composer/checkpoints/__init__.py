"""Published checkpoints in, trainer checkpoints in; nothing is unpickled beyond tensors and an allow-list."""

from elc_composer.checkpoints.published import Hints, read_published
from elc_composer.checkpoints.trainer import read_trainer_checkpoint

__all__ = ["Hints", "read_published", "read_trainer_checkpoint"]

"""Prepared segments in, masked batches out: streaming, masking, the collator and the loaders."""

from elc_composer.data.check import check_data
from elc_composer.data.config import DataConfig, StreamConfig
from elc_composer.data.loader import build_eval_loader, build_train_loader
from elc_composer.data.masking import MaskingConfig, TokenIds

__all__ = [
    "DataConfig",
    "MaskingConfig",
    "StreamConfig",
    "TokenIds",
    "build_eval_loader",
    "build_train_loader",
    "check_data",
]

"""Prepared segments in, masked batches out: streaming, masking, the collator and the loaders.

The names below are imported at their first use: masking and label positions need neither Streaming nor Composer.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elc_composer.data.check import check_data
    from elc_composer.data.config import DataConfig, StreamConfig
    from elc_composer.data.loader import build_eval_loader, build_train_loader
    from elc_composer.data.masking import MaskingConfig, TokenIds

_MODULES = {
    "DataConfig": "config",
    "MaskingConfig": "masking",
    "StreamConfig": "config",
    "TokenIds": "masking",
    "build_eval_loader": "loader",
    "build_train_loader": "loader",
    "check_data": "check",
}

__all__ = [
    "DataConfig",
    "MaskingConfig",
    "StreamConfig",
    "TokenIds",
    "build_eval_loader",
    "build_train_loader",
    "check_data",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

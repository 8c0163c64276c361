"""ELC-BERT for transformers. An exported model contains these files, so they import only each other."""

from .configuration_elc import MIXING_RULES, ElcConfig
from .modeling_elc import ElcForMaskedLM, ElcModel
from .task_models import (
    TASK_MODELS,
    ElcForMultipleChoice,
    ElcForQuestionAnswering,
    ElcForSequenceClassification,
    ElcForTokenClassification,
)

__all__ = [
    "MIXING_RULES",
    "TASK_MODELS",
    "ElcConfig",
    "ElcForMaskedLM",
    "ElcForMultipleChoice",
    "ElcForQuestionAnswering",
    "ElcForSequenceClassification",
    "ElcForTokenClassification",
    "ElcModel",
]

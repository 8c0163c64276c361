"""ELC-BERT for transformers. An exported model contains these files, so they import only each other."""

from .configuration_elc import MIXING_RULES, ElcConfig
from .modeling_elc import ElcForMaskedLM, ElcModel

__all__ = ["MIXING_RULES", "ElcConfig", "ElcForMaskedLM", "ElcModel"]

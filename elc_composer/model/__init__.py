"""The model. The files of this folder are also the code of an exported model, so they import only each other."""

from .configuration_elc import MIXING_RULES, ElcConfig
from .modeling_elc import ElcForMaskedLM, ElcModel

__all__ = ["MIXING_RULES", "ElcConfig", "ElcForMaskedLM", "ElcModel"]

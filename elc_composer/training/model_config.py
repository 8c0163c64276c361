"""The `model` section of a run config, and the model configuration made from it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from elc_composer.common.errors import ConfigError
from elc_composer.model import ElcConfig


@dataclass
class ModelConfig:
    """Shape and variant of an ELC-BERT (Georges Gabriel Charpentier & Samuel 2023).

    The fields are the arguments of `ElcConfig`, which checks them; a test compares names, types and defaults.
    """

    layer_mixing: str = "base"
    """Variant: `base`, `zero`, `normalized`, `weighted_output` or `ltg` (plain LTG-BERT); equations in `ElcConfig`."""
    vocab_size: int = 16384
    """Entries of the vocabulary; must equal the tokenizer's."""
    hidden_size: int = 768
    """Width of the hidden states; a multiple of `num_attention_heads`."""
    intermediate_size: int = 2048
    """Width of the gated feed-forward."""
    num_hidden_layers: int = 12
    """Number of layers."""
    num_attention_heads: int = 12
    """Attention heads of each layer."""
    max_position_embeddings: int = 512
    """Longest training sequence in tokens; longer inputs get position buckets of their own."""
    position_bucket_size: int = 32
    """Relative-position buckets per side, spaced logarithmically as in DeBERTa."""
    hidden_dropout_prob: float = 0.1
    """Dropout probability of the embedding, the feed-forward and the head."""
    attention_probs_dropout_prob: float = 0.1
    """Dropout probability in an attention block: relative embeddings, probabilities and output."""
    layer_norm_eps: float = 1e-7
    """Epsilon of every LayerNorm."""
    layer_norm_dtype: str = "autocast"
    """Under autocast LayerNorms read and write its dtype (`autocast`) or `float32`; they compute in float32."""
    kernels: str = "auto"
    """`eager` (plain torch), `torch` (fused torch), `triton` (CUDA), or `auto` (triton on CUDA, else torch)."""
    pad_token_id: int = 3
    """Id of [PAD]; must equal the tokenizer's."""
    cls_token_id: int = 1
    """Id of [CLS]; must equal the tokenizer's."""
    sep_token_id: int = 2
    """Id of [SEP]; must equal the tokenizer's."""
    mask_token_id: int = 4
    """Id of [MASK]; must equal the tokenizer's."""


def elc_config(config: ModelConfig) -> ElcConfig:
    """The model configuration of a `model` section.

    Raises:
        ConfigError: `ElcConfig` refuses a setting; the message holds its reason.
    """
    try:
        return ElcConfig(**dataclasses.asdict(config))
    except ValueError as error:
        raise ConfigError(f"model.{error}") from error

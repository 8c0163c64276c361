"""Configuration of ELC-BERT and of LTG-BERT, the residual model that it is compared with."""

from __future__ import annotations

from typing import Any, NamedTuple

from transformers import PretrainedConfig

from .kernels import KERNELS
from .layer_norm import LAYER_NORM_DTYPES


class MixingRule(NamedTuple):
    """Differences between the equations of the variants; see `ElcConfig.layer_mixing`."""

    learned: bool
    """A layer reads a softmax-weighted sum of all earlier outputs; otherwise only the output before it."""
    residual: bool
    """The attention's output is added to the layer's input, as in a residual stream."""
    mlp_reads_input: bool
    """The feed-forward reads the layer's input plus the attention's output; otherwise only the attention's output."""
    normalized: bool
    """Each layer's output passes through a LayerNorm without parameters; mixes are of normalized states."""
    mixed_output: bool
    """The head reads one more weighted sum, of the embedding and all layers."""
    previous_layer_init: float
    """Initial value, before the softmax, of the weight of the last earlier output; all others start at 0."""


MIXING_RULES = {
    "base": MixingRule(True, False, False, False, False, 1.0),
    "zero": MixingRule(True, False, True, False, False, 0.0),
    "normalized": MixingRule(True, False, True, True, False, 0.0),
    "weighted_output": MixingRule(True, False, True, False, True, 0.0),
    "ltg": MixingRule(False, True, True, False, False, 0.0),
}


CLASSIFIER_TOKENS = ("first", "last")


class ElcConfig(PretrainedConfig):
    r"""Shape and variant of an ELC-BERT (Georges Gabriel Charpentier & Samuel 2023).

    With `s = softmax(prev_layer_weights)` over the n+1 earlier outputs `h_i` and `x = sum_i s_i h_i`:

    | `layer_mixing`    | a layer's output                          | weights start at       |
    |-------------------|-------------------------------------------|------------------------|
    | `base`            | a = attention(x);  a + mlp(a)             | 0, the last one at 1   |
    | `zero`            | a = attention(x);  a + mlp(x + a)         | 0                      |
    | `normalized`      | LayerNorm of `zero`'s output              | 0                      |
    | `weighted_output` | as `zero`; the head reads one more mix    | 0                      |
    | `ltg`             | a = h + attention(h);  a + mlp(a)         | none: plain LTG-BERT   |

    Args:
        layer_mixing: `base`, `zero`, `normalized`, `weighted_output` or `ltg`; see `ElcConfig` for their equations.
        vocab_size: entries of the vocabulary.
        hidden_size: width of the hidden states; a multiple of `num_attention_heads`.
        intermediate_size: width of the gated feed-forward.
        num_hidden_layers: number of layers.
        num_attention_heads: heads of each layer.
        max_position_embeddings: longest training sequence, in tokens; longer inputs get position buckets of their own.
        position_bucket_size: relative-position buckets per direction (log buckets, as in DeBERTa).
        hidden_dropout_prob: dropout of the embedding, the feed-forward and the head.
        attention_probs_dropout_prob: dropout of an attention block: relative embeddings, probabilities, output.
        layer_norm_eps: epsilon of every LayerNorm.
        layer_norm_dtype: under autocast, LayerNorms read and write its dtype (`autocast`) or `float32`.
        kernels: `eager` (plain), `torch` (fused torch), `triton` (CUDA), `auto` (triton on CUDA, else torch).
        pad_token_id: id of [PAD].
        cls_token_id: id of [CLS].
        sep_token_id: id of [SEP].
        mask_token_id: id of [MASK].
        **kwargs: fields of transformers; and, for the models with heads, `classifier_dropout` (default
            `hidden_dropout_prob`) and `classifier_token`, the token that classifies a sequence: `first` or `last` real
            one.

    Raises:
        ValueError: an unknown variant or kernel, a number out of range, or a width that the heads do not divide.
    """

    model_type = "elc"

    def __init__(
        self,
        layer_mixing: str = "base",
        vocab_size: int = 16384,
        hidden_size: int = 768,
        intermediate_size: int = 2048,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        max_position_embeddings: int = 512,
        position_bucket_size: int = 32,
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        layer_norm_eps: float = 1e-7,
        layer_norm_dtype: str = "autocast",
        kernels: str = "auto",
        pad_token_id: int = 3,
        cls_token_id: int = 1,
        sep_token_id: int = 2,
        mask_token_id: int = 4,
        **kwargs: Any,
    ) -> None:
        if layer_mixing not in MIXING_RULES:
            raise ValueError(f"layer_mixing is '{layer_mixing}'; it must be one of {', '.join(MIXING_RULES)}")
        if kernels not in KERNELS:
            raise ValueError(f"kernels is '{kernels}'; it must be one of {', '.join(KERNELS)}")
        if layer_norm_dtype not in LAYER_NORM_DTYPES:
            raise ValueError(
                f"layer_norm_dtype is '{layer_norm_dtype}'; it must be one of {', '.join(LAYER_NORM_DTYPES)}"
            )
        sizes = {"vocab_size": vocab_size, "hidden_size": hidden_size, "intermediate_size": intermediate_size}
        counts = {"num_hidden_layers": num_hidden_layers, "num_attention_heads": num_attention_heads}
        for name, number in {**sizes, **counts}.items():
            if number < 1:
                raise ValueError(f"{name} is {number}; it must be at least 1")
        if position_bucket_size < 2 or max_position_embeddings < position_bucket_size:
            raise ValueError(
                f"position_bucket_size {position_bucket_size} must be at least 2 and at most max_position_embeddings "
                f"{max_position_embeddings}"
            )
        for name, share in (
            ("hidden_dropout_prob", hidden_dropout_prob),
            ("attention_probs_dropout_prob", attention_probs_dropout_prob),
        ):
            if not 0.0 <= share < 1.0:
                raise ValueError(f"{name} is {share}; it must be at least 0 and below 1")
        if not 0.0 < layer_norm_eps < 1.0:
            raise ValueError(f"layer_norm_eps is {layer_norm_eps}; it must be above 0 and below 1")
        if hidden_size % num_attention_heads:
            raise ValueError(
                f"hidden_size {hidden_size} is not a multiple of num_attention_heads {num_attention_heads}"
            )
        self.classifier_dropout = kwargs.pop("classifier_dropout", None)
        self.classifier_token = kwargs.pop("classifier_token", "first")
        if self.classifier_dropout is not None and not 0.0 <= self.classifier_dropout < 1.0:
            raise ValueError(f"classifier_dropout is {self.classifier_dropout}; it must be at least 0 and below 1")
        if self.classifier_token not in CLASSIFIER_TOKENS:
            raise ValueError(f"classifier_token is '{self.classifier_token}'; it must be first or last")
        self.layer_mixing = layer_mixing
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.max_position_embeddings = max_position_embeddings
        self.position_bucket_size = position_bucket_size
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.layer_norm_eps = layer_norm_eps
        self.layer_norm_dtype = layer_norm_dtype
        self.kernels = kernels
        self.cls_token_id = cls_token_id
        self.mask_token_id = mask_token_id
        kwargs.setdefault("tie_word_embeddings", True)
        super().__init__(pad_token_id=pad_token_id, sep_token_id=sep_token_id, **kwargs)

    @property
    def mixing_rule(self) -> MixingRule:
        """The equations of this variant."""
        return MIXING_RULES[self.layer_mixing]

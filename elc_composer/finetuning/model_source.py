"""Loads the model to fine-tune: a run, an exported or published folder, or any transformers encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.utils import reproducibility
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from elc_composer.common.errors import ConfigError, one_line
from elc_composer.common.files import digest, sha256_file
from elc_composer.common.run_folder import MODEL_CONFIG, TOKENIZER
from elc_composer.evaluation.models import CONFIG, is_exported, load_tokenizer_folder
from elc_composer.finetuning.head import HEAD_DROPOUT, EncoderWithHead
from elc_composer.finetuning.presets import Recipe
from elc_composer.model import ElcConfig, ElcForSequenceClassification, ElcModel
from elc_composer.model_files.run_model import beside, read_model_config
from elc_composer.model_files.trainer_checkpoint import find_checkpoint, read_trainer_checkpoint

WEIGHTS = ("*.safetensors", "*.bin", "*.pt")
DROPOUTS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout", "attention_dropout", "dropout",
    "classifier_dropout", "seq_classif_dropout", "pooler_dropout", "embd_pdrop", "activation_dropout",
)  # fmt: skip
"""Names of dropout probabilities in the configs of transformers' encoders."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model is, and how to build it; can be sent to another process.

    Args:
        path: folder or checkpoint.
        from_scratch: fresh weights in place of the stored ones.
        trust_remote_code: run code in the folder; models of this project do not need it.
    """

    path: Path
    from_scratch: bool = False
    trust_remote_code: bool = False

    @property
    def is_run(self) -> bool:
        """Whether it is a Composer run or checkpoint."""
        return not (self.path / CONFIG).exists()

    def fingerprint(self) -> str:
        """Hexadecimal sha256 of the config and, unless they are replaced, the weights."""
        if self.is_run:
            config = beside(self.path, MODEL_CONFIG)
            found = find_checkpoint(self.path)
            weights = [found] if found.is_file() else sorted(found.iterdir())
        else:
            config = self.path / CONFIG
            weights = sorted(each for pattern in WEIGHTS for each in self.path.glob(pattern))
        files = [*([] if config is None else [config]), *([] if self.from_scratch else weights)]
        return digest([sha256_file(file) for file in files if file.is_file()])

    def config(self) -> Any:
        """The model's config.

        Raises:
            ConfigError: the path holds no model.
            DataError: the config is damaged.
        """
        if not self.path.exists():
            raise ConfigError(f"model: {self.path} does not exist; give a run, a checkpoint or a transformers folder")
        if self.is_run:
            found = beside(self.path, MODEL_CONFIG)
            if found is None:
                raise ConfigError(
                    f"model: {self.path} is not a transformers folder (no {CONFIG}) and not a run ({MODEL_CONFIG} is "
                    "not beside it)"
                )
            return read_model_config(found)
        try:
            if is_exported(self.path):
                return ElcConfig.from_pretrained(self.path)
            return AutoConfig.from_pretrained(self.path, trust_remote_code=self.trust_remote_code)
        except (OSError, ValueError) as error:
            raise ConfigError(f"model: the config of {self.path} cannot be read ({one_line(error)})") from error

    def tokenizer(self) -> Any:
        """The tokenizer.

        Raises:
            ConfigError: there is none, or it is damaged, or it lacks a padding token.
        """
        folder = self.path
        if self.is_run:
            found = beside(self.path, TOKENIZER)
            if found is None:
                raise ConfigError(f"model: no {TOKENIZER} folder beside {self.path}")
            folder = found
        if self.is_run or is_exported(self.path):
            tokenizer = load_tokenizer_folder(PreTrainedTokenizerFast, folder)
        else:
            tokenizer = load_tokenizer_folder(AutoTokenizer, folder, trust_remote_code=self.trust_remote_code)
        if tokenizer.pad_token_id is None:
            raise ConfigError(f"model: the tokenizer of {folder} has no padding token; set one in its files")
        return tokenizer

    def build(self, recipe: Recipe, classes: int, seed: int) -> nn.Module:
        """The model with the head of the recipe; the seed decides its fresh weights.

        Raises:
            ConfigError: it cannot be loaded, or parameters of the encoder are missing.
            DataError: a file is damaged.
        """
        config = self.config()
        if recipe.dropout is not None:
            for name in DROPOUTS:
                if getattr(config, name, None) is not None:
                    setattr(config, name, recipe.dropout)
        reproducibility.seed_all(seed)
        if recipe.head == "own":
            config.num_labels = classes
            config.problem_type = "single_label_classification"
            if isinstance(config, ElcConfig):
                config.classifier_token = recipe.token
            return self._load(config, ElcForSequenceClassification, AutoModelForSequenceClassification)
        encoder = self._load(config, ElcModel, AutoModel)
        # Again, so that the head does not depend on how many numbers the encoder's construction drew.
        reproducibility.seed_all(seed)
        dropout = HEAD_DROPOUT if recipe.dropout is None else recipe.dropout
        return EncoderWithHead(encoder, config.hidden_size, classes, recipe.token, dropout)

    def _load(self, config: Any, own: type[ElcModel], auto: Any) -> nn.Module:
        is_own = isinstance(config, ElcConfig)
        if self.from_scratch:
            more = {} if is_own else {"trust_remote_code": self.trust_remote_code}
            return own(config) if is_own else auto.from_config(config, **more)
        if self.is_run:
            model = own(config)
            weights = read_trainer_checkpoint(self.path, config).state_dict()
            encoder = {name: value for name, value in weights.items() if not name.startswith("classifier.")}
            missing = model.load_state_dict(encoder, strict=False).missing_keys
        else:
            kind = own if is_own else auto
            more = {} if is_own else {"trust_remote_code": self.trust_remote_code}
            try:
                model, report = kind.from_pretrained(self.path, config=config, output_loading_info=True, **more)
            except Exception as error:  # each kind of damage has its own exception
                raise ConfigError(f"model: {self.path} cannot be loaded as an encoder: {one_line(error)}") from error
            missing = sorted(report["missing_keys"])
        lost = [name for name in missing if not _is_head(name, model)]
        if lost:
            raise ConfigError(
                f"model: {self.path} lacks {len(lost)} parameters of {type(model).__name__}, such as {lost[0]}; they "
                "would be initialized randomly: give a folder with the whole encoder, or use from_scratch"
            )
        return model


def padding_matters(config: Any, recipe: Recipe) -> bool:
    """Whether the amount of padding may change a model's output.

    On the left, it moves the absolute positions of some models. In this project's models, position buckets depend on
    the padded length where it exceeds `max_position_embeddings`.
    """
    if isinstance(config, ElcConfig):
        return config.max_position_embeddings < recipe.max_length or recipe.padding_side == "left"
    return recipe.padding_side == "left"


def check_fit(source: ModelSource, config: Any, tokenizer: Any, recipe: Recipe) -> None:
    """Check that model, tokenizer and settings fit each other.

    Raises:
        ConfigError: ids beyond the vocabulary, inputs beyond the positions, or a head that the preset cannot read.
    """
    largest = max(tokenizer.get_vocab().values())
    if largest >= config.vocab_size:
        raise ConfigError(
            f"model: the tokenizer of {source.path} has ids up to {largest}, the model only {config.vocab_size} "
            "entries; give the tokenizer that the model was trained with"
        )
    longest = getattr(config, "max_position_embeddings", None)
    if not isinstance(config, ElcConfig) and longest and longest < recipe.max_length:
        raise ConfigError(
            f"max_length is {recipe.max_length}, but {source.path} has only {longest} positions: set it to at most that"
        )


def _is_head(name: str, model: nn.Module) -> bool:
    """Whether a parameter belongs to a head, or to a pooler that encoders bring along."""
    prefix = getattr(model, "base_model_prefix", "")
    if isinstance(model, ElcModel):
        return name.startswith("head.")
    return "pooler." in name or (hasattr(model, prefix) and not name.startswith(f"{prefix}."))

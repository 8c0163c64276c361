"""The model card (README.md): YAML metadata and what is known of the model; what is not known is left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from elc_composer.common.errors import ConfigError
from elc_composer.model import ElcModel
from elc_composer.publishing.facts import RunFacts

LOADERS = {
    "ElcForMaskedLM": ("AutoModelForMaskedLM", "fill-mask"),
    "ElcForSequenceClassification": ("AutoModelForSequenceClassification", "text-classification"),
    "ElcForTokenClassification": ("AutoModelForTokenClassification", "token-classification"),
    "ElcForQuestionAnswering": ("AutoModelForQuestionAnswering", "question-answering"),
    "ElcForMultipleChoice": ("AutoModelForMultipleChoice", "multiple-choice"),
    "ElcModel": ("AutoModel", "feature-extraction"),
}
"""Class -> transformers' class that loads it, and its task."""
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")
_DATASET = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class Card:
    """What a model card says beyond the model's shape."""

    location: str
    """Path of the folder, or name of the repository."""
    facts: RunFacts | None = None
    license: str | None = None
    language: str | None = None
    datasets: Sequence[str] = ()
    arguments: str = ""
    """More arguments of from_pretrained, such as `, revision="ba100"`."""
    branches: Sequence[str] = ()
    note: str = ""
    """A sentence after the lines of code."""

    def __post_init__(self) -> None:
        checks: list[tuple[str, re.Pattern[str], str, Sequence[str | None]]] = [
            ("--license", _LICENSE, "an identifier such as apache-2.0 or cc-by-4.0", [self.license]),
            ("--language", _LANGUAGE, "a code such as en", [self.language]),
            ("--dataset", _DATASET, "the name of a dataset on the Hub, such as user/name", self.datasets),
        ]
        for option, pattern, allowed, values in checks:
            for value in values:
                if value is not None and not pattern.fullmatch(value):
                    raise ConfigError(f"{option} is {value!r}; it must be {allowed}")


def render_card(model: ElcModel, card: Card, picture: str | None, licence: bool) -> str:
    """README.md of a folder.

    Args:
        model: the written model.
        card: what else to say.
        picture: name of the layer-weight picture in the folder, if there is one.
        licence: whether the folder holds the licence of the code files.
    """
    parts = [_metadata(model, card), _title(model, card), _snippet(model, card)]
    if card.facts:
        parts += [_training(card.facts), _data(card.facts), _scores(card.facts), _recipe(card.facts)]
    if picture:
        parts.append(
            f"## Layer weights\n\n![What each layer reads]({picture})\n\nThe shares of the embedding and of each "
            "earlier layer's output in what each layer reads (softmax of its weights)."
        )
    parts.append(_licences(card, licence))
    return "\n\n".join(part for part in parts if part) + "\n"


def _metadata(model: ElcModel, card: Card) -> str:
    fields: dict[str, object] = {}
    if card.license:
        fields["license"] = card.license
    if card.language:
        fields["language"] = [card.language]
    fields["library_name"] = "transformers"
    fields["pipeline_tag"] = LOADERS[type(model).__name__][1]
    tags = ["elc-bert", "masked-lm", f"layer-mixing-{model.config.layer_mixing.replace('_', '-')}"]
    fields["tags"] = tags
    if card.datasets:
        fields["datasets"] = list(card.datasets)
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---"


def _title(model: ElcModel, card: Card) -> str:
    config = model.config
    name = (
        card.facts.name
        if card.facts and card.facts.name
        else "ELC-BERT"
        if config.layer_mixing != "ltg"
        else "LTG-BERT"
    )
    step = f", step {card.facts.step:,}" if card.facts and card.facts.step else ""
    kind = (
        "A masked language model without learned layer weights (LTG-BERT; Samuel et al. 2023)."
        if config.layer_mixing == "ltg"
        else "A masked language model in which every layer reads a learned, weighted sum of all earlier layers' "
        "outputs\n"
        f"(ELC-BERT, variant `{config.layer_mixing}`; Georges Gabriel Charpentier & Samuel 2023)."
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"# {name}{step}\n\n{kind} {parameters:,} parameters; {config.num_hidden_layers} layers of width "
        f"{config.hidden_size} with {config.num_attention_heads} heads;\nvocabulary of {config.vocab_size:,}; position "
        f"table for {config.max_position_embeddings} tokens."
    )


def _snippet(model: ElcModel, card: Card) -> str:
    loader = LOADERS[type(model).__name__][0]
    where = f'"{card.location}"{card.arguments}'
    text = (
        f"```python\nfrom transformers import {loader}, AutoTokenizer\n\n"
        f"tokenizer = AutoTokenizer.from_pretrained({where}, trust_remote_code=False)\n"
        f"model = {loader}.from_pretrained({where}, trust_remote_code=True)\n```\n\n"
        "`trust_remote_code` runs the Python files beside this card: read them first. The tokenizer needs none of them."
    )
    if card.note:
        text += f"\n\n{card.note}"
    if card.branches:
        names = ", ".join(f"`{name}`" for name in card.branches)
        text += f"\n\nOne branch per checkpoint, named by its step (`revision=`): {names}."
    return text


def _training(facts: RunFacts) -> str:
    seen = []
    if facts.words:
        seen.append(
            f"about {facts.words:,.0f} words of raw text (estimated from the corpora's counts, repetitions included)"
        )
    if facts.tokens:
        seen.append(f"{facts.tokens:,} tokens")
    return f"## Training\n\nUp to step {facts.step:,} the model has seen {' and '.join(seen)}." if seen else ""


def _data(facts: RunFacts) -> str:
    if not facts.corpora and not facts.data_notes:
        return ""
    parts = ["## Data"]
    if facts.corpora:
        total = sum(corpus.words for corpus in facts.corpora)
        rows = [[corpus.name, f"{corpus.words:,}", f"{corpus.sentences:,}"] for corpus in facts.corpora]
        if len(rows) > 1:
            rows.append(["all", f"{total:,}", f"{sum(corpus.sentences for corpus in facts.corpora):,}"])
        parts.append(_table(["corpus", "words", "sentences"], rows))
    parts += facts.data_notes
    return "\n\n".join(parts)


def _scores(facts: RunFacts) -> str:
    rows = [[score.name, f"{score.value:.4f}", f"{score.step:,}"] for score in facts.scores]
    return f"## Scores\n\n{_table(['score', 'value', 'at step'], rows)}" if rows else ""


def _recipe(facts: RunFacts) -> str:
    rows = [[name, value] for name, value in facts.recipe.items()]
    return f"## Recipe\n\n{_table(['setting', 'value'], rows)}" if rows else ""


def _licences(card: Card, licence: bool) -> str:
    code = "the Python files are under the Apache License 2.0 (LICENSE)" if licence else ""
    weights = f"The weights are under `{card.license}`" if card.license else "No licence was stated for the weights"
    return f"## Licences\n\n{weights}{'; ' + code if code else ''}."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])

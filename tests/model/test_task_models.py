"""Models with heads: what they read, their losses beside those of transformers, and their initialization."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForQuestionAnswering, BertForSequenceClassification, BertForTokenClassification

from elc_composer.model import (
    MIXING_RULES,
    TASK_MODELS,
    ElcConfig,
    ElcForMultipleChoice,
    ElcForQuestionAnswering,
    ElcForSequenceClassification,
    ElcForTokenClassification,
    ElcModel,
)
from tests.model.small_models import SHAPE

BERT = {
    "num_hidden_layers": 1,
    "hidden_size": 8,
    "num_attention_heads": 1,
    "intermediate_size": 8,
    "vocab_size": 60,
}
IDS = torch.arange(7, 27).view(4, 5)


def config(**fields: Any) -> ElcConfig:
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return ElcConfig(**{"layer_mixing": "zero", **rates, **SHAPE, **fields})


def make(kind: type[Any], **fields: Any) -> Any:
    torch.manual_seed(0)
    return kind(config(**fields)).eval()


@pytest.mark.parametrize("kind", TASK_MODELS.values())
def test_head_is_named_and_initialized_as_published(kind: type[ElcModel]) -> None:
    model = make(kind, hidden_size=240, num_labels=50, classifier_dropout=0.25)
    names = {name for name, _ in model.named_parameters() if name.startswith("head.")}
    assert names == {f"head.nonlinearity.{number}.{part}" for number in (1, 5) for part in ("weight", "bias")}
    head = model.head.nonlinearity
    assert head[4].p == 0.25
    assert make(kind, hidden_dropout_prob=0.3).head.nonlinearity[4].p == 0.3
    std = math.sqrt(2 / (5 * 240))
    # A normal distribution that is cut at two deviations has 0.88 of its deviation.
    assert float(head[1].weight.std()) == pytest.approx(0.88 * std, rel=0.03)
    assert float(head[5].weight.abs().max()) <= 2 * std
    assert not head[1].bias.any()
    assert not head[5].bias.any()


def test_multi_choice_and_spans_have_outputs_of_their_own() -> None:
    assert make(ElcForQuestionAnswering, num_labels=7).head.nonlinearity[5].out_features == 2
    assert make(ElcForMultipleChoice, num_labels=7).head.nonlinearity[5].out_features == 1


@pytest.mark.parametrize("kernels", ["eager", "torch"])
@pytest.mark.parametrize("variant", MIXING_RULES)
def test_padding_on_either_side_changes_nothing(variant: str, kernels: str) -> None:
    """First and last token are those that the mask keeps, whatever ids they have."""
    ids = torch.tensor([[1, 9, 3, 11, 2]])
    for token in ("first", "last"):
        model = make(
            ElcForSequenceClassification, layer_mixing=variant, kernels=kernels, classifier_token=token
        ).double()
        plain = model(ids).logits
        for left, right in ((3, 0), (0, 4), (2, 2)):
            padded = torch.nn.functional.pad(ids, (left, right), value=3)
            mask = torch.nn.functional.pad(torch.ones_like(ids), (left, right))
            torch.testing.assert_close(model(padded, mask).logits, plain)
            torch.testing.assert_close(model(padded, mask[:, None, None].bool()).logits, plain)
            additive = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(mask == 0, -1e9)[:, None, None]
            torch.testing.assert_close(model(padded, additive).logits, plain)
    assert not torch.allclose(plain, model(ids.flip(1)).logits)


def test_token_read() -> None:
    mask = torch.tensor([[0, 1, 0, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    ids = torch.full((3, 5), 9)
    assert make(ElcForSequenceClassification).token_read(ids, None, mask).tolist() == [1, 5, 10]
    last = make(ElcForSequenceClassification, classifier_token="last")
    assert last.token_read(ids, None, mask).tolist() == [3, 9, 10]
    assert last.token_read(ids, None, None).tolist() == [4, 9, 14]


def beside_bert(kind: type[Any], labels: dict[str, Tensor], **fields: Any) -> tuple[Tensor, Tensor]:
    """Our loss, and that of transformers' model of the same task for the same logits."""
    theirs = {
        ElcForSequenceClassification: BertForSequenceClassification,
        ElcForTokenClassification: BertForTokenClassification,
        ElcForQuestionAnswering: BertForQuestionAnswering,
    }[kind]
    ours, bert = make(kind, **fields), theirs(BertConfig(**BERT, **fields))
    out = ours(IDS, **labels)
    fixed = torch.stack((out.start_logits, out.end_logits), -1) if "start_logits" in out else out.logits
    final = bert.qa_outputs if hasattr(bert, "qa_outputs") else bert.classifier
    final.register_forward_hook(lambda module, args, output: fixed)
    expected = bert(input_ids=IDS, **labels)
    assert ours.config.problem_type == bert.config.problem_type
    return out.loss, expected.loss


@pytest.mark.parametrize(
    ("kind", "labels", "fields"),
    [
        (ElcForSequenceClassification, {"labels": torch.tensor([0, 2, 1, 2])}, {"num_labels": 3}),
        (ElcForSequenceClassification, {"labels": torch.tensor([0.5, 2, -1, 2])}, {"num_labels": 1}),
        (ElcForSequenceClassification, {"labels": torch.rand(4, 3)}, {"num_labels": 3, "problem_type": "regression"}),
        (ElcForSequenceClassification, {"labels": torch.eye(4)[:, :3]}, {"num_labels": 3}),
        (ElcForTokenClassification, {"labels": torch.where(IDS % 3 == 0, -100, IDS % 4)}, {"num_labels": 4}),
        (
            ElcForQuestionAnswering,
            {"start_positions": torch.tensor([0, 1, 9, 4]), "end_positions": torch.tensor([1, 7, 9, 4])},
            {},
        ),
    ],
)
def test_losses_are_those_of_transformers(kind: type[Any], labels: dict[str, Tensor], fields: dict[str, Any]) -> None:
    ours, theirs = beside_bert(kind, labels, **fields)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("kind", "labels", "fields"),
    [
        (ElcForSequenceClassification, torch.tensor([0, 2, 1, 2]), {"num_labels": 3}),
        (ElcForSequenceClassification, torch.rand(4), {"num_labels": 1}),
        (ElcForSequenceClassification, torch.eye(4)[:, :3], {"num_labels": 3}),
        (ElcForTokenClassification, torch.where(IDS % 3 == 0, -100, IDS % 4), {"num_labels": 4}),
    ],
)
def test_microbatches_add_up_to_the_batch(kind: type[Any], labels: Tensor, fields: dict[str, Any]) -> None:
    """Trainer counts the labels that are not -100 over all microbatches, and adds up the losses."""
    model = make(kind, **fields).double()
    count = (labels != -100).sum()
    parts = [
        model(IDS[rows], labels=labels[rows], num_items_in_batch=count).loss for rows in (slice(0, 1), slice(1, 4))
    ]
    torch.testing.assert_close(parts[0] + parts[1], model(IDS, labels=labels).loss)


def test_multiple_choice() -> None:
    model = make(ElcForMultipleChoice).double()
    ids = torch.arange(7, 37).view(2, 3, 5)
    mask = torch.ones_like(ids)
    mask[0, 1, 3:] = 0
    out = model(ids, mask, labels=torch.tensor([2, 0]))
    assert out.logits.shape == (2, 3)
    torch.testing.assert_close(out.logits[0, 1], model(ids[:1, 1:2, :3]).logits[0, 0])
    torch.testing.assert_close(out.loss, torch.nn.functional.cross_entropy(out.logits, torch.tensor([2, 0])))
    with pytest.raises(ValueError, match=r"\[B, C, T\]"):
        model(ids[0])


@pytest.mark.parametrize("kind", [ElcModel, *TASK_MODELS.values()])
def test_embeddings_in_place_of_ids(kind: type[Any]) -> None:
    model = make(kind)
    ids = IDS.view(2, 2, 5) if kind is ElcForMultipleChoice else IDS
    embeds = model.get_input_embeddings()(ids)
    torch.testing.assert_close(model(inputs_embeds=embeds)[0], model(ids)[0])
    with pytest.raises(ValueError):
        model(ids, inputs_embeds=embeds)
    with pytest.raises(ValueError):
        model()


@pytest.mark.parametrize(
    ("fields", "labels", "message"),
    [
        ({"num_labels": 3, "problem_type": "regression"}, torch.rand(4), "they must be"),
        ({"num_labels": 3, "problem_type": "ranking"}, torch.zeros(4).long(), "problem_type"),
    ],
)
def test_labels_that_do_not_fit(fields: dict[str, Any], labels: Tensor, message: str) -> None:
    try:
        model = make(ElcForSequenceClassification, **fields)
    except ValueError as error:  # transformers checks the name itself
        assert message in str(error)  # noqa: PT017
        return
    with pytest.raises(ValueError, match=message):
        model(IDS, labels=labels)


@pytest.mark.parametrize(
    ("field", "value"), [("classifier_token", "middle"), ("classifier_dropout", 1.0), ("classifier_dropout", -0.1)]
)
def test_config_refuses(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        config(**{field: value})

"""A published folder with a fine-tuning head keeps it: the logits are those of the original weights, computed here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from elc_composer.convert import convert, main
from elc_composer.model import TASK_MODELS, ElcForMaskedLM, ElcModel
from elc_composer.model_files import Hints, read_published
from tests.commands.published_folders import SHAPE, make, published_state, write_folder

WIDTH = SHAPE["hidden_size"]
IDS = torch.arange(7, 39).view(4, 8)
MASK = torch.arange(8) < torch.tensor([8, 5, 7, 3])[:, None]
BASE = Hints(layer_mixing="base")
LABELS = {"ForQuestionAnswering": 2, "ForMultipleChoice": 1}
KINDS = {kind.__name__.removeprefix("Elc"): kind for kind in TASK_MODELS.values()}


def head(outputs: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(11)
    shapes = {"1.weight": (WIDTH, WIDTH), "1.bias": (WIDTH,), "5.weight": (outputs, WIDTH), "5.bias": (outputs,)}
    return {f"head.nonlinearity.{name}": torch.randn(*shape, generator=generator) for name, shape in shapes.items()}


def by_hand(encoder: ElcForMaskedLM, weights: dict[str, Tensor], ids: Tensor, mask: Tensor) -> Tensor:
    """`[B, T, outputs]`: the published head at every token."""
    linear = [(weights[f"head.nonlinearity.{n}.weight"], weights[f"head.nonlinearity.{n}.bias"]) for n in (1, 5)]
    with torch.no_grad():
        x = encoder.encode(ids, mask)[-1]
        x = functional.layer_norm(x, (WIDTH,), eps=1e-7)
        x = functional.gelu(x @ linear[0][0].T + linear[0][1])
        x = functional.layer_norm(x, (WIDTH,), eps=1e-7)
        return x @ linear[1][0].T + linear[1][1]


def predict(name: str, model: Any) -> Tensor:
    with torch.no_grad():
        if name == "ForQuestionAnswering":
            out = model(IDS, MASK)
            return torch.stack([out.start_logits, out.end_logits], -1)
        if name == "ForMultipleChoice":
            return model(IDS.view(2, 2, 8), MASK.view(2, 2, 8)).logits
        return model(IDS, MASK).logits


def published(folder: Path, name: str, keep_classifier: bool = False, **changes: Any) -> tuple[Path, dict[str, Tensor]]:
    outputs = LABELS.get(name, 3)
    state = published_state(make())
    if not keep_classifier:
        state = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    weights = head(outputs)
    fields = {"architectures": [f"Ltgbert{name}"], "num_labels": outputs, **changes}
    return write_folder(folder, {**state, **weights}, **fields), weights


@pytest.mark.parametrize("keep_classifier", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_logits_of_the_original_weights(name: str, keep_classifier: bool, tmp_path: Path) -> None:
    source, weights = published(tmp_path / "hub", name, keep_classifier)
    notes = convert(source, tmp_path / "out", BASE)
    model = KINDS[name].from_pretrained(tmp_path / "out").eval()
    wanted = by_hand(make(), weights, IDS, MASK)
    if name == "ForSequenceClassification":
        wanted = wanted[:, 0]
    elif name == "ForMultipleChoice":
        wanted = wanted[:, 0, 0].view(2, 2)
    torch.testing.assert_close(predict(name, model), wanted, rtol=1e-4, atol=1e-5)
    assert not any("head." in note and "dropped" in note for note in notes)
    assert any("dropped classifier." in note for note in notes) == keep_classifier
    # The converted folder is read again without loss.
    again, _ = read_published(tmp_path / "out")
    assert type(again) is KINDS[name]
    assert torch.equal(predict(name, again), predict(name, model))


def test_names_of_labels_and_fields_are_kept(tmp_path: Path) -> None:
    names = {"0": "no", "1": "perhaps", "2": "yes"}
    fields: dict[str, Any] = {
        "id2label": names,
        "problem_type": "single_label_classification",
        "classifier_dropout": 0.3,
    }
    source, _ = published(tmp_path / "hub", "ForSequenceClassification", **fields)
    convert(source, tmp_path / "out", BASE)
    config = ElcModel.from_pretrained(tmp_path / "out").config
    assert config.id2label == {0: "no", 1: "perhaps", 2: "yes"}
    assert (config.problem_type, config.classifier_dropout) == ("single_label_classification", 0.3)


def test_labels_that_do_not_fit_the_head_are_noted(tmp_path: Path) -> None:
    source, _ = published(tmp_path / "hub", "ForTokenClassification", id2label={"0": "no", "1": "yes"}, num_labels=2)
    model, notes = read_published(source, BASE)
    assert model.config.num_labels == 3
    assert any("num_labels 2" in note and "3" in note for note in notes)
    assert any("id2label" in note for note in notes)


def test_a_config_without_a_task_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the masked language model's head, the other one is left out and named; without, it is kept."""
    both, weights = published(tmp_path / "both", "Model", keep_classifier=True)
    assert main([str(both), str(tmp_path / "of_both"), "--layer-mixing", "base"]) == 0
    shown = capsys.readouterr().out
    assert all(f"dropped {name} " in shown for name in weights)
    assert json.loads((tmp_path / "of_both" / "config.json").read_text())["architectures"] == ["ElcForMaskedLM"]
    alone, _ = published(tmp_path / "alone", "Model")
    assert main([str(alone), str(tmp_path / "of_alone"), "--layer-mixing", "base"]) == 0
    assert "assumed that head.* classifies sequences" in capsys.readouterr().out

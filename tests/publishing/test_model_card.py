"""The model card says what the run recorded, and nothing that it does not know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from elc_composer.common.errors import ConfigError
from elc_composer.export import export_checkpoint, export_model
from elc_composer.publishing.facts import read_facts
from elc_composer.publishing.model_card import Card
from tests.publishing.made_run import make_model, make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path, steps=(12, 20))


def read_card(folder: Path) -> tuple[dict[str, Any], str]:
    text = (folder / "README.md").read_text()
    _, metadata, body = text.split("---\n", 2)
    return yaml.safe_load(metadata), body


def test_card_of_a_run(run: Path, tmp_path: Path) -> None:
    out = export_checkpoint(run, tmp_path / "out", license="cc-by-4.0", language="en", datasets=["user/tales"])
    metadata, body = read_card(out)
    assert metadata == {
        "license": "cc-by-4.0",
        "language": ["en"],
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "tags": ["elc-bert", "masked-lm", "layer-mixing-zero"],
        "datasets": ["user/tales"],
    }
    assert f'AutoTokenizer.from_pretrained("{out}", trust_remote_code=False)' in body
    assert "about 3,000 words" in body
    assert "4,000 tokens" in body
    assert "| dialogues | 5,000 | 700 |" in body
    assert "| all | 7,500 | 900 |" in body
    assert "| loss on the dev split (nats a masked token) | 7.0000 | 20 |" in body
    assert "| minimal pairs toy: accuracy, mean over paradigms | 0.7000 | 20 |" in body
    for setting in ("| learning rate | 0.007 |", "| seed | 3 |", "| sequences | 8 sequences of 32 tokens a step |"):
        assert setting in body
    assert "The weights are under `cc-by-4.0`" in body
    assert "![What each layer reads](layer_weights.png)" in body
    assert (out / "layer_weights.png").read_bytes().startswith(b"\x89PNG")
    assert "Apache License" in (out / "LICENSE").read_text()


def test_an_earlier_checkpoint_has_its_own_numbers(run: Path) -> None:
    facts = read_facts(run, 12)
    assert (facts.words, facts.tokens) == (150.0 * 12, 200 * 12)
    assert {score.step for score in facts.scores} == {10}
    assert read_facts(run, 4).scores == [], "scores from before training are not the model's"


def test_a_bare_checkpoint_says_what_is_known(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "a" / "b" / "c" / "d"
    alone.mkdir(parents=True)
    checkpoint = alone / "weights.pt"
    checkpoint.write_bytes((run / "checkpoints" / "ba20-rank0.pt").read_bytes())
    out = export_checkpoint(checkpoint, tmp_path / "out", run / "tokenizer", run / "model_config.json")
    metadata, body = read_card(out)
    assert set(metadata) == {"library_name", "pipeline_tag", "tags"}
    assert "No licence was stated for the weights" in body
    for absent in ("## Data", "## Training", "## Scores", "## Recipe", "PATH", "None", "step"):
        assert absent not in body


def test_variant_without_weights_has_no_picture(tmp_path: Path) -> None:
    out = export_model(make_model(109, 1, "ltg"), None, tmp_path / "out")
    assert not (out / "layer_weights.png").exists()
    metadata, body = read_card(out)
    assert "Layer weights" not in body
    assert "layer-mixing-ltg" in metadata["tags"]


def test_changed_data_are_not_described(run: Path) -> None:
    manifest = run.parent / "data" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["sources"][0]["words"] = 1
    manifest.write_text(json.dumps(content))
    facts = read_facts(run, 20)
    assert facts.corpora == []
    assert "has changed since the run" in facts.data_notes[0]
    manifest.unlink()
    assert "not readable" in read_facts(run, 20).data_notes[0]


@pytest.mark.parametrize(
    ("fields", "option"),
    [
        ({"license": "My License"}, "--license"),
        ({"language": "English"}, "--language"),
        ({"datasets": ["a b"]}, "--dataset"),
    ],
)
def test_malformed_metadata_is_refused(fields: dict[str, Any], option: str) -> None:
    with pytest.raises(ConfigError, match=f"^{option} is "):
        Card("out", **fields)

"""Loading models and tokenizers for evaluation; folders that are incomplete or damaged are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from composer import Trainer
from torch.utils.data import DataLoader

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.evaluation import models
from elc_composer.evaluation.config import Method
from elc_composer.evaluation.models import load_model_and_tokenizer
from elc_composer.evaluation.scoring import score_sentences
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.training.composer_model import ElcComposerModel
from tests.evaluation.tiny import tiny_bert, tiny_tokenizer

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def test_run_folder_and_checkpoint_score_as_the_live_model(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = ElcConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **SIZES)
    model = ElcComposerModel(ElcForMaskedLM(config))
    ids = torch.randint(5, 20, (4, 6))
    rows = [{"input_ids": row, "attention_mask": torch.ones(6, dtype=torch.bool), "labels": row} for row in ids]
    run = tmp_path / "run"
    Trainer(
        model=model,
        optimizers=torch.optim.SGD(model.parameters(), lr=0.1),
        train_dataloader=DataLoader(rows, batch_size=2),
        max_duration="2ba",
        save_folder=str(run / "checkpoints"),
        progress_bar=False,
        device="cpu",
    ).fit()
    (run / "model_config.json").write_text(config.to_json_string())
    tokenizer.save_pretrained(run / "tokenizer")
    wanted = score_sentences(model.model, tokenizer, ["the cat sleeps"])
    places = [run, run / "checkpoints", next((run / "checkpoints").glob("*ba2*.pt"))]
    for place in places:
        loaded, own = load_model_and_tokenizer(place)
        assert score_sentences(loaded, own, ["the cat sleeps"]) == wanted
    assert not loaded.training


def test_folder_with_missing_parameters_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_bert(len(tokenizer))
    model.bert.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"lacks \d+ parameters of BertForMaskedLM.*initialized randomly"):
        load_model_and_tokenizer(tmp_path)
    model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="no tokenizer can be loaded"):
        load_model_and_tokenizer(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load_model_and_tokenizer(tmp_path)[0].config.vocab_size == len(tokenizer)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ConfigError, match="cannot be loaded as AutoModelForMaskedLM"):
        load_model_and_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type":')
    with pytest.raises(DataError, match=r"config\.json is not valid JSON"):
        load_model_and_tokenizer(tmp_path)


def test_masked_model_is_not_scored_as_causal(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    config = ElcConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **SIZES)
    ElcForMaskedLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load_model_and_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="sees the following tokens"):
        load_model_and_tokenizer(tmp_path, method=Method.causal)


def test_missing_model_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        load_model_and_tokenizer(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"model_config\.json is not beside it"):
        load_model_and_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="dtype is 'int8', must be one of float32"):
        load_model_and_tokenizer(tmp_path, dtype="int8")


@pytest.mark.parametrize("kind", ["own", "foreign"])
def test_folder_without_tokenizer_files_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers 4 raises; transformers 5 returns an empty tokenizer, which the replaced method imitates."""
    tokenizer = tiny_tokenizer()
    if kind == "own":
        ElcForMaskedLM(ElcConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **SIZES)).save_pretrained(
            tmp_path
        )
    else:
        tiny_bert(len(tokenizer)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="no tokenizer can be loaded from"):
        load_model_and_tokenizer(tmp_path)
    for name in ("AutoTokenizer", "PreTrainedTokenizerFast"):
        invented = type(name, (), {"from_pretrained": staticmethod(lambda *args, **settings: tokenizer)})
        monkeypatch.setattr(models, name, invented)
    with pytest.raises(ConfigError, match=r"it has no tokenizer files\): name a folder.*--tokenizer") as raised:
        load_model_and_tokenizer(tmp_path)
    assert "\n" not in str(raised.value)
    with pytest.raises(ConfigError, match=r"not a folder"):
        load_model_and_tokenizer(tmp_path, tokenizer=str(tmp_path / "nowhere"))
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    assert load_model_and_tokenizer(tmp_path, tokenizer=str(tmp_path / "tokenizer"))[1] is tokenizer
    (tmp_path / "tokenizer" / "tokenizer.json").rename(tmp_path / "tokenizer" / "other.json")
    with pytest.raises(ConfigError, match=r"it has none of"):
        load_model_and_tokenizer(tmp_path, tokenizer=str(tmp_path / "tokenizer"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "holds no JSON object"),
        ('{"model_type": "\\ud800"}', "surrogates not allowed"),
        ('{"hidden_size": ' + "1" * 400 + "}", "integer of 400 digits"),
        ('{"a": ' + "[" * 900 + "]" * 900 + "}", "levels of nesting"),
        ('{"hidden_size": true}', "hidden_size is True in the config, must be an integer"),
        ('{"hidden_size": "16"}', "hidden_size is '16' in the config, must be an integer"),
        ('{"num_hidden_layers": 1000000000000}', "must be at most"),
        ('{"num_hidden_layers": 1000000}', "holds 2 layers, but the config has 1000000"),
        ('{"layer_norm_eps": null}', "layer_norm_eps is None in the config, must be a number"),
        ('{"layer_mixing": ["base"]}', "not a valid model config"),
        ('{"torch_dtype": {"a": 1}, "hidden_size": 17}', "not a valid model config"),
        (None, "cannot be read"),
    ],
)
def test_damaged_model_config_of_a_run_is_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    config = ElcConfig(vocab_size=70, max_position_embeddings=40, **SIZES)
    state = {f"model.{name}": value for name, value in ElcForMaskedLM(config).state_dict().items()}
    torch.save({"state": {"model": state}}, tmp_path / "ba1-rank0.pt")
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    path = tmp_path / "model_config.json"
    if content is None:
        path.mkdir()
    else:
        valid = json.loads(config.to_json_string())
        try:
            changed = json.loads(content)
        except ValueError:
            changed = None
        whole = isinstance(changed, dict) and not {"a", "model_type"} & changed.keys()
        path.write_text(json.dumps(valid | changed) if whole and "400" not in message else content)
    with pytest.raises((ConfigError, DataError), match=message) as raised:
        load_model_and_tokenizer(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": ' + "9" * 400 + "}", None])
def test_damaged_config_of_a_folder_is_one_line(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "config.json"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    with pytest.raises(DataError, match=r"config\.json") as raised:
        load_model_and_tokenizer(tmp_path)
    assert "\n" not in str(raised.value)

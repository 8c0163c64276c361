from __future__ import annotations

from pathlib import Path

import pytest
import torch
from composer import Trainer
from torch.utils.data import DataLoader

from elc_composer.common.errors import ConfigError, DataError
from elc_composer.evaluation.config import Method
from elc_composer.evaluation.models import load_model_and_tokenizer
from elc_composer.evaluation.scoring import score_sentences
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.training.composer_model import ElcComposerModel
from tests.evaluation.tiny import tiny_bert, tiny_tokenizer

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def test_a_run_its_folder_and_its_checkpoint_score_as_the_model_did(tmp_path: Path) -> None:
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


def test_a_folder_without_the_whole_model_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_bert(len(tokenizer))
    model.bert.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"lacks \d+ parameters of BertForMaskedLM.*random numbers"):
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
    with pytest.raises(DataError, match=r"config\.json cannot be read as JSON"):
        load_model_and_tokenizer(tmp_path)


def test_a_masked_model_is_not_scored_as_a_causal_one(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    config = ElcConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **SIZES)
    ElcForMaskedLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load_model_and_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="sees what follows"):
        load_model_and_tokenizer(tmp_path, method=Method.causal)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        load_model_and_tokenizer(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"model_config\.json is not beside it"):
        load_model_and_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="'int8' is none of float32"):
        load_model_and_tokenizer(tmp_path, dtype="int8")

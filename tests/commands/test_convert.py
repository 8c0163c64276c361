"""Published checkpoints become transformers folders with the published logits; what does not fit is refused by name."""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from elc_composer.common.errors import DataError
from elc_composer.convert import convert, main
from elc_composer.model import ElcForMaskedLM
from elc_composer.model_files import Hints, read_published
from elc_composer.model_files.qk_layout import WHOLE, split_in_code
from tests.commands.intruder import Intruder
from tests.commands.published_folders import SHAPE, make, published_state, write_folder, write_training_file
from tests.conftest import require
from tests.model.golden import golden_names, load_golden_model, relative_error


def assert_same(actual: ElcForMaskedLM, expected: ElcForMaskedLM) -> None:
    wanted = expected.state_dict()
    assert actual.config.layer_mixing == expected.config.layer_mixing
    assert actual.state_dict().keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in actual.state_dict().items())


@pytest.mark.golden
@pytest.mark.parametrize("name", golden_names())
def test_published_training_checkpoint(
    name: str, golden_dir: Path, tmp_path: Path, deviations: Callable[[str, float], float]
) -> None:
    folder = golden_dir / "model"
    source = require(folder / f"{name}_reference_checkpoint.bin")
    config = require(folder / f"{name}.json")
    convert(source, tmp_path, Hints(layer_mixing=json.loads(config.read_text())["variant"], config=config))
    model = ElcForMaskedLM.from_pretrained(tmp_path)
    with np.load(require(folder / f"{name}.npz")) as arrays:
        real = ~arrays["padding_mask"]
        with torch.no_grad():
            logits = model(torch.from_numpy(arrays["input_ids"]), torch.from_numpy(real)).logits
        error = relative_error(logits[torch.from_numpy(real)], arrays["logits"][real])
    assert deviations("logits of a converted checkpoint, float32", error) <= 1e-4
    assert_same(model, load_golden_model(folder, name, torch.float32))


@pytest.mark.golden
def test_published_training_checkpoint_loads_with_an_allow_list(golden_dir: Path) -> None:
    source = require(golden_dir / "model" / "base_reference_checkpoint.bin")
    with pytest.raises(DataError, match=r"base / zero / normalized.*--layer-mixing"):
        read_published(source)
    with pytest.raises(DataError, match="--num-attention-heads"):
        read_published(source, Hints(layer_mixing="base"))


@pytest.mark.parametrize("safe", [False, True], ids=["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("variant", ["base", "weighted_output", "ltg"])
def test_published_hugging_face_folder(variant: str, safe: bool, tmp_path: Path) -> None:
    expected = make(variant)
    state = {**published_state(expected), "head.nonlinearity.1.weight": torch.zeros(24, 24)}
    hints = Hints(layer_mixing="base" if variant == "base" else None)
    if safe:
        state = {name: value for name, value in state.items() if name != "classifier.nonlinearity.5.weight"}
    model, notes = read_published(write_folder(tmp_path / "hub", state, safe), hints)
    assert_same(model, expected)
    assert model.config.pad_token_id == 3
    assert any("pad_token_id 4" in note for note in notes)
    assert any("head.nonlinearity.1.weight (24, 24)" in note for note in notes)


def test_assumed_fields_are_noted(tmp_path: Path) -> None:
    state = {name: value for name, value in published_state(make("ltg")).items() if "position_indices" not in name}
    _, notes = read_published(write_training_file(tmp_path / "model.bin", state), Hints(num_attention_heads=2))
    assert "assumed max_position_embeddings 512" in notes
    assert "assumed layer_norm_eps 1e-07" in notes


def test_interleaved_query_and_key_rows(tmp_path: Path) -> None:
    expected = make("ltg")
    state = published_state(expected)
    state = {name: interleaved(name, value) for name, value in state.items()}
    source = write_training_file(tmp_path / "model.bin", state, num_attention_heads=2)
    assert_same(read_published(source, Hints(interleaved_qk=True))[0], expected)
    plain, _ = read_published(source)
    assert not torch.equal(
        plain.state_dict()["transformer.layers.0.attention.in_proj_qk.weight"],
        expected.state_dict()["transformer.layers.0.attention.in_proj_qk.weight"],
    )


CONTENTS = {
    "whole": "query, key = self.in_proj_qk(hidden_states).chunk(2, dim=2)",
    "per head": """qk = self.in_proj_qk(hidden_states)
        query, key = qk.view(length, batch, self.heads, 2 * self.head_size).chunk(2, dim=-1)""",
}
POSITIONS = {
    "whole": """pos = self.in_proj_qk(self.dropout(relative_embedding))  # not .view(-1, self.heads, 2 * self.head_size)
        pos = F.embedding(self.position_indices[:length, :length], pos)
        query_pos, key_pos = pos.chunk(2, dim=-1)
        query_pos = query_pos.view(length, length, self.heads, self.head_size)""",
    "whole, in one line": """query_pos, key_pos = self.in_proj_qk(self.dropout(relative_embedding)).chunk(2, dim=-1)
        query_pos = query_pos.view(-1, self.heads, self.head_size)""",
    "per head": """pos = self.in_proj_qk(self.dropout(relative_embedding))
        query_pos, key_pos = pos.view(-1, self.heads, 2*self.head_size).chunk(2, dim=2)""",
    "per head, in two lines": """pos = self.in_proj_qk(self.dropout(relative_embedding))
        pos = F.embedding(self.position_indices[:length, :length], pos)
        pos = pos.reshape(length, length, self.heads, self.head_size * 2)
        query_pos, key_pos = pos.chunk(2, dim=3)""",
    "per head, unflattened": """query_pos, key_pos = self.in_proj_qk(self.dropout(relative_embedding)).unflatten(
            -1, (self.heads, 2, self.head_size)
        ).unbind(-2)""",
}


def write_code(folder: Path, contents: str, positions: str) -> None:
    code = f"""class Attention(nn.Module):
    def scores(self, hidden_states, relative_embedding):
        {CONTENTS[contents]}
        {POSITIONS[positions]}
"""
    (folder / "modeling_ltgbert.py").write_text(code)


@pytest.mark.parametrize("positions", list(POSITIONS))
@pytest.mark.parametrize("contents", list(CONTENTS))
def test_split_of_queries_and_keys_is_read_from_the_folders_code(
    contents: str, positions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LTG-BERT splits contents into all queries and all keys, positions per head: no order of rows converts that."""
    expected = make("ltg")
    state = published_state(expected)
    if contents == "per head":
        state = {name: interleaved(name, value) for name, value in state.items()}
    folder = write_folder(tmp_path / "hub", state)
    write_code(folder, contents, positions)
    if contents != positions.split(",")[0]:
        for hints in (Hints(), Hints(interleaved_qk=True)):
            with pytest.raises(DataError, match=r"splits in_proj_qk into queries and keys in two ways") as raised:
                read_published(folder, hints)
            assert "\n" not in str(raised.value)
        assert main([str(folder), str(tmp_path / "out")]) == 1
        assert not (tmp_path / "out").exists()
        return
    model, notes = read_published(folder)
    assert_same(model, expected)
    assert any("reordered the rows of in_proj_qk" in note for note in notes) == (contents == "per head")
    assert not any("assumed that in_proj_qk" in note for note in notes)
    if contents == "whole":
        with pytest.raises(DataError, match="leave out --interleaved-qk"):
            read_published(folder, Hints(interleaved_qk=True))


def test_own_modeling_code_is_recognized() -> None:
    code = files("elc_composer.model")
    assert split_in_code(Path(str(code)), "attention.py").is_all(WHOLE)


@pytest.mark.parametrize("code", ["", "def f(:", "x = 1\n" * 3, "\x00", "(" * 5000, "x = self.in_proj_qk"])
def test_code_that_shows_no_split_leaves_the_decision_to_the_user(code: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "hub", published_state(make("ltg")))
    (folder / "modeling_ltgbert.py").write_text(code)
    (folder / "modeling_other.py").mkdir()
    model, notes = read_published(folder)
    assert_same(model, make("ltg"))
    assert any("assumed that in_proj_qk holds all queries, then all keys" in note for note in notes)


def interleaved(name: str, value: Tensor) -> Tensor:
    if ".in_proj_qk." not in name:
        return value
    query, key = value.unflatten(0, (2, SHAPE["num_attention_heads"], -1))
    return torch.stack((query, key), dim=1).flatten(0, 2)


def drop(state: dict[str, Tensor]) -> None:
    del state["transformer.layers.1.attention.out_proj.bias"]


def add(state: dict[str, Tensor]) -> None:
    state["pooler.weight"] = torch.zeros(3)


def reshape(state: dict[str, Tensor]) -> None:
    state["transformer.layers.2.mlp.mlp.1.weight"] = torch.zeros(64, 25)


def move_positions(state: dict[str, Tensor]) -> None:
    state["transformer.layers.1.attention.position_indices"][0, 5] += 1


def untie(state: dict[str, Tensor]) -> None:
    state["classifier.nonlinearity.5.weight"] = state["classifier.nonlinearity.5.weight"] + 1


def as_sparse(state: dict[str, Tensor]) -> None:
    state["transformer.layers.2.mlp.mlp.4.weight"] = state["transformer.layers.2.mlp.mlp.4.weight"].to_sparse()


def as_complex(state: dict[str, Tensor]) -> None:
    state["transformer.layers.2.mlp.mlp.4.weight"] = state["transformer.layers.2.mlp.mlp.4.weight"] * 1j


def add_a_far_layer(state: dict[str, Tensor]) -> None:
    state["transformer.layers.1000000000.mlp.mlp.1.weight"] = torch.zeros(1)


def add_a_nameless_layer(state: dict[str, Tensor]) -> None:
    state["transformer.layers.x.bias"] = torch.zeros(1)


def cut_rows(state: dict[str, Tensor]) -> None:
    state["transformer.layers.0.attention.in_proj_qk.weight"] = torch.zeros(47, 24)


def flatten_positions(state: dict[str, Tensor]) -> None:
    state["transformer.layers.0.attention.position_indices"] = torch.tensor(3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop, r"layers\.1\.attention\.out_proj\.bias \(24,\) is missing"),
        (add, r"pooler\.weight \(3,\) is unknown"),
        (reshape, r"layers\.2\.mlp\.mlp\.1\.weight has shape \(64, 25\) instead of \(64, 24\)"),
        (move_positions, r"layers\.1\.attention\.position_indices \(32, 32\) is not the table"),
        (untie, r"classifier\.nonlinearity\.5\.weight and embedding\.word_embedding\.weight differ"),
        (as_sparse, r"mlp\.mlp\.4\.weight is not a dense tensor of real numbers"),
        (as_complex, r"mlp\.mlp\.4\.weight is not a dense tensor of real numbers"),
        (add_a_far_layer, "its 4 layers must be numbered from 0, but there is 1000000000"),
        (add_a_nameless_layer, "its 4 layers must be numbered from 0, but there is x"),
        (cut_rows, r"in_proj_qk\.weight has shape \(47, 24\) instead of \(48, 24\)"),
        (flatten_positions, r"position_indices \(\) is not the table"),
    ],
)
@pytest.mark.parametrize("interleaved_qk", [False, True])
def test_parameters_that_do_not_fit_are_named(
    damage: Callable[[dict[str, Tensor]], None], message: str, interleaved_qk: bool, tmp_path: Path
) -> None:
    state = published_state(make())
    damage(state)
    source = write_training_file(tmp_path / "model.bin", state)
    with pytest.raises(DataError, match=message):
        read_published(source, Hints(layer_mixing="base", num_attention_heads=2, interleaved_qk=interleaved_qk))


@pytest.mark.parametrize(
    ("name", "value"),
    [("layer_norm_eps", None), ("layer_norm_eps", "small"), ("num_attention_heads", 2.0), ("vocab_size", "50")],
)
def test_field_of_another_type_is_refused(name: str, value: object, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "hub", published_state(make("ltg")), **{name: value})
    with pytest.raises(DataError, match=name):
        read_published(folder)


def test_prefixes_of_wrappers_are_removed(tmp_path: Path) -> None:
    state = {f"module._orig_mod.{name}": value for name, value in published_state(make("ltg")).items()}
    source = write_training_file(tmp_path / "model.bin", state, num_attention_heads=2)
    assert_same(read_published(source)[0], make("ltg"))


@pytest.mark.parametrize("protocol", [2, 4])
def test_messages_do_not_advise_unrestricted_loading(protocol: int, tmp_path: Path) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(pickle.dumps({"model": {}, "args": Intruder(tmp_path / "witness")}, protocol=protocol))
    with pytest.raises(DataError, match=r"more than (plain )?weights") as refused:
        read_published(source)
    assert "weights_only" not in str(refused.value)
    assert not (tmp_path / "witness").exists()


def test_contradictions_are_refused(tmp_path: Path) -> None:
    source = write_training_file(tmp_path / "model.bin", published_state(make("weighted_output")))
    with pytest.raises(DataError, match="given as 'zero', but the parameter names are those of weighted_output"):
        read_published(source, Hints(layer_mixing="zero", num_attention_heads=2))
    folder = write_folder(tmp_path / "hub", published_state(make("ltg")), hidden_size=48)
    with pytest.raises(DataError, match="hidden_size is 24 by the parameters' shapes, but 48 in the config"):
        read_published(folder)
    folder = write_folder(tmp_path / "bert", published_state(make("ltg")), model_type="bert")
    with pytest.raises(DataError, match="model_type 'bert' instead of 'ltgbert'"):
        read_published(folder)
    with pytest.raises(DataError, match="neither a checkpoint file nor a folder"):
        read_published(tmp_path / "nowhere")


@pytest.mark.parametrize("place", ["training file", "folder"])
def test_code_in_a_pickle_is_refused_and_not_run(place: str, tmp_path: Path) -> None:
    state: dict[str, object] = {**published_state(make()), "extra": Intruder(tmp_path / "witness")}
    if place == "folder":
        source = write_folder(tmp_path / "hub", state)  # type: ignore[arg-type]
    else:
        source = write_training_file(tmp_path / "model.bin", state)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"more than weights \([\w.]*exec\) and was rejected"):
        read_published(source, Hints(layer_mixing="base", num_attention_heads=2))
    assert not (tmp_path / "witness").exists()


def test_namespace_is_allowed_in_training_files_only(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "hub", {**published_state(make()), "args": argparse.Namespace()})  # type: ignore[dict-item]
    with pytest.raises(DataError, match=r"more than weights \(argparse\.Namespace\)"):
        read_published(folder, Hints(layer_mixing="base"))


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_training_file(tmp_path / "model.bin", published_state(make()))
    assert main([str(source), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main([str(source), str(tmp_path / "out"), "--layer-mixing", "base", "--num-attention-heads", "2"]) == 0
    assert "note: no tokenizer was written" in capsys.readouterr().out
    assert_same(ElcForMaskedLM.from_pretrained(tmp_path / "out"), make())

"""Comparison of layer weights, and exact shares after pruning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from elc_composer.analyze.__main__ import main, prune_and_score, tell_apart
from elc_composer.analyze.pruning import count_pruned, describe_shares, distance, kept_sources, pruned, shares_by_layer
from elc_composer.evaluation.minimal_pairs import read_minimal_pairs
from elc_composer.export import export_model
from elc_composer.model import ElcConfig, ElcForMaskedLM
from tests.evaluation.tiny import tiny_tokenizer, write_pairs


def tiny_model(layer_mixing: str = "zero", seed: int = 0) -> ElcForMaskedLM:
    """A model of three layers with very unequal mixing weights."""
    torch.manual_seed(seed)
    config = ElcConfig(
        layer_mixing=layer_mixing,
        vocab_size=len(tiny_tokenizer()),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=32,
        position_bucket_size=8,
    )
    model = ElcForMaskedLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (1.0 if "prev_layer" in name else 0.2))
    return model


def exported(folder: Path, model: ElcForMaskedLM) -> Path:
    export_model(model, None, folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_pruning_keeps_shares_above_the_threshold_and_the_largest() -> None:
    assert kept_sources([0.6, 0.05, 0.35], 0.1) == [True, False, True]
    assert kept_sources([0.1, 0.9], 0.1) == [True, True]
    assert kept_sources([0.25, 0.25, 0.25, 0.25], 0.3) == [True, False, False, False]
    assert kept_sources([1.0], 0.99) == [True]


@pytest.mark.parametrize("variant", ["base", "zero", "normalized", "weighted_output"])
def test_pruning_keeps_the_proportions_of_the_remaining_shares(variant: str) -> None:
    model = tiny_model(variant)
    before = shares_by_layer(model)
    after = shares_by_layer(pruned(model, 0.3))
    assert shares_by_layer(model) == before
    assert {"1", "2", "3"} <= before.keys()
    assert ("head" in before) == (variant == "weighted_output")
    for label, row in before.items():
        kept = kept_sources(row, 0.3)
        rest = sum(share for share, stays in zip(row, kept) if stays)
        assert after[label] == pytest.approx([share / rest if stays else 0.0 for share, stays in zip(row, kept)])
    number, lost = count_pruned(before, 0.3)
    assert number == sum(row.count(0.0) for row in after.values()) > 0
    assert 0.0 < lost < 1.0


def test_a_pruned_model_equals_one_with_zero_shares() -> None:
    model = tiny_model()
    ids = torch.randint(5, 40, (2, 7))
    by_hand = tiny_model()
    with torch.no_grad():
        for layer in by_hand.transformer.layers:
            weights = layer.prev_layer_weights
            # The softmax of float32 gives exactly zero; at least one of three shares is above 0.3.
            weights[weights.softmax(0) < 0.3] = -1e4
        ours, expected = pruned(model, 0.3)(ids).logits, by_hand(ids).logits
    assert torch.isfinite(ours).all()
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)
    assert not torch.equal(ours, model(ids).logits)


def test_a_single_layer_can_be_pruned() -> None:
    model = tiny_model()
    before, after = shares_by_layer(model), shares_by_layer(pruned(model, 0.49, ["3"]))
    assert after["2"] == before["2"]
    assert after["3"] != before["3"]


def test_layers_are_described_and_compared() -> None:
    figures = describe_shares({"2": [0.5, 0.5], "3": [1.0, 0.0, 0.0]})
    assert figures["2"]["entropy"] == pytest.approx(0.693147, abs=1e-6)
    assert figures["3"]["entropy"] == 0
    assert figures["3"]["embedding_share"] == 1
    assert figures["2"]["expected_source"] == 0.5
    assert distance({"2": [0.5, 0.5], "3": [1.0]}, {"2": [0.9, 0.1], "3": [0.5, 0.5]}) == {"2": pytest.approx(0.4)}


def test_pairs_lost_and_won_add_up(tmp_path: Path) -> None:
    pairs = read_minimal_pairs(write_pairs(tmp_path))
    rows = prune_and_score(tiny_model(), tiny_tokenizer(), pairs, [0.01, 0.3, 0.45], each_layer=True)
    whole = rows[0]
    assert (whole["threshold"], whole["pruned_sources"], whole["pairs_lost"]) == (0.0, 0, 0)
    assert [row["layers"] for row in rows[1:]] == ["all"] * 3 + ["2"] * 3 + ["3"] * 3
    everything = [row for row in rows if row["layers"] == "all"]
    assert [row["pruned_sources"] for row in everything] == sorted(row["pruned_sources"] for row in everything)
    for row in rows:
        if not row["pruned_sources"]:
            assert row["accuracy"] == whole["accuracy"]
        # no ties among these pairs: each is right or wrong
        difference = (row["accuracy"]["micro"] - whole["accuracy"]["micro"]) * len(pairs)
        assert row["pairs_won"] - row["pairs_lost"] == pytest.approx(difference)


def test_the_command_compares_and_prunes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = exported(tmp_path / "one", tiny_model())
    two = exported(tmp_path / "two", tiny_model("weighted_output", seed=1))
    pairs = write_pairs(tmp_path / "pairs")
    out = tmp_path / "out"
    options = ["--minimal-pairs", str(pairs), "--prune", "0.2", "0.4", "--subset", "2", "--out", str(out)]
    assert main([str(one), str(two), *options]) == 0
    compared = json.loads((out / "layer_weights.json").read_text())["models"]
    assert set(compared) == {"one", "two"}
    assert compared["one"]["shares"]["3"] == pytest.approx(shares_by_layer(tiny_model())["3"])
    assert compared["one"]["distance_to_first"]["3"] == 0
    assert compared["two"]["distance_to_first"]["3"] > 0
    scored = json.loads((out / "pruning.json").read_text())
    assert scored["pairs"] == 6
    assert [row["threshold"] for row in scored["models"]["two"]] == [0, 0.2, 0.4]
    for picture in ("layer_weights.png", "pruning.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "head" in printed
    assert "accuracy in %" in printed


def test_weights_alone_need_no_tokenizer(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    export_model(tiny_model(), None, folder)
    assert main([str(folder), "--out", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out" / "pruning.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prune", "0.1"], "need each other"),
        (["--prune", "1.5", "--minimal-pairs", "x"], "between 0 and 1"),
        ([], "does not exist"),
    ],
)
def test_invalid_input_is_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_a_variant_without_layer_weights_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_model(tiny_model("ltg"), None, tmp_path / "model")
    assert main([str(tmp_path / "model"), "--out", str(tmp_path / "out")]) == 2
    assert "has no layer weights" in capsys.readouterr().err


def test_names_of_folders_are_distinct() -> None:
    assert tell_apart(["runs/a", "runs/b"]) == ["a", "b"]
    assert tell_apart(["x/run", "y/run"]) == ["x/run", "y/run"]


def test_an_unwritable_folder_an_empty_subset_and_nan_weights_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model()
    folder = exported(tmp_path / "model", model)
    pairs = write_pairs(tmp_path / "pairs")
    scoring = ["--minimal-pairs", str(pairs), "--prune", "0.2"]
    (tmp_path / "file").touch()
    for options, message in (
        (["--out", str(tmp_path / "file")], "cannot be created"),
        (["--out", str(tmp_path / "out"), *scoring, "--subset", "0"], "subset_per_paradigm is 0"),
    ):
        assert main([str(folder), *options]) == 2
        assert message in capsys.readouterr().err
    with torch.no_grad():
        model.transformer.layers[2].prev_layer_weights[0] = float("nan")
    broken = exported(tmp_path / "broken", model)
    assert main([str(folder), str(broken), "--out", str(tmp_path / "out")]) == 2
    assert "layer weights that are NaN or infinite" in capsys.readouterr().err
    assert not (tmp_path / "out" / "layer_weights.json").exists()

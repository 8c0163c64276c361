"""A trainer's checkpoint becomes a folder that transformers loads without this project, with the same logits."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from composer import Trainer
from torch.utils.data import DataLoader

from elc_composer.common.errors import DataError
from elc_composer.export import export_checkpoint, export_model, main
from elc_composer.model import MIXING_RULES, ElcConfig, ElcForMaskedLM
from elc_composer.model_files import read_trainer_checkpoint
from elc_composer.prepared.tokenizer_files import save_tokenizer
from elc_composer.training.composer_model import ElcComposerModel
from streaming_prep.train_tokenizer import train_tokenizer
from tests.commands.intruder import Intruder
from tests.foreign import run_elsewhere
from tests.multirank.launch import launch

SENTENCES = ["the old dog sees the small cat", "a cat sees the dogs that run", "the cats run"] * 5
SHAPE = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "position_bucket_size": 4,
}
LOAD = """
import json, torch, transformers
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, pipeline
folder, target = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model, info = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
batch = tokenizer(["the dog runs", "a cat"], padding=True, return_tensors="pt")
with torch.no_grad():
    logits = model(**batch).logits
    long_ids = torch.arange(100).remainder(30)[None]
    long_logits = model(long_ids).logits
encoder = AutoModel.from_pretrained(folder, trust_remote_code=True)
fill = pipeline("fill-mask", model=folder, tokenizer=folder, trust_remote_code=True)
answers = fill("the [MASK] sees the cat", top_k=3)
torch.save({"ids": batch["input_ids"], "mask": batch["attention_mask"], "logits": logits,
            "long_ids": long_ids, "long_logits": long_logits}, target + ".pt")
open(target + ".json", "w").write(json.dumps({
    "loading": {key: sorted(map(str, value)) for key, value in info.items() if value},
    "encoder": type(encoder).__name__,
    "tokens": [answer["token_str"] for answer in answers],
    "length": tokenizer.model_max_length,
}))
"""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(train_tokenizer(SENTENCES, 100, min_frequency=1), tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def vocab_size(tokenizer: Path) -> int:
    return len(json.loads((tokenizer / "tokenizer.json").read_text())["model"]["vocab"])


def perturbed(config: ElcConfig) -> ElcForMaskedLM:
    """A model whose every parameter, layer weights and biases included, is far from its initial value."""
    torch.manual_seed(3)
    model = ElcForMaskedLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


@pytest.fixture(scope="module")
def trained(tokenizer: Path, vocab_size: int, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ElcForMaskedLM]:
    """A run's folder after two batches, and the model as it was then."""
    run = tmp_path_factory.mktemp("run")
    config = ElcConfig(vocab_size=vocab_size, layer_mixing="weighted_output", **SHAPE)
    model = perturbed(config)
    ids = torch.randint(7, vocab_size, (8, 16))
    rows = [{"input_ids": row, "attention_mask": torch.ones(16, dtype=torch.bool), "labels": row} for row in ids]
    Trainer(
        model=ElcComposerModel(model),
        train_dataloader=DataLoader(rows, batch_size=4),
        optimizers=torch.optim.Adam(model.parameters(), lr=1e-2),
        max_duration="2ba",
        save_folder=str(run / "checkpoints"),
        save_interval="1ba",
        device="cpu",
        progress_bar=False,
    ).fit()
    (run / "model_config.json").write_text(config.to_json_string())
    (run / "tokenizer").symlink_to(tokenizer)
    return run, model.eval()


def test_exported_run_loads_elsewhere_with_the_same_logits(
    trained: tuple[Path, ElcForMaskedLM], tmp_path: Path
) -> None:
    run, model = trained
    out = export_checkpoint(run, tmp_path / "out")
    assert {"config.json", "model.safetensors", "modeling_elc.py", "tokenizer.json", "README.md"} <= {
        path.name for path in out.iterdir()
    }
    run_elsewhere(LOAD, out, tmp_path / "seen", home=tmp_path)
    report = json.loads((tmp_path / "seen.json").read_text())
    assert report["loading"] == {}
    assert report["encoder"] == "ElcModel"
    assert report["length"] == SHAPE["max_position_embeddings"]
    assert len(report["tokens"]) == 3
    seen = torch.load(tmp_path / "seen.pt", weights_only=True)
    assert (seen["ids"][:, 0] == 1).all(), "the tokenizer puts [CLS] first"
    with torch.no_grad():
        expected = model(seen["ids"], seen["mask"]).logits
    real = seen["mask"].bool()
    assert (seen["logits"] - expected)[real].abs().max() <= 1e-5
    with torch.no_grad():
        assert (seen["long_logits"] - model(seen["long_ids"]).logits).abs().max() <= 1e-5


@pytest.mark.parametrize("variant", MIXING_RULES)
def test_live_model_of_each_variant_is_exported(variant: str, tokenizer: Path, vocab_size: int, tmp_path: Path) -> None:
    model = perturbed(ElcConfig(vocab_size=vocab_size, layer_mixing=variant, **SHAPE))
    loaded = ElcForMaskedLM.from_pretrained(export_model(model, tokenizer, tmp_path))
    assert "auto_map" not in model.config.to_dict(), "the live model's config stays as it was"
    expected = model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("part", ["checkpoints", "checkpoints/ep1-ba2-rank0.pt", "checkpoints/latest-rank0.pt", "."])
def test_every_way_to_name_a_checkpoint(part: str, trained: tuple[Path, ElcForMaskedLM], tmp_path: Path) -> None:
    run, model = trained
    if part.endswith("rank0.pt"):
        part = str(next((run / "checkpoints").glob("ep*-ba2-rank0.pt")).relative_to(run)) if "ep1" in part else part
    loaded = ElcForMaskedLM.from_pretrained(export_checkpoint(run / part, tmp_path / "out"))
    expected = model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())


def test_command_line(trained: tuple[Path, ElcForMaskedLM], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = trained
    assert main([str(run), str(tmp_path / "out")]) == 0
    assert "trust_remote_code=True" in capsys.readouterr().out
    assert main([str(tmp_path), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("error: no model_config.json beside")


def test_tokenizer_or_config_that_does_not_fit_is_named(trained: tuple[Path, ElcForMaskedLM], tmp_path: Path) -> None:
    run, model = trained
    checkpoint = next((run / "checkpoints").glob("ep*-ba2-rank0.pt"))
    wider = ElcConfig.from_dict({**model.config.to_dict(), "intermediate_size": 40})
    with pytest.raises(DataError, match=r"mlp\.mlp\.1\.weight has shape \(64, 24\) instead of \(80, 24\)"):
        read_trainer_checkpoint(checkpoint, wider)
    with pytest.raises(DataError, match=r"transformer\.prev_layer_weights \(4,\) is unknown"):
        read_trainer_checkpoint(checkpoint, ElcConfig.from_dict({**model.config.to_dict(), "layer_mixing": "zero"}))
    other = save_tokenizer(train_tokenizer(SENTENCES, 40, min_frequency=1), tmp_path / "other")
    with pytest.raises(DataError, match=f"entries, the model {model.config.vocab_size}"):
        export_model(model, other, tmp_path / "out")


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_truncated_checkpoint_is_refused(kept: float, trained: tuple[Path, ElcForMaskedLM], tmp_path: Path) -> None:
    run, model = trained
    content = next((run / "checkpoints").glob("ep*-ba2-rank0.pt")).read_bytes()
    broken = tmp_path / "ep1-ba2-rank0.pt"
    broken.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(DataError, match=r"ep1-ba2-rank0\.pt"):
        read_trainer_checkpoint(broken, model.config)


def test_code_in_a_checkpoint_is_not_run(trained: tuple[Path, ElcForMaskedLM], tmp_path: Path) -> None:
    _, model = trained
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    witness = tmp_path / "witness"
    torch.save({"state": {"model": state, "callbacks": Intruder(witness)}}, tmp_path / "hostile.pt")
    read_trainer_checkpoint(tmp_path / "hostile.pt", model.config)
    torch.save({"state": {"model": Intruder(witness)}}, tmp_path / "hostile.pt")
    with pytest.raises(DataError, match="no parameters under state/model"):
        read_trainer_checkpoint(tmp_path / "hostile.pt", model.config)
    assert not witness.exists()
    torch.load(tmp_path / "hostile.pt", weights_only=False)
    assert witness.exists(), "the intruder does work where files are unpickled"


def test_hostile_metadata_of_a_sharded_checkpoint_is_not_run(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Intruder(tmp_path / "witness")))
    with pytest.raises(DataError, match=r"rejected; none of its code was executed: builtins\.exec"):
        read_trainer_checkpoint(tmp_path, ElcConfig())
    assert not (tmp_path / "witness").exists()


@pytest.mark.multirank
def test_sharded_and_gathered_checkpoints_of_two_ranks(tmp_path: Path) -> None:
    """FSDP2 on two ranks, saved both ways after the same batch: both files hold the model that the ranks held."""
    config = ElcConfig(vocab_size=60, layer_mixing="weighted_output", **SHAPE)
    (tmp_path / "model_config.json").write_text(config.to_json_string())
    launch(Path(__file__).parent / "jobs" / "export_job.py", tmp_path)
    expected = torch.load(tmp_path / "expected.pt", weights_only=True)
    for kind in ("sharded", "full"):
        model = read_trainer_checkpoint(tmp_path / kind, config)
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    shard = max((tmp_path / "sharded").rglob("*.distcp"), key=lambda path: path.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(DataError, match="damaged or incomplete"):
        read_trainer_checkpoint(tmp_path / "sharded", config)

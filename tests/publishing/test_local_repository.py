"""A published run loads by revision, offline and without this package, with the logits of each checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import scan_cache_dir

from elc_composer.model import ElcForMaskedLM
from elc_composer.model_files import read_trainer_checkpoint
from elc_composer.model_files.run_model import read_model_config
from elc_composer.publish import main
from tests.conftest import ROOT
from tests.foreign import run_elsewhere
from tests.publishing.made_run import STEPS, add_checkpoint, make_run
from tests.runs import composer, prepare_toy, tiny_overrides

LOAD = """
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer
folder, target, *revisions = sys.argv[1:]
place = {"cache_dir": folder, "local_files_only": True}
logits = {}
for revision in revisions:
    tokenizer = AutoTokenizer.from_pretrained("local/tiny-run", revision=revision, trust_remote_code=False, **place)
    model = AutoModelForMaskedLM.from_pretrained("local/tiny-run", revision=revision, trust_remote_code=True, **place)
    batch = tokenizer(["the dog runs", "a cat"], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits[revision] = model.eval()(**batch).logits
try:
    AutoModelForMaskedLM.from_pretrained("local/tiny-run", revision="ba7", trust_remote_code=True, **place)
except OSError:
    logits["absent"] = torch.ones(1)
torch.save({"batch": dict(batch), "logits": logits}, target)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "made")


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in folder.rglob("*")
    }


def refs(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "models--local--tiny-run" / "refs").iterdir())


def test_each_revision_has_its_checkpoints_logits(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models: dict[str, ElcForMaskedLM] = {f"ba{step}": add_checkpoint(run, step) for step in STEPS}
    models["main"] = models[f"ba{max(STEPS)}"]
    out = tmp_path / "out"
    assert main([str(run), "--to", str(out)]) == 0
    assert "6 folders loaded in a fresh process, same logits" in capsys.readouterr().out
    run_elsewhere(LOAD, out, tmp_path / "seen.pt", *models, home=tmp_path)
    seen = torch.load(tmp_path / "seen.pt", weights_only=True)
    assert "absent" in seen["logits"]
    for revision, model in models.items():
        with torch.no_grad():
            expected = model(**seen["batch"]).logits
        error = (seen["logits"][revision] - expected)[seen["batch"]["attention_mask"].bool()].abs().max()
        assert error <= 1e-5 * expected.abs().max(), revision
    found = scan_cache_dir(out)
    assert not found.warnings
    assert {name for repository in found.repos for name in repository.refs} == set(models)


def test_a_second_call_changes_nothing_and_a_third_adds_what_is_new(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = [str(run), "--to", str(out), "--no-check"]
    assert main([*command, "--checkpoints", "ba4", "ba8-rank0.pt"]) == 0
    assert refs(out) == ["ba4", "ba8", "main"]
    assert main([*command, "--checkpoints", "ba4", "ba8"]) == 0
    before = tree(out)
    capsys.readouterr()
    assert main([str(run), "--to", str(out), "--checkpoints", "ba4"]) == 0
    assert "fresh process" not in capsys.readouterr().out, "nothing is new, so nothing is checked"
    assert tree(out) == before
    capsys.readouterr()
    add_checkpoint(run, 24)
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "ba24       written" in said
    assert "main       written, from ba24-rank0.pt" in said
    assert "ba4        there already" in said
    after = tree(out)
    assert all(
        after[name] == entry for name, entry in before.items() if "/blobs/" in name or name.endswith("/refs/ba4")
    )
    card = next((out / "models--local--tiny-run" / "snapshots").glob("*/README.md"))
    texts = [path.read_text() for path in card.parent.parent.glob("*/README.md")]
    assert any("`ba4`, `ba8`, `ba12`, `ba16`, `ba20`, `ba24`" in text for text in texts)


def test_dry_run_lists_and_writes_nothing(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(tmp_path)
    assert main([str(run), "--to", str(tmp_path / "out"), "--dry-run", "--checkpoints", "ba4"]) == 0
    said = capsys.readouterr().out
    assert tree(tmp_path) == before
    assert [line.split(":")[0] for line in said.splitlines() if not line.startswith(" ")] == ["ba4", "main"]
    assert "  model.safetensors" in said


def test_interrupted_call_is_finished_by_the_next(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from elc_composer.publishing import local_repository

    out = tmp_path / "out"
    written = local_repository.write_text
    count = 0

    def fails_at_the_second_branch(path: Path, text: str) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise OSError(28, "No space left on device", str(path))
        written(path, text)

    command = [str(run), "--to", str(out), "--no-check", "--checkpoints", "ba4", "ba8"]
    monkeypatch.setattr(local_repository, "write_text", fails_at_the_second_branch)
    assert main(command) == 1
    assert refs(out) == ["ba4"]
    monkeypatch.undo()
    assert main(command) == 0
    assert refs(out) == ["ba4", "ba8", "main"]


def test_another_run_is_not_mixed_in(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    other = make_run(tmp_path / "other", steps=(4,), started="2026-02-02T00:00:00+00:00")
    assert main([str(run), "--to", str(out), "--no-check", "--checkpoints", "ba4"]) == 0
    before = tree(out)
    assert main([str(other), "--to", str(out), "--no-check"]) == 1
    assert "holds another run" in capsys.readouterr().err
    assert tree(out) == before
    assert main([str(other), "--to", str(out), "--no-check", "--name", "local/other"]) == 0
    assert refs(out) == ["ba4", "main"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}/nowhere", "--to", "{tmp}/out"], "nowhere is not a folder; give the run_folder of a run"),
        (["{tmp}/full", "--to", "{tmp}/out"], "full has no config.yaml"),
        (["{tmp}/empty", "--to", "{tmp}/out"], "holds no checkpoint named like ba100-rank0.pt"),
        (["{tmp}/remote", "--to", "{tmp}/out"], "they are in s3://bucket/run: copy them there first"),
        (["{run}", "--to", "{tmp}/full"], "holds other files (notes.txt)"),
        (["{run}", "--to", "{tmp}/full/notes.txt"], "is a file; give a folder"),
        (["{run}", "--to", "{tmp}/out", "--checkpoints", "ba5"], "there is no ba5; give all, or names among ba4, ba8"),
        (["{run}", "--to", "{tmp}/out", "--name", "a--b/c"], "--name: 'a--b/c' is not a repository's name"),
        (["{run}", "--to", "s3://bucket/x"], "--to s3://bucket/x is not supported; it must be a folder, or hf://"),
        (["{run}", "--to", "hf://only"], "--to: 'only' is not a repository's name; it must be user/name"),
        (["{run}", "--to", "hf://a/b", "--name", "a/c"], "is for a local repository"),
        (["{run}", "--to", "{tmp}/out", "--license", "My Own"], "--license is 'My Own'"),
    ],
)
def test_errors_of_one_line(
    arguments: list[str], message: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.yaml").write_text("run_name: x\n")
    (tmp_path / "remote").mkdir()
    (tmp_path / "remote" / "config.yaml").write_text("checkpoints: {save_folder: 's3://bucket/run'}\n")
    before = tree(tmp_path)
    assert main([argument.format(run=run, tmp=tmp_path) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert tree(tmp_path) == before, "nothing was written"


@pytest.mark.slow
def test_a_run_of_training_is_published(tmp_path: Path) -> None:
    """From raw text to revisions, with the commands: 12 steps, checkpoints after 4, 6 (a stage ends), 8 and 12."""
    prepared = prepare_toy(tmp_path / "toy")
    vocab_size = json.loads((prepared / "data" / "manifest.json").read_text())["tokenizer"]["vocab_size"]
    run = tmp_path / "run"
    places = {"checkpoints__save_folder": run / "checkpoints", "checkpoints__keep": 10}
    overrides = tiny_overrides(prepared, run, vocab_size, run_name="tiny run", **places)
    done = composer(ROOT / "yamls" / "quickstart.yaml", *overrides)
    assert done.returncode == 0, done.stderr[-4000:]
    out = tmp_path / "out"
    assert main([str(run), "--to", str(out)]) == 0
    assert refs(out) == ["ba12", "ba4", "ba6", "ba8", "main"]
    run_elsewhere(LOAD, out, tmp_path / "seen.pt", *refs(out), home=tmp_path)
    seen = torch.load(tmp_path / "seen.pt", weights_only=True)
    for revision in ("ba4", "ba6", "ba8", "ba12"):
        checkpoint = run / "checkpoints" / f"{revision}-rank0.pt"
        model = read_trainer_checkpoint(checkpoint, read_model_config(run / "model_config.json"))
        with torch.no_grad():
            expected = model(**seen["batch"]).logits
        assert (seen["logits"][revision] - expected).abs().max() <= 1e-5 * expected.abs().max()
    snapshot = out / "models--local--tiny-run" / "snapshots" / (out / "models--local--tiny-run/refs/main").read_text()
    card = (snapshot / "README.md").read_text()
    for part in ("## Training", "## Data", "## Scores", "minimal pairs", "## Recipe", "layer_weights.png"):
        assert part in card

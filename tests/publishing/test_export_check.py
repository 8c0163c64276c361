"""An export loads itself in a fresh process, and replaces files only after its outputs are those of the model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from elc_composer.common.errors import DataError
from elc_composer.export import export_checkpoint, export_model, main
from elc_composer.model import ElcForMultipleChoice, ElcForQuestionAnswering, ElcModel
from elc_composer.publishing import model_folder
from elc_composer.publishing.self_check import TOLERANCE, check_folders, expect
from tests.publishing.made_run import make_model, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made"), steps=(20,))


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_kind_of_model_passes_in_one_process(tmp_path: Path) -> None:
    language = make_model(109, 1)
    half = make_model(109, 2, "weighted_output").to(torch.bfloat16)
    models: dict[str, ElcModel] = {"language": language, "half": half, "ltg": make_model(109, 3, "ltg")}
    for kind in (ElcForQuestionAnswering, ElcForMultipleChoice, ElcModel):
        models[kind.__name__] = kind(language.config).eval()
    for name, model in models.items():
        export_model(model, None, tmp_path / name)
    expected = [expect(model, tmp_path / name) for name, model in models.items()]
    assert check_folders(expected) <= TOLERANCE
    changed = expect(make_model(109, 4), tmp_path / "language")
    with pytest.raises(DataError, match="computes other logits than the model"):
        check_folders([changed])


def test_a_folder_that_fails_leaves_the_old_one_as_it_was(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(run), str(out), "--no-check"]) == 0
    (out / "notes.txt").write_text("mine")
    before = listing(out)
    monkeypatch.setattr(model_folder, "CODE", [name for name in model_folder.CODE if name != "encoder.py"])
    assert main([str(run), str(out), "--license", "mit"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: the written folder does not load in a fresh process: ")
    assert "encoder" in error
    assert error.count("\n") == 1
    assert listing(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing is left beside it"


def test_code_that_needs_this_package_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = model_folder.write_text

    model = make_model(109, 1)
    monkeypatch.setattr(
        model_folder,
        "write_text",
        lambda path, text: written(path, text + "\nimport elc_composer\n" if path.name == "losses.py" else text),
    )
    with pytest.raises(DataError, match="elc_composer"):
        export_model(model, None, tmp_path / "out", check=True)
    assert not (tmp_path / "out").exists()


def test_files_are_readable_as_new_files_are(run: Path, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        out = export_checkpoint(run, tmp_path / "out")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o644}

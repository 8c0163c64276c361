"""Runs started through the command: training, stages, evaluation, files, errors. (test_resume.py kills runs.)"""

from __future__ import annotations

import json
import signal
from hashlib import sha256
from pathlib import Path
from unittest import mock

import pytest
import torch

from elc_composer.callbacks.metrics_file import read_metrics
from elc_composer.common.errors import DataError
from elc_composer.common.storage import Unreachable
from elc_composer.evaluation.minimal_pairs import read_minimal_pairs
from elc_composer.prepared.tokenizer_files import load_tokenizer
from elc_composer.train import main
from elc_composer.training.build_trainer import build_evaluators
from elc_composer.training.config import load_config
from elc_composer.training.prepare import prepare_run
from tests.conftest import ROOT
from tests.runs import composer, prepare_toy, tiny_overrides

CONFIG = ROOT / "yamls" / "quickstart.yaml"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def vocab_size(prepared: Path) -> int:
    return json.loads((prepared / "data" / "manifest.json").read_text())["tokenizer"]["vocab_size"]


@pytest.fixture(scope="module")
def finished(prepared: Path, vocab_size: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run of one rank."""
    folder = tmp_path_factory.mktemp("run")
    more = {"evaluators__before_training": True, "checkpoints__keep": -1}
    done = composer(CONFIG, *tiny_overrides(prepared, folder, vocab_size, **more))
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_a_run_leaves_metrics_checkpoints_and_what_explains_it(finished: Path, prepared: Path) -> None:
    metrics = read_metrics(finished / "metrics.jsonl")
    assert [step for step, _ in metrics["loss/train/total"]] == list(range(12))
    assert metrics["loss/train/total"][-1][1] < metrics["loss/train/total"][0][1]
    assert [step for step, _ in metrics["metrics/toy/overall"]] == [0, 6, 12]
    assert {
        "metrics/dev/LanguageCrossEntropy",
        "metrics/dev/MaskedAccuracy",
        "layer_weights/layer_3/from_0",
    } <= metrics.keys()
    names = {path.name for path in finished.iterdir()}
    explained = {"config.yaml", "metadata.json", "model_config.json", "tokenizer", "events.jsonl"}
    assert {*explained, "checkpoints", "layer_weights.png"} <= names
    facts = json.loads((finished / "metadata.json").read_text())
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    assert facts["ranks"] == 1
    manifest = prepared / "data" / "manifest.json"
    assert [stream["manifest_sha256"] for stream in facts["data"]] == [sha256(manifest.read_bytes()).hexdigest()]
    assert {"gradient/norm", "lr-Lamb/group0", "metrics/train/MaskedAccuracy", "data/epochs"} <= metrics.keys()
    assert [length for _, length in metrics["data/seq_length"]] == [32] * 6 + [64] * 6
    saved = {path.name for path in (finished / "checkpoints").iterdir() if not path.is_symlink()}
    assert saved == {"ba4-rank0.pt", "ba6-rank0.pt", "ba8-rank0.pt", "ba12-rank0.pt"}


@pytest.mark.parametrize(
    ("override", "message"),
    [("max_steps=8", "max_steps (12 there, 8 here)"), ("model.hidden_size=64", "hidden_size: 32 there, 64 here")],
)
def test_another_run_is_not_continued(
    override: str, message: str, prepared: Path, vocab_size: int, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "config.yaml").read_text()
    with pytest.raises(SystemExit):
        main([str(CONFIG), *tiny_overrides(prepared, finished, vocab_size), override])
    assert message in capsys.readouterr().err
    assert (finished / "config.yaml").read_text() == before


def test_tokenizer_and_pairs_are_read_once(prepared: Path, vocab_size: int, tmp_path: Path) -> None:
    config = load_config(CONFIG, tiny_overrides(prepared, tmp_path, vocab_size))
    with (
        mock.patch("elc_composer.training.prepare.read_minimal_pairs", wraps=read_minimal_pairs) as first,
        mock.patch("elc_composer.evaluation.in_training.evaluators.read_minimal_pairs") as second,
        mock.patch("elc_composer.prepared.fast_tokenizer.load_tokenizer", wraps=load_tokenizer) as tokenizer,
    ):
        built = build_evaluators(prepare_run(config))
    assert [evaluator.label for evaluator in built.evaluators] == ["toy", "dev"]
    assert (first.call_count, second.call_count, tokenizer.call_count) == (1, 0, 1)


@pytest.mark.multirank
def test_dry_run_checks_and_trains_nothing(prepared: Path, vocab_size: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    overrides = tiny_overrides(prepared, run, vocab_size, precision="amp_bf16")
    done = composer(CONFIG, *overrides, "--dry-run", "seed=3", ranks=2)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("parameters, zero") == 1
    assert "data and tokenizer fit the model: but not on this machine: precision=amp_bf16 needs a GPU" in done.stdout
    assert not run.exists()


def test_bad_input_leaves_the_caller_s_signals_and_shows_no_secret(
    prepared: Path, vocab_size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message for each invalid input is tested in test_bad_input.py."""
    login, before = "loggers.mlflow.tracking_uri=https://me:hunter2@host/", signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as exit_:
        main([str(CONFIG), *tiny_overrides(prepared, tmp_path / "run", vocab_size), login])
    assert exit_.value.code == 2
    shown = capsys.readouterr()
    assert "hunter2" not in shown.err + shown.out
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (SystemExit(130), 130, "interrupted; rerun the same command"),  # what Composer makes of Ctrl-C
        (SystemExit(143), 143, ""),
        (Unreachable("s3://b/x does not answer"), 1, "does not answer; rerun the same command"),
        (DataError("s3://b/x is damaged"), 2, "error: s3://b/x is damaged\n"),
    ],
    ids=["interrupted", "terminated", "unreachable", "damaged"],
)
def test_every_end_has_its_code_and_its_sentence(
    end: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with mock.patch("elc_composer.train.train", side_effect=end), pytest.raises(SystemExit) as exit_:
        main([str(CONFIG)])
    assert exit_.value.code == code
    assert said in capsys.readouterr().err


def test_the_launcher_passes_the_line_and_the_failure_on(prepared: Path, vocab_size: int, tmp_path: Path) -> None:
    done = composer(CONFIG, *tiny_overrides(prepared, tmp_path, vocab_size), "stages.0.seq_len=8", ranks=2)
    assert done.returncode != 0
    assert "error: override 'stages.0.seq_len=8': unknown key 'stages.0.seq_len'" in done.stderr
    assert "Traceback" not in done.stderr

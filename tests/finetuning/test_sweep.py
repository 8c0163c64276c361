"""Sweeps: every task and preset on made files, tables, failures, kill and resume, the config of one run."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from elc_composer.finetuning.command import main
from elc_composer.finetuning.job import Job, run_job
from elc_composer.finetuning.model_source import ModelSource
from elc_composer.finetuning.outputs import write_outputs
from elc_composer.finetuning.plan import plan
from elc_composer.finetuning.table import BIAS
from elc_composer.finetuning.tasks import MSGS, TASKS
from tests.conftest import ROOT
from tests.finetuning.small import bert_folder, elc_folder, write_lines, write_task


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return elc_folder(tmp_path_factory.mktemp("model"))


def run(jobs: list[Job], out: Path) -> dict[str, dict]:
    results = {job.name: run_job(job) for job in jobs}
    write_outputs(out, jobs, results, {})
    return results


def test_every_task_gives_a_row_with_its_majority_class(tmp_path: Path, model: Path) -> None:
    for name in TASKS:
        write_task(tmp_path / "data", name, layout="2023" if name in MSGS else "2025")
    write_task(tmp_path / "more", "mnli", layout="2023")
    (tmp_path / "more" / "mnli.validation_matched.json").rename(tmp_path / "data" / "mnli.validation_mismatched.json")
    jobs = plan(
        ModelSource(model), tmp_path / "data", list(TASKS), preset="babylm2025", seeds=1, out=tmp_path, epochs=1
    )
    run(jobs, tmp_path)
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    found = {(row["task"], row["evaluation"], row["metric"]) for row in rows}
    assert {("mrpc", "valid", "F1"), ("cola", "valid", "Matthews correlation")} <= found
    assert {("mnli", "valid", "accuracy"), ("mnli", "mismatched", "accuracy")} <= found
    assert {row["task"] for row in rows} == {*TASKS, "msgs"}
    assert rows[-1]["metric"] == BIAS
    mixed = [row["mean"] for row in rows if row["metric"] == "Matthews correlation" and row["task"] in MSGS[5:]]
    assert rows[-1]["mean"] == pytest.approx(sum(mixed) / 6, abs=1e-3)
    predictions = json.loads((tmp_path / "predictions/seed42/finetune/rte/predictions.json").read_text())
    assert [entry["id"] for entry in predictions["rte"]["predictions"]] == [f"rte_{n}" for n in range(12)]
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("preset", ["babylm2023", "babylm2025", "babylm2026"])
def test_presets_train_this_model_and_a_foreign_encoder(tmp_path: Path, model: Path, preset: str) -> None:
    write_task(tmp_path, "rte", train=64)
    for number, folder in enumerate((model, bert_folder(tmp_path / "bert"))):
        for scratch in (False, True):
            source, out = ModelSource(folder, scratch), tmp_path / f"{number}{scratch}"
            job = plan(source, tmp_path, ["rte"], preset=preset, seeds=1, out=out, epochs=1, max_length=64)[0]
            result = run_job(job)
            assert result["examples"] == {"train": 64, "valid": 12}
            # The pipeline of 2023 evaluates every 200 steps only.
            assert len(result["history"]) == (0 if preset == "babylm2023" else 1)


def test_a_model_learns_a_task_that_one_word_decides(tmp_path: Path, model: Path) -> None:
    write_task(tmp_path, "sst2", train=256, valid=64)
    source = ModelSource(model)
    job = plan(
        source,
        tmp_path,
        ["sst2"],
        preset="babylm2025",
        seeds=1,
        out=tmp_path,
        epochs=6,
        learning_rate=1e-2,
        dropout=0.0,
    )[0]
    result = run_job(job)
    assert result["scores"]["valid"]["accuracy"] > 0.9
    assert result["layer_weights"]["before"] != result["layer_weights"]["after"]
    best = max(each["scores"]["accuracy"] for each in result["history"])
    assert result["best"]["epoch"] == next(
        each["epoch"] for each in result["history"] if each["scores"]["accuracy"] == best
    )


def test_own_files_and_the_config_of_one_run(tmp_path: Path, model: Path) -> None:
    for name in ("train", "valid"):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows(
                [["review", "opinion"], *[["the cat, the dog" * n, ("bad", "good")[n % 2]] for n in range(40)]]
            )
    text = (
        (ROOT / "yamls/finetune/own_task.yaml")
        .read_text()
        .replace("data/reviews", str(tmp_path))
        .replace(f"{tmp_path}.", f"{tmp_path}/")
    )
    (tmp_path / "own.yaml").write_text(text)
    overrides = [f"finetune.model={model}", f"finetune.run_folder={tmp_path / 'out'}", "finetune.epochs=1"]
    command = [sys.executable, "-m", "elc_composer.train", str(tmp_path / "own.yaml"), *overrides]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| reviews | valid | F1 |" in (tmp_path / "out" / "table.md").read_text()


def test_a_failed_job_is_reported_and_the_others_go_on(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("rte", "wsc"):
        write_task(tmp_path, name)
    out = tmp_path / "out"
    # A folder in the place of a file that the job writes.
    (out / "jobs" / "rte-seed42" / "metrics.jsonl").mkdir(parents=True)
    (out / "jobs" / "rte-seed42" / "config.yaml").mkdir()
    arguments = [str(model), "--data", str(tmp_path), "--tasks", "rte", "wsc", "--epochs", "1", "--out", str(out)]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "[2/2] wsc seed 42: accuracy" in said.out
    assert "rte seed 42 failed" in said.err
    assert "| wsc | valid |" in (out / "table.md").read_text()


@pytest.mark.slow
def test_a_killed_sweep_continues_and_gives_the_same_files(tmp_path: Path, model: Path) -> None:
    write_task(tmp_path, "rte", train=256)
    command = [sys.executable, "-m", "elc_composer.finetune", str(model), "--data", str(tmp_path), "--tasks", "rte"]
    command += ["--seeds", "2", "--epochs", "4"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, "--out", str(whole)], cwd=ROOT, check=True, capture_output=True)
    process = subprocess.Popen([*command, "--out", str(killed)], cwd=ROOT, stdout=subprocess.DEVNULL)
    checkpoints = killed / "jobs" / "rte-seed42" / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("*.pt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1.0)  # the worker notices that its parent has ended
    assert not (killed / "jobs" / "rte-seed43" / "result.json").exists()
    subprocess.run([*command, "--out", str(killed)], cwd=ROOT, check=True, capture_output=True)
    for name in ("table.md", "table.csv", "table.json", "layer_weights.json", "report.html"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()


def bad(model: Path, data: Path, *more: str) -> list[str]:
    return [str(model), "--data", str(data), "--out", str(data / "out"), *more]


def test_invalid_input_gives_one_line_before_any_work(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_task(tmp_path, "rte")
    write_lines(tmp_path / "wsc.train.jsonl", [{"text": "a", "span1_text": "b", "span2_text": "c", "label": 7}])
    write_lines(tmp_path / "wsc.valid.jsonl", [{"text": "a", "span1_text": "b", "span2_text": "c", "label": 0}])
    small = elc_folder(tmp_path / "small", vocab_size=100)
    cases = {
        "'rt' is unknown": bad(model, tmp_path, "--tasks", "rt"),
        "'babylm2024' is unknown": bad(model, tmp_path, "--tasks", "rte", "--preset", "babylm2024"),
        "mrpc.train.jsonl and mrpc.valid.jsonl": bad(model, tmp_path, "--tasks", "mrpc"),
        "is not a folder": bad(model, tmp_path / "none", "--tasks", "rte"),
        "'label' is 7, must be one of 0, 1": bad(model, tmp_path, "--tasks", "wsc"),
        "does not exist": bad(tmp_path / "none", tmp_path, "--tasks", "rte"),
        "is not a transformers folder": bad(tmp_path, tmp_path, "--tasks", "rte"),
        "only 100 entries": bad(small, tmp_path, "--tasks", "rte"),
        "fewer than a batch": bad(model, tmp_path, "--tasks", "rte", "--batch-size", "999"),
        "epochs is 0": bad(model, tmp_path, "--tasks", "rte", "--epochs", "0"),
        "jobs is 0": bad(model, tmp_path, "--tasks", "rte", "--jobs", "0"),
        "seeds is 0": bad(model, tmp_path, "--tasks", "rte", "--seeds", "0"),
    }
    for expected, arguments in cases.items():
        assert main(arguments) == 2, expected
        said = capsys.readouterr().err
        assert expected in said
        assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()

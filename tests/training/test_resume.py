"""Runs that are killed, in real processes, and go on: same samples, same weights as an undisturbed run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from elc_composer.callbacks.metrics_file import read_metrics
from tests.conftest import ROOT
from tests.disturbed import CONFIG, QUIET, SHARDED, fault
from tests.faults.s3 import local_s3
from tests.multirank.launch import free_port, launch
from tests.runs import prepare_toy, tiny_overrides
from tests.warm import Start, sample_ids, warm

JOB = ROOT / "tests" / "multirank" / "jobs" / "disturbed_job.py"
LAST = "ba12-rank0.pt"


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    with warm() as started:
        yield started


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def vocab_size(prepared: Path) -> int:
    return json.loads((prepared / "data" / "manifest.json").read_text())["tokenizer"]["vocab_size"]


class Runs:
    """Starts runs on the toy data; each in a folder of its own, with its sample ids beside."""

    def __init__(self, start: Start, prepared: Path, vocab_size: int, folder: Path) -> None:
        self.start = start
        self.prepared = prepared
        self.vocab_size = vocab_size
        self.folder = folder

    @property
    def checkpoints(self) -> set[str]:
        return {path.name for path in (self.folder / "checkpoints").iterdir()}

    @property
    def samples(self) -> dict[int, list[int]]:
        return sample_ids(self.folder / "samples")

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        content = torch.load(self.folder / "checkpoints" / LAST, weights_only=False, map_location="cpu")
        return content["state"]["model"]

    def arguments(self, **more: Any) -> list[str]:
        return [str(CONFIG), *tiny_overrides(self.prepared, self.folder, self.vocab_size, **{**QUIET, **more})]

    def __call__(self, *faults: dict[str, Any], ranks: int = 1, plan: Any = None, **more: Any) -> list[int]:
        """Run until the end or a fault; exit codes by rank."""
        self.folder.mkdir(exist_ok=True)
        plan = {"record": str(self.folder / "samples"), "faults": faults, **(plan or {})}
        ended = self.start(plan, self.arguments(**more), ranks)
        self.output = ended.output
        assert not ended.hung, f"a rank outlived the others\n{ended.output[-3000:]}"
        return ended.codes


@pytest.fixture
def runs(start: Start, prepared: Path, vocab_size: int, tmp_path: Path) -> Runs:
    return Runs(start, prepared, vocab_size, tmp_path / "run")


@pytest.fixture(scope="module")
def alone(start: Start, prepared: Path, vocab_size: int, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """An undisturbed run of one rank."""
    undisturbed = Runs(start, prepared, vocab_size, tmp_path_factory.mktemp("alone"))
    assert undisturbed() == [0], undisturbed.output[-3000:]
    return undisturbed


@pytest.fixture(scope="module")
def together(start: Start, prepared: Path, vocab_size: int, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """An undisturbed run of two ranks."""
    undisturbed = Runs(start, prepared, vocab_size, tmp_path_factory.mktemp("together"))
    assert undisturbed(ranks=2) == [0, 0], undisturbed.output[-3000:]
    return undisturbed


def difference(one: Runs, two: Runs) -> float:
    left, right = one.weights, two.weights
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def test_one_rank_killed_again_and_again_ends_with_the_same_bits(runs: Runs, alone: Runs) -> None:
    """Checkpoints are due every 4 steps and at step 6, where the stage of longer sequences begins."""
    assert runs(fault(5, "batch_end", "SIGKILL")) == [-9]
    assert runs.checkpoints == {"ba4-rank0.pt"}
    assert runs(fault(6, "saving", "SIGKILL")) == [-9]
    assert runs.checkpoints == {"ba4-rank0.pt", ".saving"}, "half a checkpoint has no checkpoint's name"
    assert runs(fault(6, "batch_start", "SIGTERM")) == [75]
    assert runs.checkpoints == {"ba4-rank0.pt", "ba6-rank0.pt"}
    assert runs(fault(10, "after_loss", "SIGTERM")) == [75]
    assert runs.checkpoints == {"ba4-rank0.pt", "ba6-rank0.pt", "ba8-rank0.pt", "ba10-rank0.pt"}
    assert runs() == [0]
    assert runs.samples == alone.samples
    assert difference(runs, alone) == 0.0
    assert [step for step, _ in read_metrics(runs.folder / "metrics.jsonl")["loss/train/total"]] == list(range(12))
    events = [json.loads(line) for line in (runs.folder / "events.jsonl").read_text().splitlines()]
    assert [(event["event"], event["step"]) for event in events] == [
        ("started", 0), ("saved", 4),
        ("resumed", 4),
        ("resumed", 4), ("saved", 6), ("preempted", 6),
        ("resumed", 6), ("stage", 6), ("saved", 8), ("saved", 10), ("preempted", 10),
        ("resumed", 10), ("saved", 12), ("finished", 12),
    ]  # fmt: skip


@pytest.mark.multirank
def test_two_ranks_end_together_and_go_on(runs: Runs, together: Runs, alone: Runs) -> None:
    first, second = runs(fault(5, "after_loss", "SIGTERM", rank=1), ranks=2)
    assert (first, second) == (75, 75), "a notice to one rank stops both after the same batch"
    assert runs.checkpoints == {"ba4-rank0.pt", "ba5-rank0.pt"}
    first, second = runs(fault(7, "batch_end", "SIGKILL", rank=1), ranks=2)
    assert second == -9
    assert first == 1
    assert "another rank was lost" in runs.output
    assert runs(ranks=2) == [0, 0]
    assert runs.samples == together.samples == alone.samples
    assert difference(runs, together) <= 1e-6


@pytest.mark.multirank
def test_two_ranks_train_as_one(together: Runs, alone: Runs) -> None:
    one, two = (read_metrics(run.folder / "metrics.jsonl") for run in (alone, together))
    for name in ("loss/train/total", "metrics/toy/overall", "metrics/dev/LanguageCrossEntropy"):
        deviations = [abs(dict(one[name])[step] - value) for step, value in two[name]]
        assert max(deviations) <= 1e-4, name
    assert difference(together, alone) <= 1e-4


@pytest.mark.slow
@pytest.mark.multirank
def test_two_ranks_then_one_then_two_see_the_same_samples(runs: Runs, alone: Runs) -> None:
    assert runs(fault(3, "batch_end", "SIGTERM"), ranks=2) == [75, 75]
    assert runs(fault(7, "after_loss", "SIGTERM")) == [75]
    assert runs(fault(11, "batch_end", "SIGKILL", rank=0), ranks=2)[0] == -9
    assert runs(ranks=2) == [0, 0]
    assert runs.samples == alone.samples
    assert difference(runs, alone) <= 1e-4


def test_a_damaged_newest_checkpoint_is_passed_over(runs: Runs, alone: Runs) -> None:
    shutil.copytree(alone.folder, runs.folder)
    newest = runs.folder / "checkpoints" / LAST
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    assert runs() == [0], runs.output[-2000:]
    assert f"{LAST} is damaged; falling back to the one before" in runs.output
    assert f"{LAST}.damaged" in runs.checkpoints
    assert difference(runs, alone) == 0.0
    events = [json.loads(line) for line in (runs.folder / "events.jsonl").read_text().splitlines()]
    assert [(event["event"], event["step"]) for event in events[-4:]] == [
        ("fell_back", 8), ("resumed", 8), ("saved", 12), ("finished", 12),
    ]  # fmt: skip


def test_a_sharded_run_goes_on_past_a_damaged_checkpoint(runs: Runs, alone: Runs) -> None:
    """One rank of FSDP2; pictures and metrics that keep a history travel in sharded checkpoints, too."""
    more = {**SHARDED, "callbacks__layer_weight_monitor": "{interval: 2ba}", "callbacks__minimal_pair_plot": True}
    assert runs(fault(9, "batch_end", "SIGKILL"), **more) == [-9], runs.output[-2000:]
    assert runs.checkpoints == {"ep0-ba4", "ep0-ba6", "ep1-ba8"}
    (shard,) = (runs.folder / "checkpoints" / "ep1-ba8").glob("*.distcp")
    shard.write_bytes(shard.read_bytes()[:-100])
    assert runs(**more) == [0], runs.output[-2000:]
    assert "ep1-ba8 is damaged; falling back" in runs.output
    assert runs.checkpoints == {"ep0-ba4", "ep0-ba6", "ep1-ba8", "ep1-ba8.damaged", "ep1-ba12"}
    assert runs.samples == alone.samples
    losses = [dict(read_metrics(run.folder / "metrics.jsonl")["loss/train/total"]) for run in (runs, alone)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


@pytest.mark.slow
@pytest.mark.multirank
def test_sharded_checkpoints_of_two_ranks(runs: Runs, together: Runs) -> None:
    # On torch 2.7 FSDP2 over gloo adds gradients up; the config check, which refuses it, is told of a GPU.
    plan = {"device": "gpu", "divide_loss": 2}
    assert runs(fault(7, "batch_end", "SIGTERM", rank=1), ranks=2, plan=plan, **SHARDED) == [75, 75]
    assert "ep1-ba7" in runs.checkpoints
    assert runs(ranks=2, plan=plan, **SHARDED) == [0, 0], runs.output[-2000:]
    assert runs.samples == together.samples
    losses = [dict(read_metrics(run.folder / "metrics.jsonl")["loss/train/total"]) for run in (runs, together)]
    assert {step: 2 * loss for step, loss in losses[0].items()} == pytest.approx(losses[1], abs=1e-4)


def test_a_bad_loss_stops_the_run_in_a_state_to_go_on_from(runs: Runs) -> None:
    bad = fault(6, "after_loss", "nan")
    assert runs(bad) == [70]
    assert "error: the loss of step 5 is nan; the ids of its samples are in" in runs.output
    assert "Traceback" not in runs.output
    assert runs.checkpoints == {"ba4-rank0.pt"}
    (record,) = [json.loads(line) for line in (runs.folder / "bad_batches.jsonl").read_text().splitlines()]
    assert sorted(record["sample_ids"][0]) == runs.samples[6]
    # The same command with another answer to it: the fault comes again, and is stepped over.
    assert runs(bad, callbacks__loss_guard__on_bad_loss="roll_back") == [0], runs.output[-2000:]
    rolled = runs.weights
    assert all(torch.isfinite(value).all() for value in rolled.values())
    events = [json.loads(line)["event"] for line in (runs.folder / "events.jsonl").read_text().splitlines()]
    assert events.count("bad_loss") == 2
    assert events.count("rolled_back") == 1
    assert json.loads((runs.folder / "skipped_steps.json").read_text()) == [5]


@pytest.mark.slow
@pytest.mark.multirank
def test_two_ranks_roll_back_together(runs: Runs) -> None:
    more = {"callbacks__loss_guard__on_bad_loss": "roll_back", "checkpoints__save_interval": "2ba"}
    assert runs(fault(9, "after_train_batch", "poison", rank=1), ranks=2, **more) == [0, 0], runs.output[-3000:]
    assert all(torch.isfinite(value).all() for value in runs.weights.values())


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(runs: Runs, alone: Runs) -> None:
    assert runs(fault(6, "saving", "full")) == [2]
    assert "ba6-rank0.pt cannot be written: No space left on device; free disk space and rerun" in runs.output
    assert "Traceback" not in runs.output
    assert runs.checkpoints == {"ba4-rank0.pt"}
    assert runs() == [0]
    assert difference(runs, alone) == 0.0


def test_checkpoints_go_to_s3_and_come_back_and_no_secret_stays_anywhere(runs: Runs, alone: Runs) -> None:
    secret, variable = "hunter2-hunter2", "notes-for-group-7"
    with local_s3() as s3:
        environment = {**s3.environment, "AWS_SECRET_ACCESS_KEY": secret, "RUN_NOTE": variable}
        more = {
            "checkpoints__save_folder": s3.address("tiny"),
            "checkpoints__keep": 2,
            "run_name": "tiny-${oc.env:RUN_NOTE}",
            "loggers__log_file": True,
            "loggers__tensorboard": True,
        }
        plan = {"environment": environment}
        assert runs(fault(9, "batch_end", "SIGTERM"), plan=plan, **more) == [75], runs.output[-2000:]
        assert s3.keys("") == ["tiny/ba8-rank0.pt", "tiny/ba9-rank0.pt"]
        shutil.rmtree(runs.folder / "checkpoints")
        said = runs.output
        assert runs(plan=plan, **more) == [0], runs.output[-2000:]
        assert s3.keys("") == ["tiny/ba12-rank0.pt", "tiny/ba9-rank0.pt"]
    assert difference(runs, alone) == 0.0
    written = {path: path.read_bytes() for path in runs.folder.rglob("*") if path.is_file()}
    for path, content in {**written, Path("output"): (said + runs.output).encode()}.items():
        assert secret.encode() not in content, path
    config = (runs.folder / "config.yaml").read_text()
    assert "run_name: tiny-${oc.env:RUN_NOTE}" in config
    assert variable not in config


def test_a_run_of_an_earlier_version_resumes_with_its_masking_rules(
    runs: Runs, start: Start, prepared: Path, vocab_size: int, tmp_path: Path
) -> None:
    """Versions before the published masking rules recorded no `masking.rules` and `masking.max_spans: null`."""
    old = {"masking__rules": "fitted", "masking__max_spans": "null"}
    undisturbed = Runs(start, prepared, vocab_size, tmp_path / "undisturbed")
    assert undisturbed(**old) == [0], undisturbed.output[-2000:]
    assert runs(fault(6, "batch_end", "SIGTERM"), **old) == [75], runs.output[-2000:]
    record = runs.folder / "config.yaml"
    text = record.read_text()
    assert "  rules: fitted\n" in text
    record.write_text(text.replace("  rules: fitted\n", ""))
    assert runs() == [0], runs.output[-2000:]
    assert "continues with its recorded masking.rules: fitted, masking.max_spans: null" in runs.output
    assert difference(runs, undisturbed) == 0.0
    assert "  rules: fitted\n" in record.read_text()


@pytest.mark.slow
@pytest.mark.multirank
def test_composers_launcher_passes_the_exit_code_on(runs: Runs) -> None:
    runs.folder.mkdir()
    plan = json.dumps({"faults": [fault(2, "after_loss", "SIGTERM")]})
    done = launch(JOB, plan, *runs.arguments(), n=2, check=False)
    assert done.returncode == 75, done.stderr[-3000:]
    assert runs.checkpoints == {"ba2-rank0.pt"}


@pytest.mark.slow
@pytest.mark.multirank
def test_this_projects_launcher_passes_a_notice_to_itself_on(runs: Runs) -> None:
    """The fault stops rank 0 in the middle of a batch; then the launcher, and nobody else, gets SIGTERM."""
    runs.folder.mkdir()
    plan = json.dumps({"record": str(runs.folder / "samples"), "faults": [fault(2, "after_loss", "SIGSTOP")]})
    command = [sys.executable, "-m", "elc_composer.launch", "-n", "2", "--master_port", str(free_port()), str(JOB)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    launcher = subprocess.Popen([*command, plan, *runs.arguments()], env=environment, cwd=ROOT)
    children = psutil.Process(launcher.pid)
    while not any(child.status() == psutil.STATUS_STOPPED for child in children.children()):
        assert launcher.poll() is None
        time.sleep(0.1)
    launcher.terminate()
    time.sleep(0.5)
    for child in children.children():
        child.resume()
    assert launcher.wait(300) == 75
    assert runs.checkpoints == {"ba2-rank0.pt"}

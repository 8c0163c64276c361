"""Benchmarks of the model run without Composer, `gpu.sh` runs its pieces, and the roofline adds up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from elc_composer.data.masking import MaskingConfig
from elc_composer.data.positions import LabelPositions
from elc_composer.model import ElcConfig, ElcForMaskedLM
from streaming_prep.toy.write import write_toy_language
from tests.conftest import ROOT

MEASURED = ROOT / "benchmarks" / "results" / "h200_2026-11-26.json"
WITHOUT_COMPOSER = """
import json, runpy, sys

class Absent:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("composer", "streaming"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Absent())
for module, *arguments in json.loads(sys.argv[1]):
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__")
"""


def python(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def test_benchmarks_of_the_model_need_no_composer_and_go_on_after_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "steps.json"
    shape = ["--quick", "--device", "cpu"]
    only = ["--only", "elc_base_eager", "elc_base_triton", "bert_sdpa"]
    commands = [
        ["benchmarks.train_step", *shape, "--no-memory", "--repeats", "1", "--out", str(out), *only],
        ["benchmarks.scaling", *shape, "--axes", "batch"],
        ["benchmarks.profile_step", *shape, "--kernels", "torch", "--no-picture", "--out", str(tmp_path / "profile")],
        ["benchmarks.lamb", *shape],
        ["benchmarks.mixing", *shape, "--out", str(tmp_path / "mixing.json")],
    ]
    python("-c", WITHOUT_COMPOSER, json.dumps(commands))
    table = json.loads(out.read_text())["contestants"]
    assert "error" in table["elc_base_triton"]
    assert "\n" not in table["elc_base_triton"]["error"]
    for name in ("elc_base_eager", "bert_sdpa"):
        assert table[name]["quartiles"] == [table[name]["milliseconds"]] * 2
    assert table["bert_sdpa"]["speed_by_elc_base_eager"] > 0
    assert json.loads((tmp_path / "mixing.json").read_text())["share_of_copy_rate"]["copy"] == 1
    assert json.loads((tmp_path / "profile.json").read_text())["milliseconds"]["torch"]["matrix products"] > 0


def test_a_failing_piece_does_not_stop_the_rest(tmp_path: Path) -> None:
    # Without data, no pairs can be scored.
    options = [
        "--tiny",
        "--device",
        "cpu",
        "--only",
        "scoring,lamb",
        "--work",
        tmp_path / "work",
        "--out",
        tmp_path / "out",
    ]
    python("-m", "benchmarks.gpu_pieces", *options)
    assert sorted(path.name.split("_")[0] for path in (tmp_path / "out").iterdir()) == ["h200", "log.txt"]
    report = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    assert report["pieces"]["scoring"]["before"]["tail"] == [
        "FileNotFoundError: no --data: the minimal pairs are missing"
    ]
    assert report["pieces"]["scoring"]["scoring"]["status"] != 0
    assert report["pieces"]["lamb"]["lamb"]["result"]["milliseconds"]["lamb_foreach"] > 0
    tables = python("benchmarks/gpu_tables.py", tmp_path / "out").stdout
    assert "| LAMB by a loop over parameters: at least 5 | 5.15 |" in tables


def test_a_slow_piece_is_ended(tmp_path: Path) -> None:
    options = ["--budget", "11", "--device", "cpu", "--only", "imports", "--work", tmp_path / "work", "--out", tmp_path]
    python("-m", "benchmarks.gpu_pieces", *options)
    report = json.loads(next(tmp_path.glob("*.json")).read_text())
    found = report["pieces"]["imports"]["imports"]
    assert found.get("timed_out") or found["seconds"] < 7


def test_unknown_pieces_and_wheels_are_refused(tmp_path: Path) -> None:
    done = python(
        "-m", "benchmarks.gpu_pieces", "--only", "no_such", "--work", tmp_path, "--out", tmp_path, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("no such piece: no_such; there are imports, tests, ")
    command = ["bash", "benchmarks/gpu.sh", "--wheels", str(tmp_path)]
    shell = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert shell.returncode == 2
    assert shell.stderr.strip().endswith(f"no wheels in {tmp_path}")


@pytest.mark.slow
def test_every_command_line_of_the_gpu_machine(tmp_path: Path) -> None:
    """With tiny sizes on the CPU; only the packages that this environment lacks may fail."""
    toy = write_toy_language(tmp_path / "toy", words=20_000, pairs_per_paradigm=4)
    data = tmp_path / "data"
    build = [
        "build",
        "--corpus",
        toy.corpus,
        "--out",
        data / "babylm",
        "--vocab-size",
        "1024",
        "--seq-length",
        "128",
        "512",
    ]
    python("-m", "streaming_prep", *build)
    toy.minimal_pairs.rename(data / "blimp")
    options = ["--tiny", "--device", "cpu", "--data", data, "--work", tmp_path / "work", "--out", tmp_path / "out"]
    python("-m", "benchmarks.gpu_pieces", *options)
    report = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    ran = {name: one for piece in report["pieces"].values() for name, one in piece.items()}
    needs_minicons = {"scoring"}
    ran = {name: one for name, one in ran.items() if "skipped" not in one}
    failed = {name: one.get("tail") for name, one in ran.items() if one["status"] != 0 and name not in needs_minicons}
    assert failed == {}
    assert ran["run"]["result"]["steps"] == 4
    assert ran["run"]["result"]["loss_last"] > 0
    assert len(list((tmp_path / "out").iterdir())) <= 8


@pytest.mark.parametrize("length", [128, 512])
def test_the_roofline_has_the_flops_of_the_model(length: int, tmp_path: Path) -> None:
    out = tmp_path / "roofline.json"
    python("benchmarks/roofline.py", "--length", length, "--compiled", "--out", out)
    rows = 32768 // length
    with torch.device("meta"):
        config = ElcConfig(vocab_size=16384, hidden_size=768, intermediate_size=2048, num_attention_heads=12)
        model = ElcForMaskedLM(config)
    found = json.loads(out.read_text())
    flops = sum(part["flops"] for part in found["parts"].values())
    assert flops == model.estimate_flops(rows, length, LabelPositions(MaskingConfig()).places(rows, length))
    seconds = sum(part["milliseconds"] for part in found["parts"].values()) / 1000
    assert found["mfu"] == pytest.approx(flops / seconds / 770e12)


def test_the_roofline_agrees_with_the_measured_profile(tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    of_that_day = ["--norms", "float32", "--attention", "transposed", "--first-mix"]
    python("benchmarks/roofline.py", *of_that_day, "--check", MEASURED, "--out", out)
    (report,) = json.loads(out.read_text())
    deviations = [part["deviation"] for part in report["parts"].values() if part["deviation"] is not None]
    assert len(deviations) == 11
    assert max(map(abs, deviations)) < 0.15


@pytest.mark.parametrize(
    ("options", "measured"), [(["--length", "512"], 181.7), (["--compiled", "--mixing", "chain"], 80.9)]
)
def test_the_roofline_predicts_steps_that_it_was_not_fitted_to(
    options: list[str], measured: float, tmp_path: Path
) -> None:
    out = tmp_path / "roofline.json"
    of_that_day = ["--norms", "float32", "--attention", "transposed", "--first-mix"]
    python("benchmarks/roofline.py", *of_that_day, *options, "--out", out)
    assert json.loads(out.read_text())["step_milliseconds"] == pytest.approx(measured, rel=0.15)

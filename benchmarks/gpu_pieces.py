"""Run the measurements of a machine with one GPU piece by piece, each with a time limit; `gpu.sh` starts it.

python -m benchmarks.gpu_pieces [--data DIR] [--out benchmarks/results/gpu] [--budget 585] [--only PIECE,...] [--trial]
                                [--name h200] [--tiny] [--device cuda]

A piece is one or more commands. A failing or slow one never stops the rest: its exit status and the end of its output
are in the results. OUT gets `<name>_<date>.json` with all results, the machine and its versions, `log.txt` with all
output, and a few files of the real run; they are rewritten after every command. With less time than the pieces'
limits add up to, all limits shrink alike. Pieces without times (tests, filling the compilers' caches, loss curves) run
side by side first. `--trial` runs short forms of all pieces to find trivial breakage: one step table alone, then the
rest side by side, so that only that table's times mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.gpu_tables import summarize_run

ROOT = Path(__file__).resolve().parent.parent
MATRIX = ROOT / "tests" / "training" / "test_parallelism_gpu.py"
PACKAGES = ["torch", "triton", "transformers", "numpy", "mosaicml", "mosaicml-streaming", "minicons"]
BEFORE_RUN = ("scoring", "kernels", "lamb")
RUN_RESERVE = 115.0
"""Seconds that these pieces leave to the real run."""
GRACE = 5.0
"""Seconds between asking a command to end and killing it."""


@dataclass
class Command:
    """One process of a piece."""

    name: str
    arguments: list[str]
    """Of the Python interpreter."""
    seconds: float
    """Time limit."""
    result: Path | None = None
    """JSON that it writes."""
    left_out: list[str] = field(default_factory=list)
    """Options that the benchmark does not have."""
    missing: str | None = None
    """The benchmark's file, if there is none."""


@dataclass
class Piece:
    """Commands that measure one thing."""

    commands: list[Command]
    before: Callable[[], None] | None = None
    """Called before the first command."""
    keeps: list[tuple[Path, str]] = field(default_factory=list)
    """Files to copy into OUT, and their names there."""


class Pieces:
    """The pieces for given options; the order of `names` is the order of importance."""

    names = (
        "imports", "tests", "compile128", "compile512", "norms", "norms_zero", "step128", "step512", "profile",
        "scoring", "kernels", "run", "lamb", "parallelism",
    )  # fmt: skip

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work
        self.device: str = options.device
        self.tiny: bool = options.tiny
        self.trial: bool = options.trial
        self.data: Path | None = options.data
        self.form = "elc_base_triton" if self.device == "cuda" else "elc_base_torch"

    def script(self, name: str, script: str, arguments: list[str], seconds: float, **wanted: bool) -> Command:
        """A benchmark that writes one JSON; options that its source does not name are left out, and reported."""
        out = self.work / f"{name}.json"
        source = ROOT / "benchmarks" / f"{script}.py"
        text = source.read_text() if source.exists() else ""
        target = out.with_suffix("") if script == "profile_step" else out
        given = [*arguments, *(f"--{key}" for key, on in wanted.items() if on)]
        given += ["--device", self.device, "--out", str(target)]
        kept: list[str] = []
        left_out: list[str] = []
        chosen = kept
        for word in given:
            if word.startswith("--"):
                chosen = kept if f'"{word}"' in text else left_out
            chosen.append(word)
        missing = None if source.exists() else f"benchmarks/{script}.py"
        return Command(name, ["-m", f"benchmarks.{script}", *kept], seconds, out, left_out, missing)

    def imports(self) -> Piece:
        modules = "composer, streaming, torch_optimizer, elc_composer.train, elc_composer.evaluate, minicons.scorer"
        return Piece([Command("imports", ["-c", f"import {modules}; print('all imported')"], 45)])

    def tests(self) -> Piece:
        # Only files with GPU tests: others may need packages that are not there. Triton's interpreter is not used,
        # which fails with recent numpy.
        files = [file for file in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in file.read_text()]
        files.remove(MATRIX)
        if self.trial:
            files = [file for file in files if "attention" in file.name or "mixing" in file.name]
        if self.tiny:
            files = [ROOT / "tests" / "optim" / "test_lamb.py"]
        paths = [str(file.relative_to(ROOT)) for file in files]
        flags = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "-p", "no:randomly", "--durations=5"]
        return Piece([Command("tests", ["-m", "pytest", *paths, *flags], 70 if self.trial else 90)])

    def parallelism(self) -> Piece:
        """A sample of the combinations of strategies, precisions and the rest: all would take minutes."""
        sample = ["-k", "amp_bf16-True-False or (ddp and amp_bf16-False-True)", "-m", "gpu"]
        flags = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
        return Piece([Command("parallelism", ["-m", "pytest", str(MATRIX.relative_to(ROOT)), *sample, *flags], 80)])

    def shape(self, length: int) -> list[str]:
        return ["--length", str(length), *(["--rows", "2"] if self.tiny else [])]

    def compiled(self, name: str, length: int, repeats: int, seconds: float) -> Command:
        """The compiled contestants in order of importance; those that are not begun in time are left out."""
        small = self.tiny or self.trial
        only = [self.form] if small else [self.form, "bert_sdpa", "ltg_auto", "elc_zero_auto"]
        arguments = [*self.shape(length), "--repeats", str(repeats), "--seconds", "10", "--compile", "--only", *only]
        arguments += ["--prepare-seconds", str(seconds - 35)]
        return self.script(name, "train_step", arguments, seconds, quick=small)

    def table(self, length: int, quick: bool) -> Piece:
        """Step tables, compiled and uncompiled; `quick`: in the tiny size."""
        plain = [self.form, "bert_sdpa", "ltg_auto", "elc_base_eager", "elc_zero_auto", "deberta_v2"]
        if self.trial:
            plain = plain[:4]
        repeats = 2 if self.tiny else 5 if self.trial else 15
        arguments = [*self.shape(length), "--repeats", str(repeats), "--seconds", "12", "--no-memory"]
        arguments += ["--prepare-seconds", "40", "--only", *plain]
        commands = [self.script(f"step{length}", "train_step", arguments, 60, quick=quick)]
        # A CPU may have no compiler. A trial compiles in the tiny size, beside the second table.
        if self.device == "cuda" and (quick or not self.trial):
            commands.insert(0, self.compiled(f"step{length}_compiled", length, repeats, 90))
        return Piece(commands)

    def compile128(self) -> Piece:
        """Fill the caches of the compilers while the tests run, so that the timed tables need not wait for them."""
        return Piece([self.compiled("compile128", 128, 1, 100)] if self.device == "cuda" else [])

    def compile512(self) -> Piece:
        return Piece([self.compiled("compile512", 512, 1, 100)] if self.device == "cuda" else [])

    def step128(self) -> Piece:
        return self.table(128, quick=self.tiny)

    def step512(self) -> Piece:
        return self.table(512, quick=self.tiny or self.trial)

    def profile(self) -> Piece:
        kernels = "triton" if self.device == "cuda" else "torch"
        commands = []
        for length in (128, 512):
            shape = [*self.shape(length), "--kernels", kernels, "--no-picture"]
            for mode in ([], ["--compile"]):
                if self.device == "cpu" and mode:
                    continue
                name = f"profile{length}{'_compiled' if mode else ''}"
                commands.append(self.script(name, "profile_step", shape + mode, 30, quick=self.tiny or self.trial))
        return Piece(commands)

    def pairs(self, count: int) -> tuple[Path, Callable[[], None]]:
        """A folder of minimal pairs with `count` of each paradigm, and what makes it; 0: all."""
        folder = self.work / f"blimp_{count}"
        data = self.data

        def make() -> None:
            if folder.exists():
                return
            if data is None:
                raise FileNotFoundError("no --data: the minimal pairs are missing")
            source = data / "blimp"
            if not source.exists():
                source = self.work / "blimp"
                with tarfile.open(data / "blimp.tar.gz") as archive:
                    archive.extractall(self.work, filter="data")
            for file in sorted(source.rglob("*.jsonl")):
                target = folder / file.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                lines = file.read_text().splitlines(keepends=True)
                target.write_text("".join(lines[: count or None]))

        return folder, make

    def tokenizer(self) -> Path:
        return (self.data or Path("missing")) / "babylm" / "tokenizer"

    def scoring(self) -> Piece:
        folder, make = self.pairs(2 if self.tiny else 0)
        tokenizer = self.tokenizer() / "tokenizer.json"
        size = ["small"] if self.tiny else ["base"]
        count = ["--pairs", "2" if self.tiny else "50" if self.trial else "600"]
        rounds = ["--rounds", "1" if self.tiny or self.trial else "2"]
        few = ["--tokens", "8192", "--batch-sizes", "2"] if self.tiny else []
        if not self.tiny:
            few = ["--tokens", "16384", "65536", "--batch-sizes", "64", "256"]
        arguments = [*size, "--minimal-pairs", str(folder), "--tokenizer", str(tokenizer), *count, *rounds, *few]
        if self.tiny:
            arguments += ["--dtypes", "float32"]
        small = self.tiny or self.trial
        command = self.script("scoring", "minimal_pairs", arguments, 40 if self.trial else 85, full=not small)
        return Piece([command], make)

    def norms(self, variant: str = "base") -> Piece:
        small = self.tiny or self.trial
        shape = ["--layers", "2", "--width", "64", "--steps", "10", "--seeds", "1"]
        if not small:
            shape = [
                "--layers",
                "4",
                "--width",
                "256",
                "--rows",
                "64",
                "--length",
                "64",
                "--steps",
                "600",
                "--lr",
                "1e-3",
            ]
        shape += ["--variant", variant]
        return Piece([self.script(f"norms_{variant}", "norm_precision", shape, 20 if small else 105)])

    def norms_zero(self) -> Piece:
        return self.norms("zero")

    def kernels(self) -> Piece:
        few = ["--repeats", "2" if self.tiny or self.trial else "20"]
        commands = [
            self.script("attention", "attention", few, 60, quick=self.tiny or self.trial, tune=not self.tiny),
            self.script("mixing", "mixing", [], 25, quick=self.tiny or self.trial),
        ]
        return Piece(commands)

    def lamb(self) -> Piece:
        return Piece([self.script("lamb", "lamb", ["--repeats", "20"], 25, quick=self.tiny or self.trial)])

    def run(self) -> Piece:
        """A real run through Composer, its evaluation and export."""
        options = self.options
        run = self.work / "real_run"
        small = self.tiny or self.trial
        lengths, batches, micro = (128, 512), (1024, 256), (512, 128)
        if self.tiny:
            batches, micro = (4, 2), (4, 2)
        tokens = lengths[0] * batches[0]
        steps = 10 if small else max(20, round(options.run_seconds * options.run_rate / tokens))
        if self.tiny:
            steps = 4  # two of each stage
        steps = min(steps, round(10 * 12_939_312 / tokens))
        folder, make = self.pairs(1 if self.tiny else 5 if self.trial else 100)
        settings = [
            "run_name=real_run", f"run_folder={run}", f"max_steps={steps}", f"data.streams.0.local={self.data}/babylm",
            "optimizer.lr=5e-3", "schedule.warmup_fraction=0.05", "callbacks.speed_monitor.window_size=5",
            # The data sheet's rate, so that the logged MFU does not depend on a table.
            "callbacks.speed_monitor.gpu_flops_available=989.5e12", "callbacks.memory_monitor=true",
            "callbacks.layer_weight_monitor.interval=20ba", "evaluators.eval_interval=1000ba",
            "checkpoints.save_interval=1000ba", "loggers.progress_bar=false", "loggers.console_interval=10ba",
            f"data.num_workers={0 if self.tiny else 8}",
        ]  # fmt: skip
        for stage in (0, 1):
            settings += [f"stages.{stage}.global_train_batch_size={batches[stage]}"]
            settings += [f"stages.{stage}.device_train_microbatch_size={micro[stage]}"]
        tokenizer = self.tokenizer() / "tokenizer.json"
        if tokenizer.exists():
            settings += [f"model.vocab_size={len(json.loads(tokenizer.read_text())['model']['vocab'])}"]
        if self.device == "cpu":
            settings += ["precision=fp32", "callbacks.memory_monitor=false"]
        if self.tiny:
            settings += ["model.hidden_size=32", "model.intermediate_size=64", "model.num_hidden_layers=2"]
            settings += [
                "model.num_attention_heads=2",
                "evaluators.dev_batches=1",
                "evaluators.device_eval_batch_size=2",
                "stages.0.fraction=0.5",
                "stages.1.fraction=0.5",
            ]
        limit = 60 if small else options.run_seconds + 60
        out = self.work / "real_run_pairs.json"
        scored = [str(run), "--minimal-pairs", str(folder), "--out", str(out), "--device", self.device]
        return Piece(
            [
                Command("run", ["-m", "elc_composer.train", "yamls/elc_strict_small.yaml", *settings], limit),
                Command("run_pairs", ["-m", "elc_composer.evaluate", *scored], 45, out),
                Command("run_export", ["-m", "elc_composer.export", str(run), str(self.work / "exported")], 30),
            ],
            make,
            [(run / "metrics.jsonl", "run_metrics.jsonl"), (run / "layer_weights.png", "run_layer_weights.png")],
        )  # fmt: skip


FULL = tuple(name for name in Pieces.names if name != "imports")
TRIAL = ("step128", "imports", "run", "tests", "profile", "scoring", "norms", "kernels", "lamb", "step512")
TOGETHER = ("tests", "compile128", "compile512", "norms", "norms_zero")
"""Pieces without times: they run side by side before the others."""
SIDE_BY_SIDE = 6
"""Pieces at a time."""


def answer(command: list[str]) -> str | None:
    """What a program of the machine prints, if it is there and works."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def machine(device: str) -> dict[str, Any]:
    """Hardware, versions, date."""
    found: dict[str, Any] = {
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    if device == "cuda":
        found["gpu"] = answer(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])
    found["commit"] = answer(["git", "rev-parse", "HEAD"])
    return found


def execute(command: Command, limit: float, folder: Path) -> dict[str, Any]:
    """Run one command under a limit; its whole process group ends with it. Output goes to a file in `folder`."""
    began = time.monotonic()
    log = folder / f"{command.name}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, *command.arguments], stdout=sink, stderr=sink, cwd=ROOT, start_new_session=True
        )
        timed_out = False
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            timed_out = True
            end_group(process)
    report: dict[str, Any] = {"status": process.returncode, "seconds": round(time.monotonic() - began, 1)}
    if timed_out:
        report["timed_out"] = True
    text = log.read_text(errors="replace").splitlines()
    report["tail"] = text[-3:] if process.returncode == 0 else text[-25:]
    if command.result is not None and command.result.exists():
        try:
            report["result"] = json.loads(command.result.read_text())
        except ValueError as problem:
            report["result_error"] = str(problem)
    return report


def end_group(process: subprocess.Popen[bytes]) -> None:
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
        except ProcessLookupError:
            break
        try:
            process.wait(GRACE)
            if sent == signal.SIGTERM:
                continue  # children that outlive their parent
        except subprocess.TimeoutExpired:
            continue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with babylm/ (prepared) and blimp/ or blimp.tar.gz")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gpu")
    parser.add_argument("--budget", type=float, help="seconds of everything; default 585, with --trial 125")
    parser.add_argument("--only", help=f"pieces, separated by commas: {', '.join(Pieces.names)}")
    parser.add_argument("--skip", default="", help="pieces to leave out, separated by commas")
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: whether the command lines are right")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--name", default="h200", help="of the machine, in the result's file name")
    parser.add_argument("--commit", help="of the working tree, where there is no git")
    parser.add_argument("--run-seconds", type=float, default=60, help="of training steps in the real run")
    parser.add_argument("--run-rate", type=float, default=500_000, help="tokens a second that the real run may reach")
    parser.add_argument("--began", type=float, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, required=True, help="temporary folder")
    options = parser.parse_args()
    began = time.monotonic() - (time.time() - options.began if options.began else 0)
    options.work = options.work.resolve()
    options.data = options.data.resolve() if options.data else None
    options.work.mkdir(parents=True, exist_ok=True)
    budget = options.budget or (1800 if options.tiny else 125 if options.trial else 585)
    names = options.only.split(",") if options.only else list(TRIAL if options.trial else FULL)
    if unknown := sorted({*names, *filter(None, options.skip.split(","))} - set(Pieces.names)):
        sys.exit(f"no such piece: {', '.join(unknown)}; there are {', '.join(Pieces.names)}")
    names = [name for name in names if name not in options.skip.split(",")]

    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "log.txt"
    log.write_bytes(b"")
    report: dict[str, Any] = {
        "machine": machine(options.device),
        "trial": options.trial,
        "tiny": options.tiny,
        "budget": budget,
        "pieces": {name: {} for name in names},
    }
    target = options.out / f"{options.name}_{report['machine']['date']}.json"
    report["machine"]["commit"] = options.commit or report["machine"]["commit"]
    pieces = Pieces(options)
    planned = {name: getattr(pieces, name)() for name in names}
    total = sum(command.seconds for piece in planned.values() for command in piece.commands)
    scale = min(1.0, budget / total) if options.budget and not options.trial else 1.0
    if options.tiny:
        scale = 6.0  # a slow machine
    lock = threading.Lock()

    def record(name: str, command: Command, found: dict[str, Any]) -> None:
        state = "timed out" if found.get("timed_out") else found.get("skipped") or f"status {found['status']}"
        last = found["tail"][-1][:150] if found.get("tail") else ""
        with lock:
            print(f"{command.name}: {state}, {found.get('seconds', 0)} s; {last}", flush=True)
            report["pieces"][name][command.name] = found
            report["seconds"] = round(time.monotonic() - began, 1)
            target.write_text(json.dumps(report, indent=1) + "\n")
            own = options.work / f"{command.name}.log"
            if own.exists():
                with log.open("ab") as sink:
                    sink.write(f"\n===== {command.name}: python {' '.join(command.arguments)}\n".encode())
                    sink.write(own.read_bytes()[-400_000:])

    def carry_out(name: str) -> None:
        piece = planned[name]
        try:
            if piece.before:
                with lock:
                    piece.before()
        except Exception as problem:
            report["pieces"][name]["before"] = {"status": 1, "tail": [f"{type(problem).__name__}: {problem}"]}
        reserve = RUN_RESERVE if "run" in planned and name in BEFORE_RUN and not options.trial else 0.0
        for command in piece.commands:
            left = budget - (time.monotonic() - began) - reserve
            limit = min(command.seconds * scale, left - GRACE)
            if command.missing:
                record(name, command, {"status": None, "skipped": f"skipped, there is no {command.missing}"})
                continue
            if limit < 5:
                record(name, command, {"status": None, "skipped": f"skipped, {left:.0f} s were left"})
                continue
            found = execute(command, limit, options.work)
            if command.left_out:
                found["left_out"] = command.left_out
            for source, kept in piece.keeps:
                if source.exists():
                    shutil.copyfile(source, options.out / kept)
            if command.name == "run" and piece.keeps[0][0].exists():
                found["result"] = summarize_run(piece.keeps[0][0].read_text().splitlines())
            record(name, command, found)

    first, side_by_side, alone = [], [name for name in names if name in TOGETHER], []
    if options.trial:
        first, side_by_side = names[:1], names[1:]
    else:
        alone = [name for name in names if name not in TOGETHER]
    for name in first:
        carry_out(name)
    if side_by_side:
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            list(pool.map(carry_out, side_by_side))
    for name in alone:
        carry_out(name)
    failed = [c for piece in report["pieces"].values() for c, one in piece.items() if one["status"] != 0]
    print(f"{time.monotonic() - began:.1f} s; failed: {', '.join(failed) or 'none'}; results: {target}")


if __name__ == "__main__":
    main()

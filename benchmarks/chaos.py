"""Kill a two-rank run at random while its storage fails, and compare its end with an undisturbed run.

python -m benchmarks.chaos [--kills 30] [--steps 120] [--seed 1] [--out benchmarks/results/chaos.json]

The run streams from a moto server through a proxy that corrupts every tenth response. It is restarted after each kill
until it ends by itself, every third time with an empty cache. Then its weights, and the samples of every batch of every
attempt, are compared with those of an undisturbed run. All random choices come from the seed; the exact place of a kill
and the request that meets a fault also depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import torch

from benchmarks.machine import describe_machine
from benchmarks.warm_launch import start
from elc_composer.train import main as train  # noqa: F401 (imported once, before the forks)
from streaming_prep.cli import main as streaming_prep
from streaming_prep.toy.write import write_toy_language
from tests.faults.proxy import FaultyProxy, RandomPlan
from tests.faults.s3 import CREDENTIALS, local_s3
from tests.multirank.launch import free_port

ROOT = Path(__file__).resolve().parent.parent
KINDS = [
    "SIGKILL to rank 0",
    "SIGKILL to rank 1",
    "SIGKILL to all",
    "SIGKILL to a data worker",
    "SIGTERM to the launcher",
]
FAULT_RATE = 0.1
PATIENCE = 240.0


@dataclass
class Kill:
    """One kill and its outcome."""

    kind: str
    during: str
    step: int
    exit_code: int
    seconds_to_end: float


def serve(pipe: Connection, folder: Path, seed: int) -> None:
    """In a process of its own: the bucket, and before it the proxy; answers any message with the faults so far."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with local_s3() as s3:
        address = s3.upload(folder, "toy")
        with FaultyProxy(s3.host, s3.port, RandomPlan(seed, FAULT_RATE), stall_seconds=4.0) as proxy:
            pipe.send((address, s3.url, proxy.url))
            while pipe.recv():
                pipe.send((proxy.requests, {fault.value: count for fault, count in proxy.injected.items()}))


@contextmanager
def storage(folder: Path, seed: int) -> Iterator[Connection]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=serve, args=(theirs, folder, seed), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        ours.send(False)
        process.join(10)
        process.kill()


def prepare(folder: Path) -> Path:
    """Write a toy language in shards so small that every stage needs dozens."""
    toy = write_toy_language(folder / "toy", words=8_000, pairs_per_paradigm=2)
    settings = ["--vocab-size", "512", "--seq-length", "32", "64", "--shard-bytes", "4000", "--workers", "1", "--quiet"]
    assert streaming_prep(["build", "--corpus", str(toy.corpus), "--out", str(folder / "data"), *settings]) == 0
    return folder / "data"


def overrides(address: str, vocab_size: int, run: Path, cache: Path, steps: int) -> list[str]:
    settings = {
        "run_name": "chaos",
        "run_folder": run,
        "max_steps": steps,
        "model.vocab_size": vocab_size,
        "model.hidden_size": 32,
        "model.intermediate_size": 64,
        "model.num_hidden_layers": 3,
        "model.hidden_dropout_prob": 0.1,
        "stages.0.fraction": 0.5,
        "stages.1.fraction": 0.5,
        "data.streams.0.remote": address,
        "data.streams.0.local": cache,
        "data.num_workers": 1,
        "data.download_retry": 1,
        "data.download_timeout": 2.0,
        "data.outage_tolerance": 60.0,
        "data.batch_timeout": 120.0,
        "parallelism.dist_timeout": 120.0,
        "checkpoints.save_interval": "2ba",
        "evaluators.dev_loss": False,
        "evaluators.minimal_pairs": "[]",
        "evaluators.before_training": False,
        "loggers.progress_bar": False,
    }
    return [f"{key}={value}" for key, value in settings.items()]


class Attempt:
    """One start of the run, to its end or its kill."""

    def __init__(self, notes: Path, arguments: list[str]) -> None:
        self.notes = notes
        notes.mkdir(parents=True)
        self.log = notes / "log.txt"
        script = ROOT / "benchmarks" / "chaos_job.py"
        config = str(ROOT / "yamls" / "quickstart.yaml")
        self.began = time.monotonic()
        self.pid = start(2, free_port(), script, [str(notes), config, *arguments], self.log)
        self.exit_code: int | None = None

    def poll(self) -> bool:
        """True if it has ended."""
        if self.exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
        return self.exit_code is not None

    def batches(self) -> list[tuple[int, int, list[int]]]:
        """(step, rank, sample ids) of every batch so far."""
        found = []
        for rank in (0, 1):
            with suppress(FileNotFoundError):
                for line in (self.notes / f"{rank}.jsonl").read_text().splitlines():
                    # A rank may have been killed during a write.
                    with suppress(json.JSONDecodeError):
                        step, ids, *_ = json.loads(line)
                        if step != "start":
                            found.append((step, rank, ids))
        return found

    def step(self) -> int:
        """Batches that rank 0 has begun in this attempt."""
        return sum(rank == 0 for _, rank, _ in self.batches())

    def wait(self, until: float, batches: int | None = None) -> None:
        """Sleep until it ends, the timeout passes, or that many batches have begun."""
        while not self.poll() and time.monotonic() < until:
            if batches is not None and self.step() >= batches:
                return
            time.sleep(0.02)

    def kill(self, kind: str, rng: random.Random) -> None:
        """Kill the processes that `kind` names; the launcher if they do not exist yet."""
        launcher = psutil.Process(self.pid)
        ranks = sorted(launcher.children(), key=lambda process: process.pid)
        children = [process for rank in ranks for process in rank.children() if process.status() != "zombie"]
        workers = [process for process in children if "resource_tracker" not in " ".join(process.cmdline())]
        if kind == "SIGKILL to a data worker" and workers:
            rng.choice(workers).kill()
        elif kind in ("SIGKILL to rank 0", "SIGKILL to rank 1") and len(ranks) == 2:
            ranks[int(kind[-1])].kill()
        elif kind == "SIGTERM to the launcher":
            launcher.send_signal(signal.SIGTERM)
        else:
            for process in [launcher, *launcher.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def settle(self) -> None:
        """Wait for the end; a run that hangs is a failure."""
        self.wait(time.monotonic() + PATIENCE)
        if not self.poll():
            os.killpg(self.pid, signal.SIGKILL)
            sys.exit(f"the run hangs; its log: {self.log.read_text()[-4000:]}")


def disturb(attempt: Attempt, kind: str, rng: random.Random) -> Kill | None:
    """Kill the run after a few batches (every fifth time during its start); None if it ended before."""
    if rng.random() < 0.2:
        during = "start"
        attempt.wait(time.monotonic() + rng.uniform(0.2, 6.0), batches=1)
    else:
        during = "training"
        attempt.wait(time.monotonic() + PATIENCE, batches=rng.randint(1, 4))
        attempt.wait(time.monotonic() + rng.uniform(0.0, 0.3))
    if attempt.poll():
        return None
    step = max((step for step, _, _ in attempt.batches()), default=-1)
    attempt.kill(kind, rng)
    killed = time.monotonic()
    attempt.settle()
    assert attempt.exit_code is not None
    return Kill(kind, during, step, attempt.exit_code, round(time.monotonic() - killed, 2))


def final_weights(run: Path, steps: int) -> dict[str, torch.Tensor]:
    state = torch.load(run / "checkpoints" / f"ba{steps}-rank0.pt", weights_only=False, map_location="cpu")
    return state["state"]["model"]


def run_chaos(folder: Path, kills: int, steps: int, seed: int) -> dict:
    rng = random.Random(seed)
    data = prepare(folder)
    vocab_size = json.loads((data / "manifest.json").read_text())["tokenizer"]["vocab_size"]
    os.environ.update(CREDENTIALS, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    torch.set_num_threads(1)
    with storage(data, seed) as pipe:
        address, direct, proxied = pipe.recv()
        os.environ["S3_ENDPOINT_URL"] = direct
        calm = Attempt(
            folder / "calm", overrides(address, vocab_size, folder / "calm_run", folder / "calm_cache", steps)
        )
        calm.settle()
        if calm.exit_code != 0:
            sys.exit(f"the undisturbed run failed: {calm.log.read_text()[-4000:]}")
        expected = {(step, rank): ids for step, rank, ids in calm.batches()}
        os.environ["S3_ENDPOINT_URL"] = proxied
        began, survived, attempts = time.monotonic(), [], []
        schedule = [KINDS[i % len(KINDS)] for i in range(kills)]
        rng.shuffle(schedule)
        cache = folder / "cache"
        arguments = overrides(address, vocab_size, folder / "run", cache, steps)
        while True:
            if len(attempts) % 3 == 0:
                shutil.rmtree(cache, ignore_errors=True)
            attempt = Attempt(folder / "attempts" / str(len(attempts)), arguments)
            attempts.append(attempt)
            if len(survived) < kills:
                kill = disturb(attempt, schedule[len(survived)], rng)
                if kill is not None:
                    survived.append(kill)
                    print(f"{len(survived)}/{kills} {kill}", flush=True)
                    continue
            attempt.settle()
            if attempt.exit_code == 0:
                break
            sys.exit(f"attempt {len(attempts)} failed by itself: {attempt.log.read_text()[-20000:]}")
        seconds = time.monotonic() - began
        pipe.send(True)
        requests, faults = pipe.recv()
    seen = [batch for attempt in attempts for batch in attempt.batches()]
    wrong = [(step, rank) for step, rank, ids in seen if expected[step, rank] != ids]
    ours, theirs = final_weights(folder / "run", steps), final_weights(folder / "calm_run", steps)
    difference = max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)
    return {
        "steps": steps,
        "seed": seed,
        "attempts": len(attempts),
        "seconds": round(seconds),
        "kills": {kind: sum(kill.kind == kind for kill in survived) for kind in KINDS},
        "kills_during_start": sum(kill.during == "start" for kill in survived),
        "exit_codes": dict(sorted(Counter(kill.exit_code for kill in survived).items())),
        "longest_seconds_from_kill_to_end": max(kill.seconds_to_end for kill in survived),
        "storage_requests": requests,
        "storage_faults": faults,
        "largest_weight_difference": difference,
        "batches_compared": len(seen),
        "batches_with_other_samples": len(wrong),
        "steps_done_twice": len(seen) - len({(step, rank) for step, rank, _ in seen}),
        "table": [asdict(kill) for kill in survived],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "chaos.json")
    options = parser.parse_args()
    # Not a TemporaryDirectory: the forked processes would remove it when they end.
    folder = Path(tempfile.mkdtemp(prefix="chaos_"))
    try:
        result = {"machine": describe_machine(), **run_chaos(folder, options.kills, options.steps, options.seed)}
    finally:
        shutil.rmtree(folder)
    text = json.dumps(result, indent=1)
    options.out.write_text(text + "\n")
    print(text)
    if result["largest_weight_difference"] > 1e-6 or result["batches_with_other_samples"]:
        sys.exit("the disturbed run ended elsewhere")


if __name__ == "__main__":
    main()

"""Measure the speed of each stage of preparation against the straightforward way; writes benchmarks/results/prep.json.

    python benchmarks/prep.py [--words 20000000] [--quick] [--corpus ../shared/data/babylm_sample]

The train files of the corpus are repeated to about that many words. The straightforward way is one process that applies
the same rules line by line: ftfy, Moses normalization and Punkt on every line, `tokenizer.encode` on every sentence,
packing by joining lists, one MDSWriter for each sequence length. Both must give the same segments. Every run is a
separate process; another process measures its memory and that of its workers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from streaming_prep.manifest import Manifest

ROOT = Path(__file__).resolve().parent.parent
SEQ_LENGTHS = [128, 512]
VOCAB_SIZE = 16_384
TWICE = "2 processes, twice the text"


def main() -> None:
    options = parse()
    if options.child:
        result = CHILDREN[options.child](options)
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        print(json.dumps(result | {"cpu_seconds": round(sum(use.ru_utime + use.ru_stime for use in used), 1)}))
        return
    words = 500_000 if options.quick else options.words
    results: dict[str, Any] = {"machine": machine(), "load_at_start": os.getloadavg(), "runs": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        results["words"] = repeat(options.corpus, folder / "large", words)
        double = repeat(options.corpus, folder / "double", 2 * results["words"])
        results["corpus"] = f"train files of {options.corpus.name}, repeated"
        runs = {"1 process": ("ours", 1), "2 processes": ("ours", 2), "straightforward": ("straightforward", 1)}
        for name, (child, workers) in runs.items():
            results["runs"][name] = measure(child, folder / "large", folder / child / str(workers), workers)
            show(name, results["runs"][name], results["words"])
        twice = measure("ours", folder / "double", folder / "twice", 2)
        results["runs"][TWICE] = twice | {"words": double}
    results |= compare(results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps({key: value for key, value in results.items() if key not in ("runs", "machine")}, indent=2))
    print(f"written to {options.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=20_000_000)
    parser.add_argument("--quick", action="store_true", help="half a million words")
    default = Path(os.environ.get("ELC_DATA_DIR", ROOT.parent / "shared" / "data")) / "babylm_sample"
    parser.add_argument("--corpus", type=Path, default=default)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "prep.json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=1, help=argparse.SUPPRESS)
    return parser.parse_args()


def repeat(corpus: Path, folder: Path, words: int) -> int:
    """Write repeated copies of the train files; returns the number of words."""
    folder.mkdir()
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(corpus.glob("*.train"))}
    once = sum(len(text.split()) for text in texts.values())
    # For less than one copy: the first part of each file.
    share = min(1.0, words / once)
    copies = max(1, round(words / once))
    total = 0
    for name, text in texts.items():
        head = text[: text.find("\n", int(share * len(text)) - 1) + 1] if share < 1 else text
        total += copies * len(head.split())
        with open(folder / name, "w", encoding="utf-8") as file:
            for _ in range(copies):
                file.write(head if head.endswith("\n") else head + "\n")
    return total


def measure(child: str, corpus: Path, out: Path, workers: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", child, "--corpus", corpus, "--folder", out, "--workers", workers]
    process = subprocess.Popen([*map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    watcher = MemoryWatcher(process.pid)
    watcher.start()
    output, _ = process.communicate()
    watcher.stop.set()
    if process.returncode:
        raise SystemExit(f"{child} failed with code {process.returncode}")
    return json.loads(output.splitlines()[-1]) | {"peak_memory_mb": round(watcher.peak / 2**20)}


class MemoryWatcher(threading.Thread):
    """Peak of the private memory (USS, in bytes) of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process(pid)
        self.stop = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self.stop.wait(0.2):
            total = 0
            try:
                for process in [self.process, *self.process.children(recursive=True)]:
                    total += process.memory_full_info().uss
            except psutil.Error:
                continue
            self.peak = max(self.peak, total)


def ours(options: argparse.Namespace) -> dict[str, Any]:
    from streaming_prep.build import build
    from streaming_prep.screen import Screen
    from streaming_prep.settings import BuildSettings

    screen = Screen(silent=True)
    began = time.perf_counter()
    settings = BuildSettings([options.corpus], vocab_size=VOCAB_SIZE, seq_lengths=SEQ_LENGTHS, dev_share=0.0)
    manifest = build(settings, options.folder, workers=options.workers, screen=screen)
    seconds = time.perf_counter() - began
    stages = {name: screen.seconds[name] for name in ("clean", "tokenizer", "tokenize", "pack", "shards")}
    return {"seconds": seconds, "stages": stages, "segments": counts(manifest)}


def counts(manifest: Manifest) -> dict[str, list[int]]:
    return {name: [output.samples, output.tokens] for name, output in sorted(manifest.outputs.items())}


def straightforward(options: argparse.Namespace) -> dict[str, Any]:

    import ftfy
    import numpy as np

    from streaming_prep import sentences
    from streaming_prep.chunks import read_texts, scan
    from streaming_prep.cleaners import CLEANERS, levels
    from streaming_prep.discover import discover
    from streaming_prep.train_tokenizer import train_tokenizer

    # The same rules, without the checks that skip the libraries for lines that need no change.
    levels.fix_encoding = ftfy.fix_text
    levels.normalize_punctuation = levels._MOSES.normalize
    options.folder.mkdir(parents=True)
    clock = Clock()
    began = time.perf_counter()
    with clock("clean"), open(options.folder / "sentences.txt", "w", encoding="utf-8", newline="\n") as file:
        for source in discover([options.corpus]):
            whole = scan(source.path, lambda a, b: False, "strict").chunks
            lines = (
                line for chunk in whole for part in read_texts(source.path, chunk, "text", "strict") for line in part
            )
            for sentence in sentences.split_sentences(CLEANERS[source.cleaner].clean(lines)):
                file.write(sentence + "\n")

    def read() -> Iterator[str]:
        with open(options.folder / "sentences.txt", encoding="utf-8", newline="\n") as file:
            for line in file:
                yield line[:-1]

    with clock("tokenizer"):
        tokenizer = train_tokenizer(read(), VOCAB_SIZE, 10)
    ids, lengths = [], []
    with clock("tokenize"):
        for sentence in read():
            tokens = tokenizer.encode(sentence, add_special_tokens=False).ids
            ids.append(np.array(tokens, np.uint16))
            lengths.append(len(tokens))
    segments = {}
    for seq_length in SEQ_LENGTHS:
        with clock("pack"):
            packed = list(pack_lists(ids, seq_length - 2))
        with clock("shards"):
            from streaming import MDSWriter

            columns = {"input_ids": "ndarray:uint16"}
            with MDSWriter(columns=columns, out=str(options.folder / str(seq_length)), compression="zstd") as writer:
                for segment in packed:
                    writer.write({"input_ids": np.array(segment, np.uint16)})
        segments[f"seq_{seq_length}/train"] = [len(packed), sum(map(len, packed))]
    return {"seconds": time.perf_counter() - began, "stages": clock.seconds, "segments": segments}


def pack_lists(sentences: list[Any], capacity: int) -> Iterator[list[int]]:
    segment: list[int] = []
    for array in sentences:
        sentence = array.tolist()
        if not sentence:
            if segment:
                yield segment
            segment = []
        elif len(segment) + len(sentence) > capacity:
            yield segment + sentence[: capacity - len(segment)]
            segment = sentence[:capacity]
        else:
            segment = segment + sentence
    if segment:
        yield segment


class Clock:
    """Sums the wall time of each stage: `with clock(name): ...`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str) -> Clock:
        self.name = name
        return self

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.name] = self.seconds.get(self.name, 0.0) + time.perf_counter() - self.began


CHILDREN = {"ours": ours, "straightforward": straightforward}


def compare(results: dict[str, Any]) -> dict[str, Any]:
    runs, words = results["runs"], results["words"]
    plain, two, twice = runs["straightforward"], runs["2 processes"], runs[TWICE]
    same = plain["segments"] == two["segments"] == runs["1 process"]["segments"]
    if not same:
        raise SystemExit(f"the runs disagree: {plain['segments']} {two['segments']}")
    training = {name: run["stages"]["tokenizer"] for name, run in (("plain", plain), ("two", two))}
    return {
        "words_per_second": {
            name: {stage: round(words / seconds) for stage, seconds in run["stages"].items() if seconds > 0.01}
            | {"end to end": round(words / run["seconds"])}
            for name, run in runs.items()
            if "words" not in run
        },
        "times_faster": {
            "end to end, 2 processes": round(plain["seconds"] / two["seconds"], 2),
            "the same without training the tokenizer": round(
                (plain["seconds"] - training["plain"]) / (two["seconds"] - training["two"]), 2
            ),
            "end to end, 1 process": round(plain["seconds"] / runs["1 process"]["seconds"], 2),
        },
        "cpu_seconds": {name: run["cpu_seconds"] for name, run in runs.items()},
        "peak_memory_mb": {name: run["peak_memory_mb"] for name, run in runs.items()},
        "memory_of_twice_the_text": round(twice["peak_memory_mb"] / two["peak_memory_mb"], 2),
        "minutes_for_100_million_words": round(
            (two["seconds"] + twice["seconds"]) * 1e8 / (words + twice["words"]) / 60, 1
        ),
    }


def show(name: str, run: dict[str, Any], words: int) -> None:
    stages = ", ".join(f"{stage} {words / seconds:,.0f}" for stage, seconds in run["stages"].items() if seconds > 0.01)
    print(f"{name}: {run['seconds']:.1f} s, {run['peak_memory_mb']} MB; words/s: {stages}", flush=True)


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    memory = round(psutil.virtual_memory().total / 2**30)
    return {"cpu": model, "cpus": os.cpu_count(), "memory_gib": memory, "python": platform.python_version()}


if __name__ == "__main__":
    main()

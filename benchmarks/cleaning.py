"""Processor time of the cleaners: against the length of a line of one repeated unit, and on real text.

python -m benchmarks.cleaning [--quick] [--corpus ../shared/data/babylm_small] [--out benchmarks/results/cleaning.json]

Each line is cleaned once for every cleaner. `growth` is the exponent of the time between the two longest lines: 1 is
linear, 2 quadratic; it is left out where the time is below 20 ms. Real text: megabytes a second on the first 1.5 MB of
each train file, best of three.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from streaming_prep.cleaners import CLEANERS, get_cleaner

ROOT = Path(__file__).resolve().parent.parent
REPEATS = [10_000, 100_000, 1_000_000]
UNITS = [".", '"', "(", "[", "{", " ", "...A", "[[", "[[a|", "[[a]", "= = = a", "'", " 's", "’", "&amp;"]
NESTED = "& amp;amp;..."
TEXT_BYTES = 1_500_000
TOO_SHORT = 0.02


def main() -> None:
    options = parse()
    repeats = REPEATS[:-1] if options.quick else REPEATS
    results: dict[str, Any] = {"machine": describe_machine(), "repeats": repeats, "seconds": {}, "growth": {}}
    for unit in [*UNITS, NESTED]:
        measured = {name: [line_seconds(name, unit, times) for times in repeats] for name in CLEANERS}
        results["seconds"][unit] = measured
        growths = {name: growth(seconds, repeats) for name, seconds in measured.items()}
        results["growth"][unit] = {name: value for name, value in growths.items() if value is not None}
        slowest = max(measured, key=lambda name: measured[name][-1])
        times = ", ".join(f"{seconds:.3f}" for seconds in measured[slowest])
        print(f"{unit!r:16} slowest {slowest:16} {times} s, growth {growths[slowest]}", flush=True)
    if options.corpus.is_dir():
        results["megabytes_a_second"] = {path.name: text_speed(path) for path in sorted(options.corpus.glob("*.train"))}
        print(json.dumps(results["megabytes_a_second"], indent=2))
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"written to {options.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the longest lines")
    default = Path(os.environ.get("ELC_DATA_DIR", ROOT.parent / "shared" / "data")) / "babylm_small"
    parser.add_argument("--corpus", type=Path, default=default)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "cleaning.json")
    return parser.parse_args()


def line_seconds(name: str, unit: str, times: int) -> float:
    line = "&" + "amp;" * times if unit == NESTED else unit * times
    began = time.process_time()
    list(CLEANERS[name].clean([f"{line} and a word"]))
    return round(time.process_time() - began, 5)


def growth(seconds: list[float], repeats: list[int]) -> float | None:
    if seconds[-2] < TOO_SHORT:
        return None
    return round(math.log(seconds[-1] / seconds[-2]) / math.log(repeats[-1] / repeats[-2]), 2)


def text_speed(path: Path) -> float:
    text = path.read_text(encoding="utf-8")[:TEXT_BYTES]
    lines = text.split("\n")
    cleaner = get_cleaner("auto", path)
    best = math.inf
    for _ in range(3):
        began = time.process_time()
        for _ in cleaner.clean(lines):
            pass
        best = min(best, time.process_time() - began)
    return round(len(text.encode()) / best / 1e6, 1)


if __name__ == "__main__":
    main()

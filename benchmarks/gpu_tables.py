"""Tables in Markdown from the results of `gpu.sh`: targets before and after, step times, profile, roofline, the run.

python benchmarks/gpu_tables.py RESULTS.json [--before benchmarks/results/h200_2026-11-26.json]

RESULTS.json may also be a folder; the newest result in it counts. A figure that was not measured is left empty.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

BEFORE = Path(__file__).parent / "results" / "h200_2026-11-26.json"
TITLES = {
    "elc_base_eager": "`base`, `eager`",
    "elc_base_torch": "`base`, `torch`",
    "elc_base_triton": "`base`, `triton`",
    "elc_zero_auto": "`zero`, `auto`",
    "ltg_auto": "`ltg`, `auto`",
    "deberta_v2": "`DebertaV2ForMaskedLM`",
    "bert_sdpa": "`BertForMaskedLM`, SDPA",
}
Report = dict[str, Any]


def result(report: Report, command: str) -> Report:
    """What a command wrote; empty if it did not."""
    for piece in report.get("pieces", {}).values():
        if command in piece:
            return piece[command].get("result") or {}
    return {}


def contestant(report: Report, command: str, name: str) -> Report:
    found = result(report, command).get("contestants", {}).get(name, {})
    return {} if "error" in found else found


def tokens(report: Report, command: str, name: str) -> float | None:
    return contestant(report, command, name).get("tokens_per_second")


def ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def slower(value: float | None) -> str:
    return "" if value is None else f"{100 * (value - 1):+.1f} %"


def fastest(report: Report, length: int, name: str, what: str) -> float | None:
    """A figure of the compiled form, or of the uncompiled one where there is no other."""
    for command in (f"step{length}_compiled", f"step{length}"):
        if what in (found := contestant(report, command, name)):
            return found[what]
    return None


def memory(report: Report, length: int) -> float | None:
    eager = contestant(report, f"step{length}", "elc_base_eager").get("peak_bytes_at_all_rows")
    return ratio(fastest(report, length, "elc_base_triton", "peak_bytes_at_all_rows"), eager)


def scoring(report: Report, dtype: str) -> float | None:
    return result(report, "scoring").get(dtype, {}).get("ours_over_minicons")


def lamb(report: Report) -> float | None:
    return result(report, "lamb").get("quotient_by_lamb_foreach", {}).get("lamb_plain")


def same_compilation(report: Report, length: int, name: str, other: str) -> float | None:
    """Tokens a second by another contestant's, compiled alike, with as many rows."""
    for command in (f"step{length}_compiled", f"step{length}"):
        if contestant(report, command, name).get("rows") != contestant(report, command, other).get("rows"):
            continue
        if found := ratio(tokens(report, command, name), tokens(report, command, other)):
            return found
    return None


def targets() -> list[tuple[str, Callable[[Report], str]]]:
    rows: list[tuple[str, Callable[[Report], str]]] = []
    for length, mfu, speed in ((128, "40 %", "2.5"), (512, "33 %", "3")):
        rows += [
            (
                f"MFU at {length} tokens: at least {mfu}",
                lambda r, n=length: share(fastest(r, n, "elc_base_triton", "mfu")),
            ),
            (
                f"times the eager form at {length}, tokens a second: at least {speed}",
                lambda r, n=length: times(
                    ratio(
                        fastest(r, n, "elc_base_triton", "tokens_per_second"), tokens(r, f"step{n}", "elc_base_eager")
                    )
                ),
            ),
            (f"peak memory by the eager form's at {length}: at most 0.5", lambda r, n=length: times(memory(r, n))),
            (
                f"time of `base` over `ltg` at {length}: at most +3 %",
                lambda r, n=length: slower(same_compilation(r, n, "ltg_auto", "elc_base_triton")),
            ),
            (
                f"time of `zero` over `ltg` at {length}: at most +3 %",
                lambda r, n=length: slower(same_compilation(r, n, "ltg_auto", "elc_zero_auto")),
            ),
        ]  # fmt: skip
    rows += [
        (
            "times `BertForMaskedLM` with SDPA, both compiled, at 128: at least 0.9",
            lambda r: times(same_compilation(r, 128, "elc_base_triton", "bert_sdpa")),
        ),
        ("minimal pairs by minicons, float32: at least 4", lambda r: times(scoring(r, "float32"))),
        ("minimal pairs by minicons, bf16: at least 4", lambda r: times(scoring(r, "bfloat16"))),
        ("LAMB by a loop over parameters: at least 5", lambda r: times(lamb(r))),
    ]
    return rows


def target_table(before: Report, after: Report) -> list[str]:
    lines = ["| target | before | after |", "|---|---|---|"]
    return lines + [f"| {title} | {figure(before)} | {figure(after)} |" for title, figure in targets()]


def step_cells(report: Report, command: str, name: str) -> str:
    content = result(report, command)
    found = content.get("contestants", {}).get(name)
    if not found:
        return " | | |"
    if "error" in found:
        return f" {found['error'][:60]} | | |"
    rows = "" if found.get("rows", content["rows"]) == content["rows"] else f" ({found['rows']} rows)"
    return (
        f" {found['milliseconds']:.1f} ms{rows} | {found['tokens_per_second'] / 1000:.0f} | {share(found.get('mfu'))} |"
    )


def step_table(report: Report) -> list[str]:
    """Both lengths; compiled contestants below the others."""
    lines = ["| | 256 x 128 | k tokens/s | MFU | 64 x 512 | k tokens/s | MFU |", "|---|---|---|---|---|---|---|"]
    for suffix in ("", "_compiled"):
        commands = [f"step{length}{suffix}" for length in (128, 512)]
        named = [name for name in TITLES if any(name in result(report, c).get("contestants", {}) for c in commands)]
        for name in named:
            title = f"compiled: {TITLES[name]}" if suffix else TITLES[name]
            lines.append(f"| {title} |" + "".join(step_cells(report, command, name) for command in commands))
    return lines


def detail_table(report: Report) -> list[str]:
    """Host, kernels, memory, compile time."""
    lines = ["| | length | host ms | kernels | peak GiB | compile s |", "|---|---|---|---|---|---|"]
    for length in (128, 512):
        for suffix in ("", "_compiled"):
            for name, found in result(report, f"step{length}{suffix}").get("contestants", {}).items():
                if "host_milliseconds" in found:
                    title = f"{'compiled: ' if suffix else ''}{TITLES.get(name, name)} | {length}"
                    host = f"{found['host_milliseconds']:.1f} | {found.get('kernels', '')}"
                    peak = f"{found['peak_bytes'] / 2**30:.1f}" if "peak_bytes" in found else ""
                    # The timed table found the compilers' caches filled by an earlier process.
                    cold = contestant(report, f"compile{length}", name) if suffix else {}
                    lines.append(f"| {title} | {host} | {peak} | {(cold or found).get('compile_seconds', '')} |")
    return lines


def profile_table(report: Report, heaviest: int = 12) -> list[str]:
    names = ["profile128", "profile128_compiled", "profile512", "profile512_compiled"]
    columns = {}
    for name in names:
        forms = result(report, name).get("milliseconds", {})
        if forms:
            columns[name] = next(iter(forms.values()))
    if not columns:
        return []
    heads = [f"{name[7:10]}{', compiled' if 'compiled' in name else ''}" for name in columns]
    lines = ["| ms of a step | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    kinds = dict.fromkeys(kind for parts in columns.values() for kind in parts)
    for kind in sorted(kinds, key=lambda kind: -max(parts.get(kind, 0) for parts in columns.values())):
        cells = (f"{parts[kind]:.1f}" if kind in parts else "" for parts in columns.values())
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    lines.append("| all | " + " | ".join(f"{sum(parts.values()):.1f}" for parts in columns.values()) + " |")
    for name in columns:
        kernels = next(iter(result(report, name).get("heaviest", {}).values()), [])[:heaviest]
        if kernels:
            lines += ["", f"Heaviest kernels, {name}:", "", "| ms | calls | kernel |", "|---|---|---|"]
            lines += [f"| {k['milliseconds']:.2f} | {k['calls']:.0f} | `{k['name'][:90]}` |" for k in kernels]
    return lines


RATES = {
    "throughput/tokens_per_sec": "tokens_per_second",
    "throughput/device/mfu": "mfu_of_989_tflops",
    "throughput/device/flops_per_sec": "flops_per_second",
    "memory/peak_allocated_mem": "peak_allocated_gb",
}


def summarize_run(lines: Iterable[str]) -> Report:
    """What the monitors of a run wrote to `metrics.jsonl`: medians of the rates at each length, losses, evaluations."""
    rates: dict[str, list[float]] = {}
    losses: list[float] = []
    found: Report = {"steps": 0}
    length = 0
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed
        found["steps"] = max(found["steps"], record.get("step", 0))
        length = record.get("data/seq_length", length)
        for key, value in record.items():
            if key in RATES:
                rates.setdefault(f"{RATES[key]}_{length}", []).append(value)
            elif key == "loss/train/total":
                losses.append(value)
            elif key.startswith("metrics/dev/") or key in ("time/token", "data/epochs", "data/words"):
                found[key] = value
    found |= {name: statistics.median(values) for name, values in rates.items()}
    if losses:
        found |= {"loss_first": losses[0], "loss_last": losses[-1]}
    return found


def run_lines(report: Report) -> list[str]:
    lines = [f"- {key}: {value:,.5g}" for key, value in result(report, "run").items()]
    for name, one in result(report, "run_pairs").get("sets", {}).items():
        accuracies = ", ".join(f"{key} {100 * value:.1f} %" for key, value in one["accuracy"].items() if value)
        lines.append(f"- {name}, {one['pairs']} pairs: {accuracies}")
    return lines


def state(report: Report) -> str:
    """How a command ended."""
    if report.get("timed_out"):
        return "timed out"
    return report.get("skipped") or f"status {report.get('status')}"


def load(path: Path) -> Report:
    """A result, or the newest in a folder."""
    if path.is_dir():
        found = sorted(
            (file for file in path.glob("*.json") if '"pieces"' in file.read_text()), key=lambda f: f.stat().st_mtime
        )
        if not found:
            sys.exit(f"no results in {path}")
        path = found[-1]
    return json.loads(path.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--before", type=Path, default=BEFORE)
    args = parser.parse_args()
    before, after = load(args.before), load(args.results)
    sections = {
        "Targets": target_table(before, after),
        "Steps": step_table(after),
        "Host, kernels, memory": detail_table(after),
        "Profile": profile_table(after),
        "Run": run_lines(after),
        "Pieces": [
            f"- {name}: {state(one)}, {one.get('seconds', 0)} s"
            for piece in after["pieces"].values()
            for name, one in piece.items()
        ],
    }
    print("; ".join(f"{key} {value}" for key, value in after["machine"].items()))
    for title, lines in sections.items():
        print(f"\n## {title}\n\n" + "\n".join(lines))


if __name__ == "__main__":
    main()

"""`make quickstart`: generates a toy language, prepares, trains, evaluates and exports, with real commands."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from elc_composer.callbacks.metrics_file import read_metrics
from elc_composer.common.addresses import refuse_addresses
from elc_composer.common.errors import ConfigError
from elc_composer.common.files import write_json
from elc_composer.common.json_files import read_json
from elc_composer.common.run_folder import CHECKPOINTS, METRICS
from elc_composer.figures.curves import draw_curves
from elc_composer.prepared.layout import MANIFEST

CONFIG = "yamls:quickstart"
NEXT = """next: prepare your own corpus, check a run with --dry-run, and start it:
  {bin}elc-prep build --corpus DIR --out data/mine --vocab-size 6144 --seq-length 128 512
  {bin}elc-train yamls:elc_strict_small data.streams.0.local=data/mine --dry-run
  {bin}elc-train yamls:elc_strict_small data.streams.0.local=data/mine"""
# One thread: on a model this small, a second thread costs more time than it saves, especially on a busy machine.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
PAIRS = 60
"""Minimal pairs of each paradigm."""
BLANK = "these {mask} have lifted the book ."


def main() -> None:
    """Generate a toy language, prepare it, train, evaluate, draw and export; everything goes into one folder."""
    parser = argparse.ArgumentParser(prog="python -m elc_composer.quickstart", description=main.__doc__)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/quickstart"),
        help="output folder; replaces an earlier quickstart",
    )
    parser.add_argument("--words", type=int, default=300_000, help="size of the toy corpus")
    parser.add_argument("--seed", type=int, default=0, help="seed of the toy language")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"replace a value of {CONFIG}")
    options = parser.parse_intermixed_args()
    try:
        refuse_addresses({"--out": options.out})
    except ConfigError as error:
        sys.exit(f"error: {error}")
    out: Path = options.out
    if out.exists() and any(out.iterdir()) and not (out / "toy").is_dir():
        sys.exit(f"error: {out} holds files that are not from a quickstart; name an empty folder with --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)

    say("1. a toy language with number agreement, reflexives and the like, in BabyLM's layout")
    toy = out / "toy"
    sizes = ["--seed", options.seed, "--words", options.words, "--pairs", PAIRS]
    run("-m", "streaming_prep.toy", "--out", toy, *sizes)
    paradigms = list(read_json(toy / "toy_language.json")["pairs"])

    say("2. raw text -> cleaned sentences -> tokenizer -> segments -> MDS shards")
    data = out / "data"
    build = ["-m", "streaming_prep", "build", "--corpus", toy / "corpus", "--out", data]
    run(*build, "--vocab-size", 1024, "--seq-length", 32, 64)
    entries = read_json(data / MANIFEST)["tokenizer"]["vocab_size"]

    say("3. train, scoring minimal pairs before, while and after")
    settings = {
        "model.vocab_size": entries,
        "run_folder": out,
        "data.streams.0.local": data,
        "evaluators.minimal_pairs.0.path": toy / "minimal_pairs",
    }
    started = time.monotonic()
    overrides = [f"{key}={value}" for key, value in settings.items()]
    run("-m", "elc_composer.launch_training", CONFIG, "-n", 1, *overrides, *options.overrides)
    train_seconds = time.monotonic() - started

    say("4. pictures, a report, and minimal pairs by paradigm")
    history = read_metrics(out / METRICS)
    pictures = draw(history, out)
    run("-m", "elc_composer.report", out)
    table = accuracies(history, paradigms)
    print(render(table))

    say("5. export to a transformers folder, load it back, fill a blank")
    exported = out / "export"
    run("-m", "elc_composer.export", out / CHECKPOINTS, exported)
    sentence, fillers = fill_blank(exported)
    print(f"{sentence}: {', '.join(fillers)}")

    summary = {
        "accuracy_before": table["overall"][0],
        "accuracy_after": table["overall"][1],
        "final_loss": history["loss/train/total"][-1][1],
        "final_dev_loss": history["metrics/dev/LanguageCrossEntropy"][-1][1],
        "train_seconds": round(train_seconds, 1),
        "accuracy_by_paradigm": table,
        "filled_blank": {"sentence": sentence, "fillers": fillers},
        "paths": {
            "run": str(out),
            "data": str(data),
            "minimal_pairs": str(toy / "minimal_pairs"),
            "checkpoints": str(out / CHECKPOINTS),
            "export": str(exported),
            "report": str(out / "report.html"),
            "pictures": [str(picture) for picture in pictures],
        },
    }
    write_json(out / "summary.json", summary, sort_keys=False)
    say("done")
    before, after = table["overall"]
    print(f"accuracy on held-out pairs {before:.3f} -> {after:.3f}, {train_seconds:.0f} s of training")
    print(
        f"in {out}: report.html, summary.json, {', '.join(picture.name for picture in pictures)}, checkpoints/, export/"
    )
    print(NEXT.format(bin=command_folder()))


def command_folder() -> str:
    """What to write before the name of a command: nothing where a shell finds it."""
    return "" if shutil.which("elc-train") else f"{os.path.relpath(Path(sys.executable).parent)}/"


def say(text: str) -> None:
    """A heading."""
    print(f"\n== {text}", flush=True)


def run(*command: object) -> None:
    """Print and run a command with this Python; a failure ends the quickstart with the command's exit code."""
    words = [str(word) for word in command]
    print(f"$ python {shlex.join(words)}", flush=True)
    done = subprocess.run([sys.executable, *words], env={**os.environ, **ENVIRONMENT}, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def draw(history: dict[str, list[tuple[int, float]]], out: Path) -> list[Path]:
    """Draw the loss curve; return it with the pictures that callbacks drew (accuracies, layer weights)."""
    loss = {name: history[name] for name in ("loss/train/total", "metrics/dev/LanguageCrossEntropy")}
    names = {"loss/train/total": "train", "metrics/dev/LanguageCrossEntropy": "dev"}
    drawn = [draw_curves(loss, out / "loss.png", "Masked-LM loss", "nats a masked token", labels=names, window=15)]
    return drawn + sorted(out.glob("minimal_pairs_*.png")) + sorted(out.glob("layer_weights*.png"))


def accuracies(history: dict[str, list[tuple[int, float]]], paradigms: list[str]) -> dict[str, tuple[float, float]]:
    """Accuracy before and after training, by paradigm and overall."""
    names = [*sorted(paradigms), "overall"]
    return {name: (points[0][1], points[-1][1]) for name in names if (points := history[f"metrics/toy/{name}"])}


def render(table: dict[str, tuple[float, float]]) -> str:
    """The accuracies as a table."""
    rows = [f"{name:<36}{before:>8.3f}{after:>8.3f}" for name, (before, after) in table.items()]
    return "\n".join([f"{'paradigm':<36}{'before':>8}{'after':>8}", *rows])


def fill_blank(folder: Path) -> tuple[str, list[str]]:
    """A sentence with a [MASK], and the five most probable words for it under the exported model."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # trust_remote_code: this process wrote the folder, so its code is this project's own.
    model: Any = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True).eval()
    sentence = BLANK.format(mask=tokenizer.mask_token)
    inputs = tokenizer(sentence, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0]
    (position,) = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0].tolist()
    return sentence, [tokenizer.decode([token]).strip() for token in logits[position].topk(5).indices.tolist()]


if __name__ == "__main__":
    main()

"""Cost of each monitor at its default intervals: CPU time of a training step with and without it.

    python -m benchmarks.callbacks [--steps 1000] [--rounds 3] [--out benchmarks/results/callbacks.json]

One process, one thread, a small model (its steps are short, so that the cost shows). In every round, a run of `--steps`
batches without monitors is followed by one with each monitor. Two figures for a monitor: `ratio`, its runs divided by
those without (the median over the rounds, beside all values; includes noise of the machine), and `inside`, the time in
the monitor's own events and hooks between the first and the last batch as a share of the step (exact). CPU time is
measured, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from composer import Callback, ComposerModel, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.machine import describe_machine
from elc_composer.callbacks import LayerWeightMonitor, MetricsFile, MixedInputMonitor, WeightDistributionMonitor
from elc_composer.callbacks.measuring.probes import Probe
from elc_composer.model import ElcConfig, ElcForMaskedLM

VOCABULARY, LENGTH, BATCH, LAYERS = 2048, 64, 4, 6
MONITORS: dict[str, type[Callback]] = {
    "layer_weight_monitor": LayerWeightMonitor,
    "weight_distribution_monitor": WeightDistributionMonitor,
    "mixed_input_monitor": MixedInputMonitor,
}


class Model(ComposerModel):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = ElcForMaskedLM(
            ElcConfig(
                layer_mixing="zero",
                vocab_size=VOCABULARY,
                hidden_size=128,
                intermediate_size=320,
                num_hidden_layers=LAYERS,
                num_attention_heads=4,
                max_position_embeddings=LENGTH,
                position_bucket_size=16,
            )
        )

    def forward(self, batch: dict[str, Tensor]) -> Any:
        return self.model(**batch)

    def loss(self, outputs: Any, batch: dict[str, Tensor]) -> Tensor:
        return outputs.loss


class Stopwatch:
    """CPU seconds spent in a monitor's events and hooks, apart from the start and end of the run."""

    def __init__(self, callback: Callback | None) -> None:
        self.seconds = 0.0
        self.running = False
        if callback is not None:
            callback.run_event = self.timed(callback.run_event, skip=("fit_start", "fit_end", "close"))  # type: ignore

    def timed(self, function: Any, skip: tuple[str, ...] = ()) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            counts = not (args and getattr(args[0], "value", None) in skip)
            start = time.process_time()
            result = function(*args, **kwargs)
            self.seconds += (time.process_time() - start) * counts
            return result

        return call


class Ticks(Callback):
    """CPU time at every batch's start, without what happens before the first and after the last."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def batch_start(self, state: Any, logger: Any) -> None:
        self.at.append(time.process_time())


def run(name: str | None, steps: int, folder: Path) -> dict[str, float]:
    folder.mkdir()
    model, ticks = Model(), Ticks()
    callback = MONITORS[name](folder=str(folder)) if name else None  # type: ignore[call-arg]
    watch = Stopwatch(callback)
    hooks = Probe._read_arguments, Probe._read_output
    Probe._read_arguments, Probe._read_output = map(watch.timed, hooks)  # type: ignore[method-assign]
    ids = torch.randint(7, VOCABULARY, (BATCH * 50, LENGTH))
    mask = torch.ones(LENGTH, dtype=torch.bool)
    data = DataLoader([{"input_ids": i, "labels": i, "attention_mask": mask} for i in ids], batch_size=BATCH)  # type: ignore
    trainer = Trainer(
        model=model,
        train_dataloader=data,
        optimizers=torch.optim.AdamW(model.parameters(), lr=1e-3),
        max_duration=f"{steps + 1}ba",
        callbacks=[ticks, *([callback] if callback else [])],
        loggers=[MetricsFile(str(folder / "metrics.jsonl"))],
        progress_bar=False,
    )
    trainer.fit()
    trainer.close()
    Probe._read_arguments, Probe._read_output = hooks  # type: ignore[method-assign]
    each = (ticks.at[-1] - ticks.at[0]) / (len(ticks.at) - 1)
    return {"step_ms": 1000 * each, "inside": watch.seconds / steps / each}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="at least 1000, so that a picture is among them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "callbacks.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run(None, 20, Path(folder) / "warm-up")
        rounds = [
            {name: run(name, args.steps, Path(folder) / f"{number}-{name}") for name in (None, *MONITORS)}
            for number in range(args.rounds)
        ]
    plain = median(each[None]["step_ms"] for each in rounds)
    found = {}
    for name in MONITORS:
        ratios = [each[name]["step_ms"] / each[None]["step_ms"] for each in rounds]
        inside = median(each[name]["inside"] for each in rounds)
        found[name] = {
            "step_ms": round(median(each[name]["step_ms"] for each in rounds), 3),
            "ratio": round(median(ratios), 4),
            "ratios": [round(ratio, 4) for ratio in ratios],
            "inside": round(inside, 5),
        }
        print(f"{name:30} step x {median(ratios):.4f}, inside {inside:.2%} of {plain:.2f} ms", flush=True)
    parameters = sum(parameter.numel() for parameter in Model().parameters())
    report = {
        "machine": describe_machine(),
        "threads_used": 1,
        "load_average_1min": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "model": {"layers": LAYERS, "parameters": parameters, "batch": [BATCH, LENGTH]},
        "steps": args.steps,
        "rounds": args.rounds,
        "step_ms_without_monitors": round(plain, 3),
        "monitors": found,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

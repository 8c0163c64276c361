"""MetricsFile: one line a step, whatever comes when; a resumed run's file is the undisturbed run's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elc_composer.callbacks import MetricsFile
from elc_composer.callbacks.metrics_file import number, read_metrics
from tests.callbacks.toys import ToyElc, batches, trainer


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(path: Path, steps: int, **changes: Any) -> None:
    settings = {"max_duration": f"{steps}ba", "eval_interval": "2ba", "loggers": [MetricsFile(str(path))]}
    done = trainer(ToyElc(), [], steps=6, eval_dataloader=batches(1), **{**settings, **changes})
    done.fit()
    done.close()


def losses(path: Path) -> list[float]:
    return [line["loss/train/total"] for line in lines(path) if "loss/train/total" in line]


def test_one_line_a_step(tmp_path: Path) -> None:
    path = tmp_path / "a" / "metrics.jsonl"
    run(path, 6)
    found = lines(path)
    assert [line["step"] for line in found] == list(range(7))
    assert len(losses(path)) == 6
    assert read_metrics(path)["loss/train/total"] == [(i, found[i]["loss/train/total"]) for i in range(6)]


@pytest.mark.parametrize("stopped_at", [4, 5])
def test_resuming_drops_what_lies_beyond_the_checkpoint(stopped_at: int, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    run(whole, 6)
    run(parts, stopped_at, save_folder=str(tmp_path / "checkpoints"), save_interval="2ba")
    run(parts, 6, load_path=str(tmp_path / "checkpoints" / "ep0-ba4-rank0.pt"))
    assert [line["step"] for line in lines(parts)] == list(range(7))
    assert losses(parts) == losses(whole)


def test_a_new_run_starts_an_empty_file_and_a_torn_line_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "old": 1}\n{"step": 90, "old": 2}\n{"step": 91, "o')
    run(path, 1)
    assert [line["step"] for line in lines(path)] == [0, 1]
    assert all("old" not in line for line in lines(path))


def test_a_torn_line_goes_when_resuming(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    run(path, 4, save_folder=str(tmp_path / "checkpoints"), save_interval="2ba")
    with path.open("a") as file:
        file.write('{"step": 5, "loss')
    run(path, 6, load_path=str(tmp_path / "checkpoints" / "ep0-ba4-rank0.pt"))
    assert [line["step"] for line in lines(path)] == list(range(7))


def test_a_new_run_that_evaluates_before_training_starts_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    run(path, 4)
    again = trainer(ToyElc(), [], steps=6, max_duration="2ba", loggers=[MetricsFile(str(path))])
    again.eval(eval_dataloader=batches(1))
    again.logger.log_metrics({"before": 0.5})
    again.fit()
    again.close()
    assert [line["step"] for line in lines(path)] == [0, 1, 2]
    assert lines(path)[0]["before"] == 0.5


def test_a_resumed_run_that_evaluates_before_training_cuts_its_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    run(path, 5, save_folder=str(tmp_path / "checkpoints"), save_interval="2ba")
    (old,) = [line for line in lines(path) if line["step"] == 4]
    checkpoint = str(tmp_path / "checkpoints" / "ep0-ba4-rank0.pt")
    again = trainer(ToyElc(), [], steps=6, loggers=[MetricsFile(str(path))], load_path=checkpoint)
    again.eval(eval_dataloader=batches(1))
    again.logger.log_metrics({"extra": 0.5})
    again.fit()
    again.close()
    assert [line["step"] for line in lines(path)] == list(range(7))
    assert lines(path)[4].items() >= {"extra": 0.5, "loss/train/total": old["loss/train/total"]}.items()


def test_garbled_lines_are_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    run(path, 4, save_folder=str(tmp_path / "checkpoints"), save_interval="2ba")
    with path.open("ab") as file:
        file.write(b'\xff\x00\n[1]\n7\n{"no": "step"}\n')
    assert [step for step, _ in read_metrics(path)["loss/train/total"]] == list(range(4))
    run(path, 6, load_path=str(tmp_path / "checkpoints" / "ep0-ba4-rank0.pt"))
    assert [line["step"] for line in lines(path)] == list(range(7))


def test_an_evaluation_alone_cuts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    run(path, 4)
    before = path.read_text()
    alone = trainer(ToyElc(), [], loggers=[MetricsFile(str(path))])
    alone.eval(eval_dataloader=batches(1))
    alone.logger.log_metrics({"extra": 1.0})
    alone.close()
    assert path.read_text().startswith(before)
    assert lines(path)[-1] == {"step": 0, "extra": 1.0}


def test_placeholders(tmp_path: Path) -> None:
    run(tmp_path / "{run_name}" / "metrics.jsonl", 1)
    assert (tmp_path / "toy" / "metrics.jsonl").exists()


def test_a_disk_that_cannot_be_written_costs_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="the run continues without") as caught:
        run(tmp_path / "file" / "metrics.jsonl", 3)
    assert len([w for w in caught if "continues without" in str(w.message)]) == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        (0.5, 0.5),
        ("text", "text"),
        (torch.tensor(2.0), 2.0),
        (torch.tensor([3]), 3),
        (np.float32(0.5), 0.5),
        (math.nan, None),
        (torch.tensor(math.inf), None),
        (torch.zeros(2), None),
        (np.zeros(2), None),
        (object(), None),
    ],
)
def test_values(value: Any, expected: Any) -> None:
    assert number(value) == expected

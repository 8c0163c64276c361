"""Masked accuracy, sequence length and epochs of every training step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from composer import DataSpec
from composer.loggers import InMemoryLogger
from torch import Tensor
from torch.utils.data import DataLoader

from elc_composer.callbacks import MetricsFile, StepMetrics
from elc_composer.data.loader import count_tokens
from elc_composer.data.masking import MaskingConfig
from elc_composer.data.positions import LabelPositions
from elc_composer.training.composer_model import ElcComposerModel
from tests.callbacks.toys import BATCH, LENGTH, ToyElc, batches, logged, trainer

ACCURACY = "metrics/train/MaskedAccuracy"


def expected_accuracy(model: Any, batch: dict[str, Tensor]) -> float:
    with torch.no_grad():
        predicted = model(batch["input_ids"], batch["attention_mask"]).logits.argmax(-1)
    labelled = batch["labels"] != -100
    return float((predicted == batch["labels"])[labelled].double().mean())


def uneven_batch(labelled: int = 5) -> dict[str, Tensor]:
    """Row i has labels at `labelled` + i positions, the most likely token at half of them: no two rows weigh alike."""
    (batch,) = batches(1)
    model = ToyElc().model
    with torch.no_grad():
        predicted = model(batch["input_ids"], batch["attention_mask"]).logits.argmax(-1)
    labels = torch.full_like(batch["labels"], -100)
    for row in range(BATCH):
        count = min(labelled + row, LENGTH - 2) if labelled else 0
        labels[row, :count] = batch["labels"][row, :count]
        labels[row, : (count * row) // BATCH] = predicted[row, : (count * row) // BATCH]
    return {**batch, "labels": labels}


class Repeated(torch.utils.data.Dataset):
    """The rows of a batch, `times` times."""

    def __init__(self, batch: dict[str, Tensor], times: int) -> None:
        self.batch, self.times = batch, times

    def __len__(self) -> int:
        return BATCH * self.times

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {key: value[index % BATCH] for key, value in self.batch.items()}


def frozen_run(batch: dict[str, Tensor], steps: int = 3, **changes: Any) -> tuple[Any, list[float]]:
    """Train with learning rate 0 on equal batches; the accuracy of each step."""
    toy = ToyElc()
    model = ElcComposerModel(toy.model)
    spec = DataSpec(
        DataLoader(Repeated(batch, steps), BATCH),
        split_batch=LabelPositions(MaskingConfig()),
        get_num_tokens_in_batch=count_tokens,
    )
    settings = {"train_dataloader": spec, "accumulate_train_batch_on_tokens": True, **changes}
    run = trainer(model, [StepMetrics()], steps, torch.optim.SGD(model.parameters(), lr=0.0), **settings)
    run.fit()
    found = logged(run, ACCURACY).get(ACCURACY, {})
    run.close()
    return run, list(found.values())


@pytest.mark.parametrize("microbatch", [8, 3, 1])
def test_accuracy_is_that_of_all_labels_of_the_step(microbatch: int) -> None:
    batch = uneven_batch()
    expected = expected_accuracy(ToyElc().model, batch)
    assert 0.2 < expected < 0.8
    found = frozen_run(batch, device_train_microbatch_size=microbatch)[1]
    assert found == pytest.approx([expected] * 3, abs=1e-12)


def test_accuracy_for_logits_of_all_positions() -> None:
    """A model without `masked_positions`, on batches that hold none."""
    run = trainer(ToyElc(), [StepMetrics()], steps=2, optimizer=None, device_train_microbatch_size=4)
    expected = expected_accuracy(ToyElc().model, next(iter(batches(2))))
    run.fit()
    assert logged(run, ACCURACY)[ACCURACY][1] == pytest.approx(expected)
    run.close()


def test_no_accuracy_is_logged_for_a_batch_without_labels() -> None:
    run, found = frozen_run(uneven_batch(labelled=0))
    assert found == []
    memory = next(each for each in run.logger.destinations if isinstance(each, InMemoryLogger))
    assert len(memory.data["data/seq_length"]) == 3


def test_figures_stand_in_the_line_of_the_loss(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    run = trainer(ToyElc(), [StepMetrics()], steps=4, loggers=[MetricsFile(str(path)), InMemoryLogger()])
    run.fit()
    run.close()
    lines = {line["step"]: line for line in map(json.loads, path.read_text().splitlines())}
    assert [line["data/seq_length"] for step, line in lines.items() if step < 4] == [LENGTH] * 4
    for step in range(4):
        assert {"loss/train/total", ACCURACY} <= lines[step].keys()
        assert lines[step]["data/epochs"] == pytest.approx((step + 1) / 4)


def test_epochs_continue_after_a_resumption(tmp_path: Path) -> None:
    settings = {"train_dataloader": batches(4), "save_folder": str(tmp_path), "save_interval": "3ba"}
    run = trainer(ToyElc(), [StepMetrics()], **{**settings, "steps": 3})
    run.fit()
    run.close()
    settings = {"train_dataloader": batches(4), "load_path": str(tmp_path / "latest-rank0.pt")}
    for callback in (StepMetrics(), _without_state(StepMetrics())):
        run = trainer(ToyElc(), [callback], **{**settings, "steps": 6})
        run.fit()
        assert list(logged(run, "data/epochs")["data/epochs"].values()) == pytest.approx([1.0, 1.25, 1.5])
        run.close()


def _without_state(callback: StepMetrics) -> StepMetrics:
    """The callback as it is after the checkpoint of a version that did not have it."""
    callback.load_state_dict = lambda state: None  # type: ignore[method-assign]
    return callback


def test_counts_are_not_read_from_the_device_before_composer_has_read_the_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the meta device nothing can be read: until the end of the batch the callback must not try."""
    # Gloo has no collectives on meta; another test may have joined a process group.
    monkeypatch.setattr("composer.utils.dist.all_reduce", lambda counts: None)

    class Outputs:
        logits = torch.empty(4, 50, device="meta")

    class State:
        outputs = Outputs()
        batch = {  # noqa: RUF012
            "labels": torch.empty(2, LENGTH, dtype=torch.int64, device="meta"),
            "masked_positions": torch.empty(4, dtype=torch.int64, device="meta"),
        }

    callback: Any = StepMetrics()
    callback.before_train_batch(State, None)
    for _ in range(2):
        callback.after_loss(State, None)
    callback.after_train_batch(State, None)
    with pytest.raises(NotImplementedError):
        callback._counts.tolist()

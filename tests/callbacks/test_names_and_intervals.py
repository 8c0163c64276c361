"""Helpers of the monitors: labels, units, samples, intervals."""

from __future__ import annotations

import pytest
import torch
from composer.core import State, Time, Timestamp
from torch import nn

from elc_composer.callbacks.measuring.sampling import spread
from elc_composer.common.errors import ConfigError
from elc_composer.common.intervals import Interval
from elc_composer.common.module_names import clean_name, layer_labels, units


def test_wrapper_prefixes_are_removed_from_names() -> None:
    name = "_fsdp_wrapped_module.model._orig_mod.layers.3._fsdp_wrapped_module._checkpoint_wrapped_module.mix"
    assert clean_name(name, nn.Linear(1, 1)) == "model.layers.3.mix"
    assert clean_name("module.mix", nn.Linear(1, 1)) == "module.mix", "somebody's own module of that name"


def test_labels_count_layers_from_one_in_order() -> None:
    names = ["m.mix", "m.layers.10.mix", "m.layers.2.mix"]
    assert list(layer_labels(names).items()) == [("m.layers.2.mix", "3"), ("m.layers.10.mix", "11"), ("m.mix", "head")]


def test_clashing_labels_stay_names() -> None:
    names = ["encoder.0.mix", "decoder.0.mix", "decoder.1.mix"]
    assert layer_labels(names) == {
        "decoder.1.mix": "2",
        "encoder.0.mix": "encoder.0.mix",
        "decoder.0.mix": "decoder.0.mix",
    }


def test_units() -> None:
    names = ["m.embedding.weight", "m.body.layers.0.a.weight", "m.body.layers.0.b.1.weight", "m.body.norm"]
    assert list(units(names).values()) == ["embedding", "body.layers.0", "body.layers.0", "body"]
    assert units(["module.0.weight", "module.2.weight"]) == {"module.0.weight": "0", "module.2.weight": "2"}
    assert units(["weight", "bias"]) == {"weight": "weight", "bias": "bias"}
    assert units([]) == {}


@pytest.mark.parametrize(
    ("numel", "count"), [(10, 4), (768 * 1000, 1024), (7, 7), (3, 10), (1, 1), (0, 4), (2**20, 512)]
)
def test_samples_are_different_places_in_order(numel: int, count: int) -> None:
    chosen = spread(numel, count)
    assert len(chosen) == min(numel, count)
    assert torch.equal(chosen, chosen.unique())
    assert not len(chosen) or (chosen[0] >= 0 and chosen[-1] < numel)


def test_samples_favour_no_column_of_a_matrix() -> None:
    columns = spread(16384 * 768, 3072) % 768
    # a stride of numel / count would see one column only
    assert torch.bincount(columns, minlength=768).max() <= 20
    assert len(columns.unique()) > 700


def state_at(batch: int, epoch: int = 0, max_duration: str = "100ba", batch_in_epoch: int = 0) -> State:
    state = State.__new__(State)
    time = Timestamp(batch=batch, epoch=epoch, sample=8 * batch, batch_in_epoch=batch_in_epoch)
    state._timestamp = state.timestamp = time  # type: ignore[misc]
    state._max_duration = Time.from_timestring(max_duration)
    return state


@pytest.mark.parametrize(
    ("text", "due"),
    [("3ba", [3, 6, 9, 12]), ("20sp", [3, 5, 8, 10]), ("0.05dur", [5, 10])],
)
def test_each_multiple_counts_once(text: str, due: list[int]) -> None:
    interval = Interval(text, "x")
    interval.restart(state_at(0))
    assert [batch for batch in range(1, 13) if interval.passed(state_at(batch))] == due


def test_restarting_forgets_what_was_passed_before() -> None:
    interval = Interval("5ba", "x")
    interval.restart(state_at(12))
    assert [batch for batch in range(13, 21) if interval.passed(state_at(batch))] == [15, 20]


@pytest.mark.parametrize(("text", "due"), [("4ba", [0, 3, 7, 11]), ("24sp", [0, 3, 6, 9])])
def test_batches_to_watch(text: str, due: list[int]) -> None:
    interval = Interval(text, "x")
    interval.restart(state_at(0))
    assert [batch for batch in range(12) if interval.wants_batch(state_at(batch))] == due


@pytest.mark.parametrize("text", ["4ba", "24sp", "20sp", "1ep", "2ep", "0.03dur", "0.05dur"])
@pytest.mark.parametrize("max_duration", ["100ba", "800sp", "20ep"])
def test_resumed_run_measures_the_same_batches(text: str, max_duration: str) -> None:
    def watched(first: int) -> list[int]:
        interval = Interval(text, "x")
        states = [state_at(batch, batch // 5, max_duration, batch % 5) for batch in range(first, 40)]
        interval.restart(states[0], before=True)
        return [int(state.timestamp.batch) for state in states if interval.wants_batch(state)]

    undisturbed = watched(0)
    assert len(undisturbed) > 3
    for first in range(1, 40):
        assert watched(first) == [batch for batch in undisturbed if batch >= first], first


@pytest.mark.parametrize("text", ["", "ten", "0ba", "-3ep", "5", "1iter"])
def test_bad_intervals(text: str) -> None:
    with pytest.raises(ConfigError, match=r"monitor\.interval"):
        Interval(text, "monitor.interval")

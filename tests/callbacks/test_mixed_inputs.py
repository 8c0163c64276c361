"""MixedInputMonitor: norms are those of the states that the model returns, mixed by hand; hooks come and go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from composer import Callback, ComposerModel
from torch import Tensor, nn

from elc_composer.callbacks import MixedInputMonitor
from elc_composer.callbacks.measuring.probes import Probe
from tests.callbacks.toys import LAYERS, ToyElc, batches, logged, trainer


def by_hand(model: ToyElc, batch: dict[str, Tensor]) -> dict[str, float]:
    """Norms from the states and weights, for real tokens; the head's where it reads."""
    with torch.no_grad():
        states = model.model(**batch, output_hidden_states=True).hidden_states
    found = {}
    named = dict(model.model.named_parameters())
    for label, name in {
        **{f"layer_{i + 1}": f"transformer.layers.{i}.prev_layer_weights" for i in range(LAYERS)},
        "head": "transformer.prev_layer_weights",
    }.items():
        mask = model.read(batch) if label == "head" else batch["attention_mask"]
        shares = torch.softmax(named[name].detach(), 0)
        parts = [share * state for share, state in zip(shares, states)]
        norms = [part.norm(dim=-1)[mask].mean().item() for part in parts]
        found[f"mixed_input/{label}/norm"] = sum(parts).norm(dim=-1)[mask].mean().item()
        found.update({f"mixed_input/{label}/from_{i}": norm for i, norm in enumerate(norms)})
        found.update({f"mixed_input/{label}/share_{i}": norm / sum(norms) for i, norm in enumerate(norms)})
    return found


class Spy(Callback):
    """Computes what is expected before each batch changes the weights."""

    def __init__(self) -> None:
        self.expected: dict[int, dict[str, float]] = {}

    def batch_start(self, state, logger) -> None:
        module = getattr(state.model, "module", state.model)
        self.expected[int(state.timestamp.batch) + 1] = by_hand(module, state.batch)


class PickyElc(ToyElc):
    """Its head reads every fifth position, the padded ones among them."""

    def read(self, batch: dict[str, Tensor]) -> Tensor:
        ids = batch["input_ids"]
        return batch["attention_mask"] & (torch.arange(ids.numel()) % 5 == 0).view(ids.shape)

    def forward(self, batch: dict[str, Tensor]) -> Any:
        return self.model(**batch, masked_positions=torch.arange(0, batch["input_ids"].numel(), 5))


@pytest.mark.parametrize(
    ("model", "changes"),
    [(ToyElc, {}), (ToyElc, {"device_train_microbatch_size": 2}), (PickyElc, {})],
    ids=["whole", "microbatches", "some_positions"],
)
def test_norms_are_those_of_the_states(model: type[ToyElc], changes: dict[str, Any], tmp_path: Path) -> None:
    spy, monitor = Spy(), MixedInputMonitor(interval="2ba", folder=str(tmp_path))
    run = trainer(model(), [spy, monitor], steps=4, **changes)
    run.fit()
    found = logged(run, "mixed_input/")
    for step in (1, 2, 4):
        assert {name: points[step] for name, points in found.items()} == pytest.approx(spy.expected[step], rel=1e-5)
    assert set(found["mixed_input/head/norm"]) == {1, 2, 4}
    assert (tmp_path / "mixed_inputs.png").stat().st_size > 0
    assert len((tmp_path / "mixed_inputs.jsonl").read_text().splitlines()) == 3


def test_a_compiled_model_is_measured_after_it_was_compiled() -> None:
    # the first batch compiles, the second is measured: compiled code calls no hooks that came later
    plain, compiled = (
        trainer(ToyElc(), [MixedInputMonitor(interval="2ba", folder=None)], steps=4, compile_config=config)
        for config in (None, {"backend": "eager"})
    )
    plain.fit()
    compiled.fit()
    expected = logged(plain, "mixed_input/")
    found = logged(compiled, "mixed_input/")
    assert set(found["mixed_input/head/norm"]) == {1, 2, 4}
    for name, points in expected.items():
        assert found[name] == pytest.approx(points, rel=1e-4)


class CheckpointedElc(ToyElc):
    """Recomputes every layer in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

        layers = self.model.transformer.layers
        for index, layer in enumerate(layers):
            layers[index] = checkpoint_wrapper(layer)


def test_activation_checkpointing_changes_nothing() -> None:
    runs = [
        trainer(m, [MixedInputMonitor(interval="1ba", folder=None)], steps=2) for m in (ToyElc(), CheckpointedElc())
    ]
    for run in runs:
        run.fit()
    plain, checkpointed = (logged(run, "mixed_input/") for run in runs)
    assert set(plain) == set(checkpointed)
    for name, points in plain.items():
        assert checkpointed[name] == pytest.approx(points, rel=1e-6)


def test_hooks_are_there_only_while_measuring() -> None:
    hooks = []

    class Look(Callback):
        def before_loss(self, state, logger) -> None:
            hooks.append(0)

        def after_forward(self, state, logger) -> None:
            layers = state.model.model.transformer.layers
            hooks.append(sum(len(layer._forward_pre_hooks) + len(layer._forward_hooks) for layer in layers))

    monitor = MixedInputMonitor(interval="3ba", folder=None)
    seen = []

    class Count(ToyElc):
        def forward(self, batch):
            layers = self.model.transformer.layers
            seen.append(sum(len(layer._forward_pre_hooks) for layer in layers))
            return super().forward(batch)

    trainer(Count(), [monitor, Look()], steps=4).fit()
    assert seen == [LAYERS, 0, LAYERS, 0]
    assert not any(hooks), "recomputed layers would be counted again"


class Returns(nn.Module):
    """Mixes the states that it returns; the lengths that it takes are no positions."""

    def __init__(self) -> None:
        super().__init__()
        self.prev_layer_weights = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return x, x + 1


def test_integers_that_are_not_called_positions_are_none() -> None:
    module, x = Returns(), torch.randn(2, 5, 3)
    probe = Probe(module, "prev_layer_weights")
    probe.attach(None)
    module(x, torch.tensor([3, 5]))
    assert probe.sums is not None
    assert probe.sums[-1] == 10
    assert probe.sums[0] == pytest.approx((x + 0.5).norm(dim=-1).sum().item())


class NoList(ComposerModel):
    """Has such a parameter, and mixes out of sight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 4)
        self.prev_layer_weights = nn.Parameter(torch.zeros(2))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        x = self.embed(batch["input_ids"])
        return self.prev_layer_weights.softmax(0)[0] * x

    def loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return outputs.square().mean()


@pytest.mark.parametrize(
    ("model", "message"),
    [(NoList, "neither receive nor return a list"), (lambda: ToyElc("ltg"), "no parameter matches")],
)
def test_models_in_which_nothing_is_seen_get_one_warning(model: Any, message: str) -> None:
    run = trainer(model(), [MixedInputMonitor(interval="1ba", folder=None)], steps=3)
    with pytest.warns(UserWarning, match=message) as caught:
        run.fit()
    assert len([w for w in caught if "MixedInputMonitor" in str(w.message)]) == 1
    assert not logged(run, "mixed_input/")


def test_a_batch_tried_again_after_running_out_of_memory_counts_once() -> None:
    monitor = MixedInputMonitor(interval="1ba", folder=None)
    run = trainer(ToyElc(), [monitor], steps=1)
    monitor.fit_start(run.state, run.logger)
    monitor.batch_start(run.state, run.logger)
    run.state.batch = next(iter(batches(1)))
    for _ in range(2):
        monitor.before_train_batch(run.state, run.logger)
        monitor.before_forward(run.state, run.logger)
        run.state.model(run.state.batch)
    monitor.after_forward(run.state, run.logger)
    sums = monitor._probes["head"].sums
    assert sums[-1] == run.state.batch["attention_mask"].sum()

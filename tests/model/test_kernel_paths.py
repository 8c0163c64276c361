"""Whole models under `kernels: torch` against `eager`: all variants, autocast, recomputed layers, frozen parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointImpl, checkpoint_wrapper
from transformers.dynamic_module_utils import get_relative_imports

from elc_composer.model import MIXING_RULES, ElcForMaskedLM, modeling_elc
from elc_composer.model.kernels import kernels_refusal, resolve_kernels
from tests.model.small_models import batch, build


def with_positions() -> dict[str, Tensor]:
    """The batch with the positions of its labels and two others, one of them padding."""
    given = batch()
    labelled = given["labels"].flatten() != -100
    others = (~labelled).nonzero().flatten()[[0, -1]]
    return {**given, "masked_positions": torch.cat([labelled.nonzero().flatten(), others])}


def gradients(
    model: ElcForMaskedLM, autocast: bool = False, given: Callable[[], dict[str, Tensor]] = batch
) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(**given()).loss
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def largest_error(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert set(actual) == set(expected)
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    return max(float((actual[name] - expected[name]).abs().max()) for name in expected) / scale


both = pytest.mark.parametrize("given", [batch, with_positions], ids=["everywhere", "positions"])


@both
@pytest.mark.parametrize("variant", MIXING_RULES)
def test_gradients_are_those_of_the_plain_form(variant: str, given: Callable[[], dict[str, Tensor]]) -> None:
    models = [build(variant, kernels).double() for kernels in ("torch", "eager")]
    assert largest_error(*(gradients(model, given=given) for model in models)) <= 1e-13


@both
@pytest.mark.parametrize("variant", ["zero", "weighted_output"])
def test_autocast_costs_no_more_digits_than_in_the_plain_form(
    variant: str, given: Callable[[], dict[str, Tensor]]
) -> None:
    exact = gradients(build(variant, "eager"))
    ours, plain = (largest_error(gradients(build(variant, k), True, given), exact) for k in ("torch", "eager"))
    assert 0 < plain <= 3e-2
    assert ours <= 2 * plain


@pytest.mark.parametrize("variant", MIXING_RULES)
def test_the_last_layer_ends_where_the_head_reads(variant: str) -> None:
    model, given = build(variant, "torch").double(), with_positions()
    seen = []
    model.transformer.layers[-1].mlp.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    short = model(**given).logits
    whole = model(**given, output_hidden_states=True)
    assert seen == [(len(given["masked_positions"]), 24), (3, 37, 24)]
    assert (short - whole.logits).abs().max() <= 1e-13
    assert all(state.shape == (3, 37, 24) for state in whole.hidden_states)


@both
@pytest.mark.parametrize("variant", ["base", "weighted_output"])
def test_recomputed_layers_have_the_same_gradients(variant: str, given: Callable[[], dict[str, Tensor]]) -> None:
    """With dropout: what is recomputed drops the same elements."""
    kept, recomputed = build(variant, "torch", 0.2), build(variant, "torch", 0.2)
    layers = recomputed.transformer.layers
    for number, layer in enumerate(layers):
        layers[number] = checkpoint_wrapper(layer, CheckpointImpl.NO_REENTRANT)
    again = gradients(recomputed, given=given)
    found = {name.replace("_checkpoint_wrapped_module.", ""): g for name, g in again.items()}
    assert largest_error(found, gradients(kept, given=given)) == 0.0


def test_gradients_of_returned_states_arrive() -> None:
    results = []
    for kernels in ("torch", "eager"):
        model = build("zero", kernels).double()
        output = model(**batch(), output_hidden_states=True)
        sum((state * state.detach().roll(1, -1)).sum() for state in output.hidden_states[1:-1]).backward()
        results.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert largest_error(*results) <= 1e-12


@pytest.mark.parametrize("frozen", ["embedding", "transformer.layers.1", "prev_layer_weights"])
def test_frozen_parts_change_no_other_gradient(frozen: str) -> None:
    results = []
    for kernels in ("torch", "eager"):
        model = build("base", kernels).double()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(frozen not in name)
        results.append(gradients(model))
    assert not any(frozen in name for name in results[0])
    assert largest_error(*results) <= 1e-13


@pytest.mark.parametrize(("module", "unused"), [("modeling_elc", {"task_models"}), ("task_models", set())])
def test_transformers_finds_every_file_of_an_exported_model(module: str, unused: set[str]) -> None:
    """It copies the files that the model's own one names, not those that these name in turn."""
    folder = Path(modeling_elc.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", module} - unused
    assert set(get_relative_imports(folder / f"{module}.py")) == files


def test_which_kernels_run_where() -> None:
    tensor = torch.zeros(1)
    assert resolve_kernels("auto", tensor) == "torch"
    assert resolve_kernels("eager", tensor) == "eager"
    assert kernels_refusal("auto", "cpu") is None
    assert kernels_refusal("triton", "cuda") is None
    assert "set kernels=auto" in (kernels_refusal("triton", "cpu") or "")

"""Which kernels compiled and exported graphs hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.model.kernels import is_exporting, resolve_kernels


class Asking(nn.Module):
    """Adds 1 where an export is assumed, and 2 where Triton's kernels would run."""

    def forward(self, x: Tensor) -> Tensor:
        return x + int(is_exporting()) + 2 * int(resolve_kernels("triton", x) == "triton")


def test_a_compiled_graph_is_not_an_exported_one() -> None:
    x = torch.zeros(())
    assert torch.compile(Asking(), backend="eager", fullgraph=True)(x) == 2
    assert torch.export.export(Asking(), (x,), strict=False).module()(x) == 1


class Recorded(Exception):
    """A graph was compiled, and is not to be run."""


def test_compiled_layers_call_the_attention_kernels() -> None:
    """As on a GPU, where a graph without the operator would fall back to many times slower look-ups."""
    pytest.importorskip("triton", "3.3")
    operators: list[str] = []

    def record(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., None]:
        operators.extend(str(node.target) for node in graph.graph.nodes if node.op in ("call_function", "call_method"))

        def stop(*_: Any) -> None:
            raise Recorded

        return stop

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = ElcForMaskedLM(ElcConfig(vocab_size=50, kernels="triton", layer_mixing="ltg", **sizes)).train()
    model.compile_layers(record)
    with pytest.raises(Recorded):
        model(torch.zeros(2, 16, dtype=torch.int64), torch.ones(2, 16, dtype=torch.bool))
    assert any(name.endswith("attention.default") or name.endswith(".attention") for name in operators), operators
    assert "gather" not in operators

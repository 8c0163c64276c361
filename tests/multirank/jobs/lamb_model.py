"""A small model for the optimizer's launched jobs: tied embedding, odd sizes, parameters smaller than the world."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WORDS, SIZE, LENGTH = 11, 6, 5


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(SIZE)
        self.inner = nn.Linear(SIZE, 7)
        self.outer = nn.Linear(7, SIZE, bias=False)
        # Decays although it is small: where one rank holds all of it, the others still meet its norm.
        self.gain = nn.Parameter(torch.ones(1))
        self.prev_layer_weights = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.prev_layer_weights.softmax(0)
        return weights[0] * x + weights[1] * self.gain * self.outer(F.gelu(self.inner(self.norm(x)))) + weights[2]


class Words(nn.Module):
    """Token ids [B, T] -> logits [B, T, WORDS]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(17)
        self.words = nn.Embedding(WORDS, SIZE)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(SIZE, WORDS)
        self.head.weight = self.words.weight

    def fsdp_wrap_fn(self, module: nn.Module) -> bool:
        return isinstance(module, Block)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def loss_of(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean cross-entropy of predicting the mirrored sequence."""
    return F.cross_entropy(logits.flatten(0, 1), ids.flip(1).flatten())


def samples(count: int) -> Tensor:
    return torch.randint(0, WORDS, (count, LENGTH), generator=torch.Generator().manual_seed(5))


def gloo_sum_factor() -> float:
    """By how much FSDP2 over gloo multiplies gradients: torch 2.7 sums them over ranks instead of averaging."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    world = torch.distributed.get_world_size()
    probe = nn.Linear(world, 1, bias=False)
    fully_shard(probe, mesh=init_device_mesh("cpu", (world,)))
    probe(torch.ones(1, world)).sum().backward()
    return float(probe.weight.grad.full_tensor().mean())

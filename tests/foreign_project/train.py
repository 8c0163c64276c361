"""Somebody else's project: layers that weigh all earlier outputs, trained by Composer, with three lines more.

python train.py FOLDER
"""

import sys

import torch
from composer import ComposerModel, Trainer
from composer.loggers import InMemoryLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from elc_composer.callbacks import LayerWeightMonitor, WeightDistributionMonitor  # line 1


class Block(nn.Module):
    def __init__(self, depth, width):
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(depth + 1))
        self.body = nn.Sequential(nn.Linear(width, width), nn.ReLU())

    def forward(self, states):
        weights = self.mix.softmax(0)
        return self.body(sum(weight * state for weight, state in zip(weights, states)))


class Regressor(ComposerModel):
    def __init__(self, width=8, depth=4):
        super().__init__()
        self.blocks = nn.ModuleList(Block(i, width) for i in range(depth))
        self.readout = nn.Linear(width, 1)

    def forward(self, batch):
        states = [batch[0]]
        for block in self.blocks:
            states.append(block(states))
        return self.readout(states[-1]).squeeze(-1)

    def loss(self, outputs, batch):
        return nn.functional.mse_loss(outputs, batch[1])


def main(folder):
    torch.manual_seed(0)
    inputs = torch.randn(256, 8)
    data = DataLoader(TensorDataset(inputs, inputs.sum(1)), batch_size=32)
    model = Regressor()
    layer_weights = LayerWeightMonitor(pattern=r"\.mix$", interval="10ba", folder=folder)  # line 2
    distributions = WeightDistributionMonitor(interval="10ba", folder=folder)  # line 3
    memory = InMemoryLogger()
    Trainer(
        model=model,
        train_dataloader=data,
        optimizers=torch.optim.AdamW(model.parameters(), lr=1e-2),
        max_duration="5ep",
        callbacks=[layer_weights, distributions],
        loggers=[memory],
        progress_bar=False,
    ).fit()
    for name in ("layer_weights/layer_4/from_0", "weight_distribution/blocks.3/update_ratio"):
        print(name, memory.most_recent_values[name])


if __name__ == "__main__":
    main(sys.argv[1])

"""Launched on two ranks: train a batch under FSDP2, save a sharded and a gathered checkpoint, and the truth."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from composer import Trainer
from composer.utils import FSDP2Config, dist
from torch.utils.data import DataLoader

from elc_composer.common.process_group import join_process_group
from elc_composer.model import ElcConfig, ElcForMaskedLM
from elc_composer.training.composer_model import ElcComposerModel


def main() -> None:
    folder = Path(sys.argv[1])
    join_process_group("cpu")
    for kind in ("sharded", "full"):
        torch.manual_seed(0)
        model = ElcForMaskedLM(ElcConfig.from_json_file(folder / "model_config.json"))
        ids = torch.randint(7, model.config.vocab_size, (8, 16))
        rows = [{"input_ids": row, "attention_mask": torch.ones(16, dtype=torch.bool), "labels": row} for row in ids]
        trainer = Trainer(
            model=ElcComposerModel(model),
            train_dataloader=DataLoader(rows, batch_size=4, sampler=dist.get_sampler(rows)),
            optimizers=torch.optim.SGD(model.parameters(), lr=1e-2),
            max_duration="1ba",
            save_folder=str(folder / kind),
            save_interval="1ba",
            device="cpu",
            progress_bar=False,
            seed=1,
            parallelism_config={"fsdp": FSDP2Config(state_dict_type=kind)},
        )
        trainer.fit()
        whole = {
            name: value.full_tensor().detach()
            for name, value in trainer.state.model.model.named_parameters(remove_duplicate=False)
        }
        trainer.close()
    if dist.get_global_rank() == 0:
        torch.save(whole, folder / "expected.pt")


if __name__ == "__main__":
    main()

"""Iterate a training loader on this rank and write what it gave: `data_ranks_job.py ROOT OUT BATCH WORKERS STOP`.

Without STOP: two epochs. With STOP: that many batches, the state saved; then a fresh loader resumes from the state.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import torch
from composer.utils import dist

from elc_composer.common.process_group import join_process_group
from elc_composer.data import DataConfig, MaskingConfig, StreamConfig, build_train_loader
from tests.data.prepared import TOKENS


def main(root: str, out: str, device_batch_size: int, num_workers: int, state: str) -> None:
    join_process_group("cpu")
    config = DataConfig(streams=[StreamConfig(local=root)], num_workers=num_workers)
    masking = MaskingConfig(probability=0.4, final_probability=0.1)
    loader = build_train_loader(
        config, masking, TOKENS, seq_length=16, device_batch_size=device_batch_size, seed=5, total_steps=40
    ).dataloader
    state_file = Path(out) / "state.json"
    if state == "resume":
        loader.load_state_dict(json.loads(state_file.read_text()))
    batches = (batch for _ in itertools.count() for batch in loader)
    stop = int(state) if state.isdigit() else 2 * len(loader)
    seen = [
        torch.cat([batch["sample_ids"][:, None], batch["input_ids"], batch["labels"]], 1).tolist()
        for batch in itertools.islice(batches, stop)
    ]
    rank = dist.get_global_rank()
    (Path(out) / f"rank{rank}.json").write_text(json.dumps(seen))
    if rank == 0 and state.isdigit():
        state_file.write_text(json.dumps(loader.state_dict()))
    dist.barrier()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] if len(sys.argv) > 5 else "")

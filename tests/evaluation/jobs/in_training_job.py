"""Train and evaluate on the launched ranks, once for each case: `PAIRS OUT NAME:TOKENS_PER_BATCH:PARALLELISM ...`.

Rank 0 writes what was logged to `OUT/NAME.json`. One launch runs all cases: starting the ranks costs most of the time.
"""

import json
import sys
from pathlib import Path

import torch
from composer import Trainer
from composer.loggers import InMemoryLogger
from composer.utils import dist
from composer.utils.parallelism import FSDP2Config, ParallelismConfig
from torch.utils.data import DataLoader

from elc_composer.common.process_group import join_process_group
from elc_composer.evaluation.config import MinimalPairsConfig, ScoringConfig
from elc_composer.evaluation.in_training.composer_models import with_minimal_pairs
from elc_composer.evaluation.in_training.evaluators import minimal_pair_evaluators
from tests.evaluation.tiny import tiny_bert, tiny_tokenizer
from tests.evaluation.training_helpers import PlainModel


def main(pairs: str, out: str, *cases: str) -> None:
    join_process_group("cpu")
    for case in cases:
        name, tokens_per_batch, parallelism = case.split(":")
        evaluate(pairs, tokens_per_batch, parallelism, Path(out) / f"{name}.json")


def evaluate(pairs: str, tokens_per_batch: str, parallelism: str, out: Path) -> None:
    config = MinimalPairsConfig(
        path=pairs, label="tiny", eval_interval="1ba", scoring=ScoringConfig(tokens_per_batch=int(tokens_per_batch))
    )
    built = minimal_pair_evaluators([config], tiny_tokenizer())
    seen = sum(len(batch["pair_paradigm"]) for batch in built.evaluators[0].dataloader.dataloader)
    model = with_minimal_pairs(PlainModel(tiny_bert(len(tiny_tokenizer()))), built.metrics)
    rows = [{"input_ids": row, "labels": row} for row in torch.randint(5, 20, (8, 6))]
    loader = DataLoader(rows, batch_size=2, sampler=dist.get_sampler(rows))
    trainer = Trainer(
        model=model,
        # No step changes the weights, so that ranks may see different batches.
        optimizers=torch.optim.SGD(model.parameters(), lr=0.0),
        train_dataloader=loader,
        eval_dataloader=built.evaluators,
        max_duration="1ba",
        loggers=[InMemoryLogger()],
        progress_bar=False,
        device="cpu",
        parallelism_config=ParallelismConfig(fsdp2=FSDP2Config()) if parallelism == "fsdp" else None,
    )
    trainer.fit()
    data = trainer.logger.destinations[0].data
    values = {name: float(data[name][-1][1]) for name in data if name.startswith("metrics/tiny/")}
    seen_by = dist.all_gather_object(seen)
    if dist.get_global_rank() == 0:
        out.write_text(json.dumps({"values": values, "seen": seen_by}))
    trainer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

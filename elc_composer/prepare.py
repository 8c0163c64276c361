"""What is checked before anything is built: stages, devices, data, tokenizer, and where the run continues."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from composer.utils import dist
from transformers import PreTrainedTokenizerFast

from elc_composer.callbacks.loss_guard import OnBadLoss
from elc_composer.checkpoints.resume import ResumePoint, ensure_here, find_resume_point
from elc_composer.config import RunConfig
from elc_composer.data.check import check_data
from elc_composer.data.config import DataConfig
from elc_composer.data.masking import TokenIds
from elc_composer.errors import ConfigError, DataError
from elc_composer.evaluation.pairs import read_minimal_pairs
from elc_composer.model import ElcConfig
from elc_composer.optim import build_optimizer
from elc_composer.optim.schedule import check_schedule
from elc_composer.parallelism import Precision, Strategy
from elc_composer.stages import Stage, plan_stages
from elc_composer.strict_yaml import to_yaml
from elc_composer.tokenizer import check_data_tokenizer, load_tokenizer
from streaming_prep.tokenizer import SPECIAL_TOKENS

SAME_IN_A_RUN = (
    "seed", "max_steps", "stages", "model", "optimizer", "schedule", "masking", "gradient_clip_norm", "label_smoothing",
    "data",
)  # fmt: skip
ORDER = ("train_split", "short_p", "shuffle", "shuffle_algo", "shuffle_seed", "shuffle_block_size", "epoch_size")
SHARES = ("split", "proportion", "repeat", "choose")
LARGEST_SEED = 2**31 - 1
"""Composer and Streaming add ranks and stages to the seed, and take no more than 32 bits."""


@dataclass(frozen=True)
class Run:
    """A config that has been checked, with what was found on the way."""

    config: RunConfig
    model: ElcConfig
    plan: list[Stage]
    tokenizer: PreTrainedTokenizerFast
    resume: ResumePoint | None

    @property
    def folder(self) -> Path:
        """Everything that the run writes goes here."""
        return Path(self.config.run_folder)

    @property
    def first_step(self) -> int:
        """The optimizer step, from 0, that comes next."""
        return 0 if self.resume is None else self.resume.step

    @property
    def token_ids(self) -> TokenIds:
        """What masking and the collator must know of the tokenizer."""
        return token_ids(self.tokenizer)


def prepare_run(config: RunConfig) -> Run:
    """Check a config against devices, data, tokenizer and checkpoints.

    Raises:
        ConfigError: for settings that contradict each other or the devices.
        DataError: for data or a tokenizer that are missing, damaged or do not fit the model.
    """
    model = elc_config(config)
    plan = plan_stages(config.stages, config.max_steps)
    check_schedule(config.schedule, config.max_steps)
    _check_callbacks(config)
    _check_numbers(config)
    build_optimizer(torch.nn.Linear(1, 1), config.optimizer)
    for stage in plan:
        _check_stage(stage, model)
    tokenizer = load_tokenizer(config.tokenizer or prepared_tokenizer(config.data))
    if len(tokenizer) != model.vocab_size:
        raise ConfigError(
            f"model.vocab_size is {model.vocab_size:,} but the tokenizer has {len(tokenizer):,} entries; "
            "set model.vocab_size to that, or name the tokenizer that the data were prepared with"
        )
    for name in ("pad", "cls", "sep", "mask"):
        own, expected = getattr(model, f"{name}_token_id"), getattr(tokenizer, f"{name}_token_id")
        if own != expected:
            raise ConfigError(f"model.{name}_token_id is {own} but the tokenizer's is {expected}; set it to that")
    splits = [config.data.train_split] + [config.data.eval_split] * config.evaluators.dev_loss
    lengths = [stage.seq_length for stage in plan]
    check_data(config.data, seq_lengths=lengths, splits=splits, vocab_size=len(tokenizer))
    check_data_tokenizer(tokenizer, config.data)
    for pairs in config.evaluators.minimal_pairs:
        read_minimal_pairs(pairs.path)
    return Run(config, model, plan, tokenizer, _agree_on_start(config))


def _agree_on_start(config: RunConfig) -> ResumePoint | None:
    """Rank 0 looks for a checkpoint, other nodes fetch it; all ranks get it, or raise what one of them raised."""
    found: list[Any] = [None]
    problem: Exception | None = None
    if dist.get_global_rank() == 0:
        try:
            found[0] = find_resume_point(config.checkpoints, config.run_folder)
            if found[0] is not None:
                _check_same_run(config)
        except (ConfigError, DataError) as error:
            problem = error
    dist.broadcast_object_list(found)
    if found[0] is not None and dist.get_local_rank() == 0:
        try:
            ensure_here(found[0], config.checkpoints)
        except DataError as error:
            problem = error
    for each in dist.all_gather_object(problem):
        if each is not None:
            raise each
    return found[0]


def _check_same_run(config: RunConfig) -> None:
    """Refuse to continue a run whose steps would not be the same ones any more."""
    file = Path(config.run_folder) / "config.yaml"
    if not file.is_file():
        return
    try:
        before = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        before = None
    if not isinstance(before, dict):
        # Cut short where the machine failed; it is written anew, and the checkpoint is what counts.
        return
    now = yaml.safe_load(to_yaml(config))
    # Runs written before the key existed did not smooth.
    before.setdefault("label_smoothing", 0.0)
    # Older versions had a key for the form of LAMB; all forms take the same steps.
    if isinstance(before.get("optimizer"), dict):
        before["optimizer"].pop("implementation", None)
    for tree in (before, now):
        for stage in tree.get("stages", []):
            stage.pop("device_train_microbatch_size", None)
        tree.get("model", {}).pop("kernels", None)
        tree["data"] = _what_is_read(tree.get("data", {}))
    for key in SAME_IN_A_RUN:
        if before.get(key) != now[key]:
            raise ConfigError(
                f"{config.run_folder} holds a run with another {key} ({_difference(before.get(key), now[key])}); "
                "continue it with its own, or name another run_folder"
            )


def _what_is_read(data: dict[str, Any]) -> dict[str, Any]:
    """What of the data section says which samples come when; where they lie and how they travel may change."""
    shares = [{key: stream.get(key) for key in SHARES} for stream in data.get("streams", [])]
    return {**{key: data.get(key) for key in ORDER}, "streams": shares}


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in now if before.get(key) != now[key]]
        return ", ".join(f"{key}: {before.get(key)} there, {now[key]} here" for key in keys)
    return f"{before} there, {now} here"


def elc_config(config: RunConfig) -> ElcConfig:
    """The model's configuration.

    Raises:
        ConfigError: for settings that the model refuses, with its reason.
    """
    try:
        return ElcConfig(**dataclasses.asdict(config.model))
    except ValueError as error:
        raise ConfigError(f"model.{error}") from error


def prepared_tokenizer(config: DataConfig) -> str:
    """Where streaming_prep put the tokenizer that the first stream was made with.

    Raises:
        ConfigError: where there is no stream.
    """
    if not config.streams or not (root := config.streams[0].remote or config.streams[0].local):
        raise ConfigError("data.streams names no folder; set data.streams.0.local to what streaming_prep wrote")
    root = root.removeprefix("file://")
    if "://" not in root and not Path(root).is_dir():
        raise DataError(
            f"the data folder {root} does not exist; write it with `python -m streaming_prep build --out {root}`, "
            "or set data.streams.0.local to another"
        )
    return f"{root.rstrip('/')}/tokenizer"


def token_ids(tokenizer: PreTrainedTokenizerFast) -> TokenIds:
    """Ids of the special tokens, which are the first of every BabyLM vocabulary."""
    return TokenIds(
        vocab_size=len(tokenizer),
        cls_id=tokenizer.cls_token_id,
        sep_id=tokenizer.sep_token_id,
        pad_id=tokenizer.pad_token_id,
        mask_id=tokenizer.mask_token_id,
        num_special=len(SPECIAL_TOKENS),
    )


def _check_callbacks(config: RunConfig) -> None:
    guard, monitors = config.callbacks.loss_guard, config.callbacks
    if monitors.optimizer_monitor is not None and config.parallelism.strategy is not Strategy.ddp:
        raise ConfigError(
            "callbacks.optimizer_monitor sees a rank's own part only under FSDP; use weight_distribution_monitor, "
            "which logs gradient norms of whole layers"
        )
    if guard is None or guard.on_bad_loss is not OnBadLoss.roll_back:
        return
    if not config.checkpoints.autoresume or config.checkpoints.save_folder is None:
        raise ConfigError(
            "callbacks.loss_guard.on_bad_loss: roll_back goes back to the run's newest checkpoint, so it needs "
            "checkpoints.autoresume and checkpoints.save_folder; set these, or stop"
        )
    if config.precision is Precision.amp_fp16:
        raise ConfigError(
            "callbacks.loss_guard.on_bad_loss: roll_back does not go with amp_fp16, whose gradient scaler leaves bad "
            "steps out already; use stop, or amp_bf16"
        )


def _check_numbers(config: RunConfig) -> None:
    if not 0 <= config.seed <= LARGEST_SEED:
        raise ConfigError(f"seed is {config.seed}; it must lie between 0 and {LARGEST_SEED}")
    clip = config.gradient_clip_norm
    if clip is not None and not 0 < clip < float("inf"):
        raise ConfigError(f"gradient_clip_norm is {clip}; it must be a finite number above 0, or null to clip nothing")
    if not 0 <= config.label_smoothing < 1:
        raise ConfigError(f"label_smoothing is {config.label_smoothing}; it must be at least 0 and below 1")


def _check_stage(stage: Stage, model: ElcConfig) -> None:
    place = f"stages[{stage.index}]"
    if stage.seq_length > model.max_position_embeddings:
        raise ConfigError(
            f"{place}.seq_length {stage.seq_length} exceeds model.max_position_embeddings "
            f"{model.max_position_embeddings}; lower the one or raise the other"
        )
    micro = stage.device_train_microbatch_size
    if not (micro is None or micro == "auto" or (isinstance(micro, int) and micro > 0)):
        raise ConfigError(f"{place}.device_train_microbatch_size is {micro}; it must be a number above 0, auto or null")
    ranks = dist.get_world_size()
    if stage.global_train_batch_size % ranks:
        raise ConfigError(
            f"{place}.global_train_batch_size {stage.global_train_batch_size} is not a multiple of the {ranks} ranks"
        )

"""Every kind of bad input that a test knows, run through the commands that a user types; writes docs/bad_input.md.

python -m tests.bad_input > docs/bad_input.md
"""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from streaming import MDSWriter

from elc_composer.evaluate import main as evaluate
from elc_composer.train import main as train
from streaming_prep.cli import main as streaming_prep
from tests.conftest import ROOT
from tests.runs import prepare_toy, tiny_overrides

CONFIG = ROOT / "yamls" / "quickstart.yaml"


@dataclass(frozen=True)
class Case:
    """One mistake. In arguments, `{data}` is prepared data, `{tmp}` an empty folder; `spoil` may damage both."""

    name: str
    arguments: list[str]
    message: str
    command: str = "train"
    spoil: Callable[[Path], None] = field(default=lambda tmp: None)


@dataclass(frozen=True)
class Outcome:
    """What a command said: its exit code and the lines of its error."""

    code: int
    lines: list[str]
    wrote: bool


def run(case: Case, toy: Path, tmp: Path) -> Outcome:
    """One case, in a copy of the prepared data of its own at `tmp`."""
    shutil.copytree(toy, tmp)
    case.spoil(tmp)
    vocab_size = json.loads((toy / "data" / "manifest.json").read_text())["tokenizer"]["vocab_size"]
    arguments = [argument.format(data=tmp / "data", tmp=tmp) for argument in case.arguments]
    errors, code = io.StringIO(), 0
    with redirect_stderr(errors), redirect_stdout(io.StringIO()):
        logging.disable(logging.WARNING)
        try:
            if case.command == "train":
                config = arguments.pop(0) if arguments and arguments[0].endswith(".yaml") else str(CONFIG)
                train([config, *tiny_overrides(tmp, tmp / "run", vocab_size), *arguments])
            else:
                code = {"streaming_prep": streaming_prep, "evaluate": evaluate}[case.command](arguments)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        finally:
            logging.disable(logging.NOTSET)
    lines = [line for line in errors.getvalue().splitlines() if re.match("error: |streaming_prep: ", line)]
    shown = [line.split(": ", 1)[1].replace(str(tmp), "...").replace(str(ROOT) + "/", "") for line in lines]
    return Outcome(code, shown, (tmp / "run" / "metrics.jsonl").exists() or (tmp / "out" / "manifest.json").exists())


def page(outcomes: dict[str, Outcome]) -> str:
    """docs/bad_input.md."""
    lines = [
        "# Bad input and what it gets",
        "",
        "One line on stderr and exit code 2, before anything is trained or written. Made by",
        "`python -m tests.bad_input`, held to date by tests/commands/test_bad_input.py; `...` stands for a folder.",
    ]
    for command, title in (("train", "train.py"), ("streaming_prep", "streaming_prep"), ("evaluate", "evaluate")):
        lines += ["", f"## {title}", "", "| input | message |", "| --- | --- |"]
        for case in CASES:
            if case.command == command:
                said = " ".join(outcomes[case.name].lines).replace("|", "\\|")
                lines.append(f"| {case.name} | {said} |")
    return "\n".join(lines) + "\n"


def _rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(tmp: Path) -> None:
        path = tmp / "data" / name
        path.write_bytes(change(path.read_bytes()))

    return spoil


def _flip(content: bytes) -> bytes:
    return content[:60] + bytes([content[60] ^ 4]) + content[61:]


def _without_manifest_hash(tmp: Path) -> None:
    manifest = tmp / "data" / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["outputs"]["seq_32/train"]["index_sha256"]
    manifest.write_text(json.dumps(content))


def _pickled(tmp: Path) -> None:
    _without_manifest_hash(tmp)
    out = tmp / "data" / "seq_32" / "train"
    shutil.rmtree(out)
    columns = {"input_ids": "ndarray:uint16", "notes": "pkl"}
    with MDSWriter(out=str(out), columns=columns, hashes=["sha256"]) as writer:
        writer.write({"input_ids": np.array([8, 9], np.uint16), "notes": {}})


def _no_samples(tmp: Path) -> None:
    _without_manifest_hash(tmp)
    (tmp / "data" / "seq_32" / "train" / "index.json").write_text('{"version": 2, "shards": []}')


def _longer_segments(tmp: Path) -> None:
    _without_manifest_hash(tmp)
    shutil.rmtree(tmp / "data" / "seq_32")
    shutil.copytree(tmp / "data" / "seq_64", tmp / "data" / "seq_32")


def _other_tokenizer(tmp: Path) -> None:
    content = json.loads((tmp / "data" / "tokenizer" / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    one, other = [token for token, number in vocabulary.items() if number in (20, 21)]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    (tmp / "other.json").write_text(json.dumps(content))


def _gone(name: str) -> Callable[[Path], None]:
    return lambda tmp: (tmp / "data" / name).unlink()


def _text(name: str, content: bytes) -> Callable[[Path], None]:
    def write(tmp: Path) -> None:
        (tmp / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp / name).write_bytes(content)

    return write


SHARD = "seq_32/train/shard.00000.mds.zstd"
INDEX = "seq_32/train/index.json"
PAIRS = ["{tmp}/nowhere", "--minimal-pairs", "{tmp}/pairs.jsonl", "--out", "{tmp}/out.json"]
BUILD = ["build", "--corpus", "{tmp}/corpus", "--out", "{tmp}/out", "--workers", "1"]
GOOD = b"The dog barks.\n" * 30
DUPLICATE = "data.streams=[{{remote: {data}, local: {tmp}/c}}, {{remote: {data}, local: {tmp}/c}}]"
FSDP2_NORMS = ["callbacks.optimizer_monitor.batch_log_interval=1", "parallelism.strategy=fsdp2"]

CASES = [
    Case("no such config", ["nowhere.yaml"], "nowhere.yaml"),
    Case("typo in a key", ["optimizer.learning_rate=1"], "unknown key 'optimizer.learning_rate'"),
    Case("wrong type", ["max_steps=many"], "max_steps"),
    Case("no shards", ["data.streams.0.local=nowhere"], "data folder nowhere does not exist"),
    Case("length not prepared", ["stages.0.seq_length=16"], "not prepared for a sequence length of 16, but for 32"),
    Case("split not prepared", ["data.train_split=test"], "has no split 'test', but dev, train"),
    Case("other vocabulary", ["model.vocab_size=99"], "model.vocab_size is 99 but the tokenizer has"),
    Case("too long", ["model.max_position_embeddings=32"], "stages[1].seq_length 64 exceeds"),
    Case("precision", ["precision=amp_bf16"], "amp_bf16 needs a GPU"),
    Case("sharded files", ["parallelism.sharded_checkpoints=true"], "sharded_checkpoints needs strategy fsdp1"),
    Case("fractions", ["stages.0.fraction=0.7"], "the fractions sum to 1.2"),
    Case("schedule", ["schedule.name=sine"], "schedule.name"),
    Case("optimizer", ["optimizer.name=sgd"], "optimizer.name"),
    Case("save interval", ["checkpoints.save_interval=often"], "checkpoints.save_interval is 'often'"),
    Case("evaluation interval", ["evaluators.eval_interval=5.5ba"], "evaluators.eval_interval is '5.5ba'"),
    Case(
        "login in an address", ["loggers.mlflow.tracking_uri=https://me:hunter2@host/"], "a user name or password in it"
    ),
    Case("other store", ["checkpoints.save_folder=gs://bucket/run"], "must be a folder, or s3://bucket/prefix"),
    Case("norms of shards", FSDP2_NORMS, "callbacks.optimizer_monitor sees a rank's own part only"),
    Case("automatic microbatch", ["stages.0.device_train_microbatch_size=auto"], "auto needs a GPU"),
    Case("unknown kernels", ["model.kernels=fast"], "model.kernels 'fast' is none of auto, eager, torch, triton"),
    Case("kernels for other devices", ["model.kernels=triton"], "model.kernels: triton needs a CUDA device"),
    Case("microbatch", ["stages.0.device_train_microbatch_size=0"], "device_train_microbatch_size is 0"),
    Case("heads", ["model.num_attention_heads=0"], "model.num_attention_heads is 0"),
    Case("mask id", ["model.mask_token_id=5"], "model.mask_token_id is 5 but the tokenizer's is 4"),
    Case("seed", ["seed=-1"], "seed is -1; it must lie between 0 and"),
    Case("clipping to nothing", ["gradient_clip_norm=0"], "gradient_clip_norm is 0.0; it must be a finite number"),
    Case("fraction that is no number", ["stages.0.fraction=nan"], "the fractions sum to nan"),
    Case("infinite rate", ["optimizer.lr=inf"], "lr is inf; it must be a finite number"),
    Case("file as run folder", ["run_folder={data}/manifest.json"], "manifest.json is no folder; name another"),
    Case("other tokenizer", ["tokenizer={tmp}/other.json"], "2 of", spoil=_other_tokenizer),
    Case("no checkpoint", ["checkpoints.load_path=nowhere/ba3-rank0.pt"], "nowhere/ba3-rank0.pt does not exist"),
    Case("no pairs", ["evaluators.minimal_pairs.0.path=nowhere"], "nowhere"),
    Case("no stream", ["data.streams=[]"], "data.streams"),
    Case("stream without folder", ["data.streams=[{{split: train}}]"], "data.streams"),
    Case("address as cache", ["data.streams.0.local=s3://bucket/data"], "an address: give it as remote"),
    Case("two weights", ["data.streams.0.repeat=2", "data.streams.0.choose=3"], "at most one of proportion"),
    Case("weight of zero", ["data.streams.0.proportion=0"], "proportion is 0"),
    Case("weights of some", ["data.streams=[{{local: a, proportion: 1}}, {{local: b}}]"], "either every stream"),
    Case("epoch size and repeat", ["data.epoch_size=9", "data.streams.0.repeat=2"], "data.epoch_size is 9, but"),
    Case("one cache for two", [DUPLICATE], "two streams have the cache"),
    Case("cache limit", ["data.cache_limit=plenty"], "data.cache_limit is 'plenty'"),
    Case("order", ["data.shuffle_algo=random"], "data.shuffle_algo is 'random'"),
    Case("canonical nodes", ["data.num_canonical_nodes=0"], "data.num_canonical_nodes is 0"),
    Case("unknown hash", ["data.validate_hash=sha255"], "data.validate_hash is 'sha255'"),
    Case("hash not held", ["data.validate_hash=xxh128"], "was written without xxh128 hashes, but with sha256"),
    Case("impatient loader", ["data.batch_timeout=60"], "data.outage_tolerance is 300.0 and data.batch_timeout 60"),
    Case("a label twice", ["evaluators.minimal_pairs.0.label=dev"], "the label dev is the dev split's"),
    Case("damaged index", [], "its sha256 is not the manifest's", spoil=_rewrite(INDEX, lambda text: text + b" ")),
    Case("index that is no JSON", [], "is not valid JSON", spoil=_rewrite(INDEX, lambda text: text[:-5])),
    Case("index without samples", [], "holds no samples", spoil=_no_samples),
    Case("pickled column", [], "column 'notes' is encoded as 'pkl', which can run code", spoil=_pickled),
    Case("missing shard", [], "it does not exist; copy it again", spoil=_gone(SHARD)),
    Case("flipped bit in a shard", [], "is not the index's; copy it again", spoil=_rewrite(SHARD, _flip)),
    Case("shard cut short", [], "shard.00000.mds.zstd", spoil=_rewrite(SHARD, lambda content: content[:99])),
    Case("segments of another length", [], "prepare the data for that sequence length", spoil=_longer_segments),
    Case("no tokenizer", [], "tokenizer", spoil=_gone("tokenizer/tokenizer.json")),
    Case("corpus not there", BUILD, "corpus is not there", "streaming_prep"),
    Case("empty file", BUILD, "cbt.train is empty", "streaming_prep", _text("corpus/cbt.train", b"")),
    Case("bytes not UTF-8", BUILD, "byte 0xef is not UTF-8", "streaming_prep", _text("corpus/a.train", b"na\xefve\n")),
    Case("no text left", BUILD, "no text is left", "streaming_prep", _text("corpus/a.train", b"\n\n")),
    Case("length of 2", [*BUILD, "--seq-length", "2"], "--seq-length", "streaming_prep", _text("corpus/a.train", GOOD)),
    Case("unknown cleaner", [*BUILD, "--cleaner", "x"], "cleaner", "streaming_prep", _text("corpus/a.train", GOOD)),
    Case(
        "documents kept apart",
        [*BUILD, "--document-aware"],
        "--document-aware",
        "streaming_prep",
        _text("corpus/a.train", GOOD),
    ),
    Case("no workers", [*BUILD, "--workers", "0"], "--workers 0", "streaming_prep", _text("corpus/a.train", GOOD)),
    Case("verify nothing", ["verify", "{tmp}/empty"], "manifest.json", "streaming_prep"),
    Case("sample of nothing", ["sample", "{data}", "--output", "seq_9/dev"], "holds no seq_9/dev", "streaming_prep"),
    Case("no such pairs", PAIRS, "pairs.jsonl does not exist", "evaluate"),
    Case("pairs that are no JSON", PAIRS, "pairs.jsonl:1 is not JSON", "evaluate", _text("pairs.jsonl", b"{\n")),
    Case(
        "pair of one sentence",
        PAIRS,
        "has no 'sentence_bad'",
        "evaluate",
        _text("pairs.jsonl", b'{"sentence_good": "a"}'),
    ),
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        toy = prepare_toy(Path(folder, "toy"))
        sys.stdout.write(page({case.name: run(case, toy, Path(folder, case.name)) for case in CASES}))


if __name__ == "__main__":
    main()

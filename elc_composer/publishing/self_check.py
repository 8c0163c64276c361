"""Loads written folders in a fresh process, as somebody without this package does, and compares their outputs."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from elc_composer.common.errors import DataError
from elc_composer.common.json_files import read_json, read_object
from elc_composer.model import ElcModel

TOLERANCE = 1e-4
"""Largest difference, relative to the largest output. Both sides compute in float32 on the CPU with the same code."""
SENTENCE = "The [MASK] sees the small cats, and they run."
OUTPUTS = ("logits", "start_logits", "end_logits", "last_hidden_state")
LONGEST = 24
SECONDS = 900
# The package may be installed in the same environment; a folder that needs it must not pass.
PROGRAM = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("elc_composer", "streaming_prep", "composer", "streaming"):
            raise ModuleNotFoundError(f"this folder imports {name}, which is not part of it", name=name)
sys.meta_path.insert(0, Absent())
import torch, transformers
from safetensors.torch import load_file, save_file
torch.set_num_threads(1)
work = json.load(open(sys.argv[1]))
for number, job in enumerate(work["jobs"]):
    if job["tokenizer"]:
        tokenizer = transformers.AutoTokenizer.from_pretrained(job["folder"], trust_remote_code=False)
        json.dump(tokenizer(work["sentence"])["input_ids"], open(f"{job['result']}.json", "w"))
    loader = getattr(transformers, job["loader"])
    model, info = loader.from_pretrained(job["folder"], trust_remote_code=True, output_loading_info=True)
    wrong = {key: sorted(map(str, names)) for key, names in info.items() if names and key != "error_msgs"}
    if wrong:
        sys.exit(f"{wrong}")
    with torch.no_grad():
        output = model.float().eval()(**load_file(job["batch"]))
    save_file({key: output[key].contiguous() for key in work["outputs"] if key in output}, job["result"])
"""


@dataclass(frozen=True)
class Expected:
    """What a folder must compute: a fixed batch and the outputs of the model that was written to it."""

    folder: Path
    batch: dict[str, Tensor]
    outputs: dict[str, Tensor]


def auto_class(folder: Path) -> str:
    """transformers' class that loads a written folder with its head."""
    config = read_object(folder / "config.json")
    (name,) = config["architectures"]
    return next(auto for auto, code in config["auto_map"].items() if code.endswith(f".{name}"))


def fixed_batch(model: ElcModel, choices: bool = False) -> dict[str, Tensor]:
    """Ids and mask `[2, T]` (`[1, 2, T]` for multiple choice), the same for each model of a shape; a row is padded."""
    length = min(LONGEST, model.config.max_position_embeddings)
    ids = torch.randint(model.config.vocab_size, (2, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, length // 2 + 1 :] = 0
    if choices:
        ids, mask = ids[None], mask[None]
    return {"input_ids": ids, "attention_mask": mask}


def expect(model: ElcModel, folder: Path) -> Expected:
    """The outputs of a model on the fixed batch, in float32 on the CPU; the model itself stays as it is."""
    batch = fixed_batch(model, choices=type(model).__name__ == "ElcForMultipleChoice")
    same = copy.deepcopy(model).cpu().float().eval()
    with torch.no_grad():
        output = same(**batch)
    return Expected(folder, batch, {key: output[key].contiguous() for key in OUTPUTS if key in output})


def check_folders(expected: list[Expected]) -> float:
    """Load each folder in one fresh process (isolated, offline, without this package) and compare its outputs.

    Returns:
        The largest difference of an output, relative to the largest output of its model.

    Raises:
        DataError: a folder does not load, its tokenizer gives other ids, or an output differs by more than 1e-4.
    """
    if not expected:
        return 0.0
    with tempfile.TemporaryDirectory(prefix="elc_check_") as name:
        home = Path(name)
        jobs = []
        for number, each in enumerate(expected):
            save_file(each.batch, home / f"batch_{number}")
            job = {"folder": str(each.folder.resolve()), "loader": auto_class(each.folder)}
            job |= {"batch": str(home / f"batch_{number}"), "result": str(home / f"result_{number}")}
            jobs.append({**job, "tokenizer": (each.folder / "tokenizer.json").is_file()})
        (home / "work.json").write_text(json.dumps({"jobs": jobs, "outputs": OUTPUTS, "sentence": SENTENCE}))
        run_program(home)
        return max(compare(each, home / f"result_{number}") for number, each in enumerate(expected))


def run_program(home: Path) -> None:
    """Run the check's program on `home/work.json`.

    Raises:
        DataError: it fails, with the last line of its error output.
    """
    caches = {"HF_HOME": str(home / "home"), "HF_MODULES_CACHE": str(home / "modules"), "HF_HUB_OFFLINE": "1"}
    quiet = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", PROGRAM, str(home / "work.json")],
            cwd=home,
            env={**os.environ, **caches, **quiet},
            stdin=subprocess.DEVNULL,  # a question at the terminal must fail, not wait
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"the check in a fresh process took more than {SECONDS} s; --no-check leaves it out") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise DataError(f"the written folder does not load in a fresh process: {lines[-1].strip()[:400]}")


def compare(expected: Expected, result: Path) -> float:
    """The largest relative difference of the outputs in `result`.

    Raises:
        DataError: it is above the tolerance, outputs are missing, or the tokenizer gives other ids.
    """
    found = load_file(result)
    if found.keys() != expected.outputs.keys():
        raise DataError(f"the written folder gives {', '.join(found)} instead of {', '.join(expected.outputs)}")
    largest = 0.0
    for key, wanted in expected.outputs.items():
        if found[key].shape != wanted.shape:
            raise DataError(f"the written folder gives {key} of shape {tuple(found[key].shape)}, not {wanted.shape}")
        if not torch.equal(found[key], wanted):
            error = ((found[key] - wanted).abs().max() / wanted.abs().max().clamp_min(1e-6)).item()
            if not error <= TOLERANCE:
                raise DataError(
                    f"the written folder computes other {key} than the model (relative difference {error:.1e}); "
                    "nothing was put in place"
                )
            largest = max(largest, error)
    ids = result.with_name(f"{result.name}.json")
    if ids.exists():
        own = Tokenizer.from_file(str(expected.folder / "tokenizer.json")).encode(SENTENCE).ids
        if read_json(ids) != own:
            raise DataError("the written folder's tokenizer gives other ids than its tokenizer.json")
    return largest

"""Run Python where this project's packages cannot be imported, as at somebody who only has transformers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

GUARD = """
import sys
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("elc_composer", "streaming_prep", "composer", "streaming"):
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)
sys.meta_path.insert(0, Guard())
"""


def run_elsewhere(code: str, *arguments: object, home: Path) -> str:
    """What the code prints; offline, isolated from the environment's paths, with transformers' caches under `home`.

    ELC_FOREIGN_PYTHON names the interpreter of another environment, such as one with another transformers.
    An exit code other than 0 raises an AssertionError that holds the error output.
    """
    done = subprocess.run(
        [os.environ.get("ELC_FOREIGN_PYTHON", sys.executable), "-I", "-c", GUARD + code, *map(str, arguments)],
        cwd=home,
        env={
            **os.environ,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout

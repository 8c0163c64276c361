"""Build one corpus repeatedly with random kills until the given number of kills; run by test_resume.py.

`kill_job.py CORPUS OUT KILLS SEED`: prints how many builds ran to their end. Importing takes longer than building, so
this process imports and each build is a fork of it.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import streaming  # noqa: F401

from tests.streaming_prep.corpora import build_small


def start_build(corpus: Path, out: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            build_small(corpus, out)
            os._exit(0)
        except BaseException as error:
            print(f"the build failed: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
    return child


def main(corpus: Path, out: Path, kills: int, seed: int) -> None:
    generator = random.Random(seed)
    began = time.perf_counter()
    _, status = os.waitpid(start_build(corpus, out.with_name("undisturbed")), 0)
    assert status == 0
    seconds = time.perf_counter() - began
    finished = 0
    while kills:
        child = start_build(corpus, out)
        # A twelfth at most: twenty kills then mostly hit one and the same build.
        time.sleep(generator.uniform(0, seconds / 12))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills -= 1
        else:
            assert os.WEXITSTATUS(status) == 0
            # It was through before the kill: begin another one, so that the kills left hit something.
            finished += 1
            out.rename(out.with_name(f"finished-{finished}"))
    _, status = os.waitpid(start_build(corpus, out), 0)
    assert status == 0
    out.rename(out.with_name(f"finished-{finished + 1}"))
    print(finished + 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

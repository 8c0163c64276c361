"""A rank does not end before threads of its that need Python's lock."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from elc_composer.common.process_group import join_process_group
from tests.multirank.launch import launch

pytestmark = pytest.mark.multirank


def test_threads_finish_before_the_interpreter_ends(tmp_path: Path) -> None:
    launch(Path(__file__), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}


def main(folder: str) -> None:
    import torch.distributed

    join_process_group("cpu")

    def finish() -> None:
        time.sleep(0.05)
        (Path(folder) / str(torch.distributed.get_rank())).touch()

    # Nobody waits for it, as nobody waits for Gloo's.
    threading.Thread(target=finish, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])

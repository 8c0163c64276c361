"""The code digest that decides whether finished jobs are used again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streaming_prep.versions import CODE, code_digest, versions
from tests.conftest import ROOT
from tests.streaming_prep.corpora import make_corpus

BUILD = """
import sys
from pathlib import Path
from streaming_prep.build import build
from streaming_prep.settings import BuildSettings

build(BuildSettings([Path(sys.argv[1])], vocab_size=100, min_frequency=2, seq_lengths=[16]), sys.argv[2])
for name, module in list(sys.modules.items()):
    if name.split(".")[0] in ("elc_composer", "streaming_prep"):
        print(module.__file__)
"""


def test_the_digest_covers_every_own_module_that_a_build_imports(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", lines=30)
    command = [sys.executable, "-c", BUILD, str(corpus), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {Path(line) for line in done.stdout.split("\n") if line}
    assert {"files.py", "json_files.py", "tokenizer_files.py", "pipeline.py"} <= {path.name for path in imported}
    covered = {path for place in CODE for path in ([place] if place.is_file() else place.rglob("*.py"))}
    assert not {path.resolve() for path in imported} - {path.resolve() for path in covered}


@pytest.mark.parametrize("number", range(len(CODE)))
def test_each_covered_place_changes_the_digest(tmp_path: Path, number: int) -> None:
    copies = []
    for place in CODE:
        for path in [place] if place.is_file() else place.rglob("*.py"):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
        copies.append(tmp_path / place.relative_to(ROOT))
    assert code_digest(copies) == versions()["streaming_prep"]
    place = copies[number]
    changed = place if place.is_file() else max(place.rglob("*.py"))
    changed.write_text(changed.read_text() + "# changed\n")
    assert code_digest(copies) != versions()["streaming_prep"]

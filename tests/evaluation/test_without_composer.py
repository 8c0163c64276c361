"""Scoring and export run where Composer and Streaming are not installed."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT

SCRIPT = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("composer", "streaming"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
for module in ("evaluation.score_pairs", "evaluation.models", "evaluation.results", "evaluate", "export"):
    importlib.import_module(f"elc_composer.{module}")
"""


def test_scoring_and_export_import_neither_composer_nor_streaming() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

"""Runs a file of tests under Triton's interpreter, on the CPU.

`TRITON_INTERPRET=1` must be set before triton is first imported, which other tests may have done by then; so a file of
cases (any name that pytest does not collect by itself) runs in a process of its own, and each of its test functions is
reported as one test of the file that says

    test_in_interpreter = interpreted("some_cases.py")

The cases choose their device by `DEVICE`: the CPU in the interpreter, else CUDA; so a module marked `gpu` may import
the same functions to run them there.
"""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
BAD = ("failure", "error", "skipped")


def case_names(path: Path) -> list[str]:
    """The test functions defined in a file, without importing it."""
    body = ast.parse(path.read_text()).body
    return [node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


@functools.cache
def outcomes(path: Path, select: str = "") -> dict[str, list[tuple[str, str]]]:
    """Test function -> (case, what failed or was skipped, empty where it passed) of each of its cases."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--junitxml={report}", "-k", select]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, str(path)],
            cwd=HERE.parent.parent,
            env={**os.environ, "TRITON_INTERPRET": "1"},
            capture_output=True,
            text=True,
        )
        assert report.exists(), done.stdout + done.stderr
        cases = ElementTree.parse(report).iter("testcase")
    found: dict[str, list[tuple[str, str]]] = {}
    for case in cases:
        name = case.attrib["name"]
        wrong = [child.text or child.attrib.get("message", "") for child in case if child.tag in BAD]
        found.setdefault(name.partition("[")[0], []).append((name, "\n".join(wrong)))
    return found


def interpreted(file_name: str, *names: str, select: str = "") -> Callable[[str], None]:
    """A test for every test function of a file in this folder; the file runs once, in one interpreter process.

    Args:
        file_name: file in this folder.
        names: only these functions, where any are given.
        select: pytest's expression (`-k`) for which of their cases run.
    """
    path = HERE / file_name

    @pytest.mark.parametrize("name", names or case_names(path))
    def test_in_interpreter(name: str) -> None:
        pytest.importorskip("triton")
        ran = outcomes(path, select).get(name, [])
        assert ran, f"{name} did not run"
        wrong = [f"{case}:\n{text}" for case, text in ran if text]
        assert not wrong, "\n\n".join(wrong)

    return test_in_interpreter

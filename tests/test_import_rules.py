"""Import rules between the packages and folders, read from the source without importing it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = "elc_composer"
WITHOUT_TRAINING = ("callbacks", "checkpoints", "data", "evaluation", "figures", "model_files", "optim", "prepared")


def imports(file: Path, *, lazy: bool = True) -> Iterator[str]:
    """Full names of the modules that a file imports; without `lazy`, only those at its top level."""
    tree = ast.parse(file.read_text())
    package = list(file.relative_to(ROOT).parts[:-1])
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*parent, node.module] if node.module else parent)
            yield module
            # `from package import module` names a module, too.
            yield from (f"{module}.{alias.name}" for alias in node.names if is_module(f"{module}.{alias.name}"))


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, folder
    return found


def folder_of(module: str) -> str:
    """The folder directly below `elc_composer` that holds a module; the name of a command beside the folders."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def test_the_model_imports_only_torch_transformers_and_itself() -> None:
    allowed = {"torch", "transformers", "numpy", "triton", f"{PACKAGE}.model"}
    for file in files(f"{PACKAGE}/model"):
        for name in imports(file):
            top = name.split(".")[0]
            own = ".".join(name.split(".")[:2])
            assert top in sys.stdlib_module_names or top in allowed or own in allowed, f"{file.name} imports {name}"


def test_training_never_imports_preparation() -> None:
    for file in files(PACKAGE):
        for name in imports(file):
            assert name.split(".")[0] != "streaming_prep", f"{file.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("folder", WITHOUT_TRAINING)
def test_libraries_do_not_import_the_training_run(folder: str) -> None:
    for file in files(f"{PACKAGE}/{folder}"):
        for name in imports(file):
            assert not name.startswith(f"{PACKAGE}.training"), f"{file.relative_to(ROOT)} imports {name}"


def test_folders_do_not_import_each_other_in_circles() -> None:
    folders = {path.name for path in (ROOT / PACKAGE).iterdir() if path.is_dir() and list(path.glob("*.py"))}
    commands = {path.stem for path in (ROOT / PACKAGE).glob("*.py")} - {"__init__"}
    graph: dict[str, set[str]] = {folder: set() for folder in folders}
    for folder in folders:
        for file in files(f"{PACKAGE}/{folder}"):
            for name in imports(file):
                other = folder_of(name) if name.startswith(f"{PACKAGE}.") else ""
                assert other not in commands, f"{file.relative_to(ROOT)} imports the command {name}"
                if other and other != folder:
                    graph[folder].add(other)
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"folders import each other in a circle: {' -> '.join(error.args[1])}")


def test_tests_share_helpers_through_helper_modules() -> None:
    for file in files("tests"):
        for name in imports(file):
            parts = name.split(".")
            shared = parts[0] == "tests" and any(part.startswith("test_") for part in parts[1:])
            assert not shared, f"{file.relative_to(ROOT)} imports from {name}; move what they share to a helper module"
            assert parts[0] != "benchmarks", f"{file.relative_to(ROOT)} imports {name}"
        # Scripts that a test holds as text and runs in another process.
        inside_text = re.search(r"\b(?:from|import) (?:tests\.(?:\w+\.)*test_|benchmarks)\w*", file.read_text())
        assert inside_text is None, f"{file.relative_to(ROOT)}: a script imports: {inside_text and inside_text[0]}"


def test_launched_scripts_lie_in_jobs_folders() -> None:
    scripts = [str(file.relative_to(ROOT)) for file in files("tests") if file.stem.endswith("_job")]
    assert [name for name in scripts if "/jobs/" not in name] == []

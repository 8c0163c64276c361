"""Import rules between the packages and folders, read from the source without importing it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = "elc_composer"
LAYERS = (
    "finetuning", "training", "publishing", "analyze", "report", "callbacks", "evaluation", "figures", "data",
    "model_files", "checkpoints", "optim", "model", "prepared", "common",
)  # fmt: skip
"""Folders in the order of docs/architecture.md: each imports only from those after it."""
SHARED_WITH_PREPARATION = ("common", "evaluation.minimal_pairs", "prepared")
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


def test_folders_import_only_from_layers_below() -> None:
    folders = {path.name for path in (ROOT / PACKAGE).iterdir() if path.is_dir() and list(path.glob("*.py"))}
    assert folders == set(LAYERS)
    for place, folder in enumerate(LAYERS):
        allowed = {folder, *LAYERS[place + 1 :]}
        for file in files(f"{PACKAGE}/{folder}"):
            for name in imports(file):
                if name.startswith(f"{PACKAGE}."):
                    assert folder_of(name) in allowed, f"{file.relative_to(ROOT)} imports {name}"


def test_preparation_imports_only_what_it_shares() -> None:
    shared = tuple(f"{PACKAGE}.{name}" for name in SHARED_WITH_PREPARATION)
    for file in files("streaming_prep"):
        for name in imports(file):
            if name.startswith(f"{PACKAGE}."):
                assert name.startswith(shared) or f"{name}.".startswith(shared), f"{file.name} imports {name}"


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

"""The wheel: what is in it, and that all of it works where there is no checkout."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path

import pytest

from elc_composer import launch_training
from elc_composer.common.errors import ConfigError
from elc_composer.common.shipped_configs import config_file, shipped_configs
from tests.conftest import ROOT
from tests.multirank.launch import free_port
from tests.runs import TINY

PACKAGES = ("elc_composer", "streaming_prep")
COMMANDS = {"analyze", "convert", "evaluate", "export", "finetune", "prep", "publish", "quickstart", "report", "train"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because setuptools leaves `build/` and an `.egg-info` beside its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in (*PACKAGES, "yamls"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(folder)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(folder / "source")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    (built,) = folder.glob("*.whl")
    return built


def files(folder: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_has_every_file_of_the_packages_and_the_configs_once(wheel: Path) -> None:
    listed = zipfile.ZipFile(wheel).namelist()
    assert len(listed) == len(set(listed))
    found = {name for name in listed if ".dist-info/" not in name}
    configs = {f"elc_composer/{name}" for name in files("yamls")}
    assert found == files("elc_composer") | files("streaming_prep") | configs
    assert {
        "elc_composer/py.typed",
        "streaming_prep/py.typed",
        "elc_composer/report/templates/page.html",
        "elc_composer/yamls/elc_strict.yaml",
        "elc_composer/yamls/finetune/rte.yaml",
    } <= found


def test_every_command_of_the_wheel_is_a_function(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
    entries = ConfigParser()
    entries.read_string(archive.read(name).decode())
    assert set(entries["console_scripts"]) == {f"elc-{command}" for command in COMMANDS}
    for place in entries["console_scripts"].values():
        module, _, function = place.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_configs_of_the_package_have_names() -> None:
    assert config_file("yamls:elc_strict_small") == ROOT / "yamls" / "elc_strict_small.yaml"
    assert config_file("yamls:finetune/rte.yaml") == ROOT / "yamls" / "finetune" / "rte.yaml"
    assert config_file("yamls/elc_strict.yaml") == Path("yamls/elc_strict.yaml")
    expected = {str(path.relative_to(ROOT / "yamls").with_suffix("")) for path in (ROOT / "yamls").rglob("*.yaml")}
    assert set(shipped_configs()) == expected


@pytest.mark.parametrize("name", ["yamls:elc_strickt", "yamls:", "yamls:../pyproject"])
def test_an_unknown_name_lists_those_that_exist(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"no such config.*yamls:elc_strict, .*yamls:finetune/rte, .*yamls:quick"
    ) as it:
        config_file(name)
    assert "\n" not in str(it.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["yamls:nope"], "yamls:nope: no such config"),
        (["yamls:quickstart", "-n", "5"], "global_train_batch_size 32 is not a multiple of the 5 ranks"),
        (["yamls:quickstart", "-n", "2", "seeed=1"], "did you mean 'seed'?"),
        (["yamls:quickstart", "data.streams.0.local=nowhere", "-n", "2"], "data folder nowhere does not exist"),
        (["yamls:quickstart", "data.streams.0.local=nowhere", "-n", "2", "--dry-run"], "nowhere does not exist"),
        (["yamls:finetune/rte", "-n", "2"], "fine-tuning runs on one device"),
    ],
)
def test_input_errors_are_one_line_before_any_rank_starts(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Runs in this process, of other tests, leave the variables of a rank behind.
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("elc_composer.launch.launch", lambda arguments: pytest.fail("it launched ranks"))
    assert launch_training.main(arguments) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert message in printed.err


@pytest.mark.parametrize(
    ("environment", "asked", "expected"),
    [
        ({}, 3, (3, 3)),
        ({"LOCAL_WORLD_SIZE": "2"}, None, (2, 2)),
        ({"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}, 4, (4, 4)),
        ({"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "8"}, None, (2, 8)),
        ({"WORLD_SIZE": "8"}, 1, (1, 8)),
    ],
)
def test_the_number_of_processes_is_that_of_composers_launcher(
    environment: dict[str, str], asked: int | None, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launch_training._processes(asked) == expected


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs a command of an environment that has the wheel, in an empty folder; the checkout cannot be imported."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(wheel)]
    subprocess.run(command, check=True)
    # The dependencies: this environment's. A folder named in a .pth file is not searched for further .pth files, so
    # an editable installation in it has no effect.
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    work = folder / "work"
    work.mkdir()

    def run(name: str, *arguments: object, code: int = 0) -> str:
        command = [str(python.parent / name), *map(str, arguments)]
        done = subprocess.run(
            command, check=False, cwd=work, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == code, f"{command} exited with {done.returncode}\n{done.stdout[-4000:]}"
        return done.stdout

    return run


@pytest.mark.slow
def test_commands_of_an_installed_wheel_print_their_usage(installed: Callable[..., str]) -> None:
    where = installed("python", "-c", "import elc_composer, streaming_prep; print(elc_composer, streaming_prep)")
    assert str(ROOT) not in where
    for name in sorted(COMMANDS):
        assert installed(f"elc-{name}", "--help").startswith("usage: ")
    assert "no such config" in installed("elc-train", "yamls:nope", code=2)


@pytest.mark.slow
def test_an_installed_wheel_prepares_and_trains_in_an_empty_folder(installed: Callable[..., str]) -> None:
    installed("python", "-m", "streaming_prep.toy", "--out", "toy", "--words", 5000, "--pairs", 20)
    build = ["build", "--corpus", "toy/corpus", "--out", "data", "--vocab-size", 1024, "--seq-length", 32, 64]
    installed("elc-prep", *build)
    entries = json.loads(installed("python", "-c", "print(open('data/manifest.json').read())"))
    settings = TINY | {
        "max_steps": 2,
        "data.streams.0.local": "data",
        "model.vocab_size": entries["tokenizer"]["vocab_size"],
        "evaluators.minimal_pairs.0.path": "toy/minimal_pairs",
    }
    overrides = [f"{key}={value}" for key, value in settings.items()]
    assert "ready to train" in installed("elc-train", "yamls:quickstart", *overrides, "--dry-run")
    installed("elc-train", "yamls:quickstart", *overrides, "run_folder=one")
    installed("elc-train", "yamls:quickstart", *overrides, "run_folder=two", "-n", 2)
    launcher = ["-m", "composer.cli.launcher", "-n", 2, "--master_port", free_port(), "-m", "elc_composer.train"]
    installed("python", *launcher, "yamls:quickstart", *overrides, "run_folder=three")
    installed("elc-report", "one", "two", "three")
    installed("elc-export", "two", "exported")
    last = "import json; print(json.loads(open('{}/metrics.jsonl').readlines()[-1])['step'])"
    for run in ("one", "two", "three"):
        assert installed("python", "-c", last.format(run)).strip()

"""The shipped fine-tuning configs, and the choice between the two kinds of config."""

from __future__ import annotations

from pathlib import Path

import pytest

from elc_composer.finetuning.config import load_finetuning
from elc_composer.finetuning.dispatch import is_finetuning
from elc_composer.finetuning.tasks import TASKS
from tests.conftest import ROOT

SHIPPED = sorted((ROOT / "yamls" / "finetune").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configs_load(path: Path) -> None:
    section = load_finetuning(path, [])
    assert is_finetuning(path)
    assert section.own is not None or section.task in TASKS


def test_a_training_config_is_not_taken_for_fine_tuning() -> None:
    assert not is_finetuning(ROOT / "yamls" / "quickstart.yaml")

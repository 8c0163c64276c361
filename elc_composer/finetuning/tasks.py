"""Classification tasks of the BabyLM pipelines: which fields of an example are read, and which metrics count.

Inputs as in the pipelines of 2025 and 2026 (`finetune/dataset.py`); names of the MSGS sets as in that of 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elc_composer.common.errors import ConfigError


@dataclass(frozen=True)
class Task:
    """One task: its inputs, labels, metrics and evaluation files."""

    name: str
    first: tuple[str, ...]
    """Fields of the first text."""
    second: tuple[str, ...] = ()
    """Fields of the second text; none for tasks of one text."""
    template: str | None = None
    """Format of the first text; by default its fields are joined by spaces."""
    classes: int = 2
    metrics: tuple[str, ...] = ("accuracy",)
    """Reported metrics: `accuracy`, `f1` (of class 1) and `mcc` (Matthews correlation)."""
    label: str = "label"
    """Field of the label."""
    names: tuple[str, ...] | None = None
    """Labels as text, in the order of their classes; None: the labels are the numbers of the classes."""
    more: tuple[str, ...] = ()
    """Further evaluation sets, scored with the model that the first one chose."""
    condition: str | None = None
    """Rows whose field `condition` has another value are not scored; they are if they lack the field."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Every field that holds text."""
        return (*self.first, *self.second)

    def texts(self, row: Mapping[str, Any]) -> tuple[str, str | None]:
        """The one or two texts of an example."""
        values = [row[name] for name in self.first]
        first = " ".join(values) if self.template is None else self.template.format(*values)
        return first, " ".join(row[name] for name in self.second) if self.second else None


_MSGS_CONTROL = (
    "control_raising_control", "lexical_content_the_control", "main_verb_control", "relative_position_control",
    "syntactic_category_control",
)  # fmt: skip
MSGS_MIXED = (
    "control_raising_lexical_content_the", "control_raising_relative_token_position", "main_verb_lexical_content_the",
    "main_verb_relative_token_position", "syntactic_category_lexical_content_the",
    "syntactic_category_relative_position",
)  # fmt: skip
"""Sets in which a linguistic and a surface feature agree in training and differ in the test."""
MSGS = (*_MSGS_CONTROL, *MSGS_MIXED)

_GLUE = (
    Task("boolq", ("question",), ("passage",)),
    Task("cola", ("sentence",), metrics=("accuracy", "mcc")),
    Task("mnli", ("premise",), ("hypothesis",), classes=3, more=("mismatched",)),
    Task("mrpc", ("sentence1",), ("sentence2",), metrics=("accuracy", "f1")),
    Task("multirc", ("question", "answer"), ("paragraph",), "Question: {} Answer: {}"),
    Task("qnli", ("question",), ("sentence",)),
    Task("qqp", ("question1",), ("question2",), metrics=("accuracy", "f1")),
    Task("rte", ("sentence1",), ("sentence2",)),
    Task("sst2", ("sentence",)),
    Task("wsc", ("span2_text", "span1_text"), ("text",), 'Does "{}" refer to "{}" in this passage?'),
)
TASKS = {
    **{task.name: task for task in _GLUE},
    **{name: Task(name, ("sentence",), metrics=("accuracy", "mcc"), condition="test") for name in MSGS},
}
GROUPS = {"glue": ("boolq", "mnli", "mrpc", "multirc", "qqp", "rte", "wsc"), "msgs": MSGS}
"""Names that stand for several tasks: the seven of the 2025 and 2026 pipelines, and the eleven MSGS sets."""


def choose(names: Sequence[str]) -> list[Task]:
    """The tasks of these names and groups, without repetitions.

    Raises:
        ConfigError: an unknown name.
    """
    found: dict[str, Task] = {}
    for name in names:
        for each in GROUPS.get(name, (name,)):
            if each not in TASKS:
                allowed = ", ".join([*(task.name for task in _GLUE), *MSGS, *GROUPS])
                raise ConfigError(f"task: '{each}' is unknown, must be one of {allowed}")
            found[each] = TASKS[each]
    return list(found.values())

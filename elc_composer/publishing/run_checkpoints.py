"""Finds the checkpoints of a run that can become branches, and tells which run it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elc_composer.checkpoints.names import step_of
from elc_composer.common.errors import ConfigError, DataError, one_line
from elc_composer.common.run_folder import CHECKPOINTS, CONFIG, EVENTS
from elc_composer.report.recorded_events import read_events
from elc_composer.report.run_reader import read_config


def branch_name(step: int) -> str:
    """The branch of the checkpoint after `step` steps: `ba1100`."""
    return f"ba{step}"


def find_checkpoints(run: Path) -> dict[int, Path]:
    """Step -> checkpoint file or sharded folder of a run, ascending.

    Raises:
        DataError: no such folder, it is not a run's, or it holds no checkpoint.
    """
    if not run.is_dir():
        raise DataError(f"{run} is not a folder; give the run_folder of a run, such as runs/elc_strict")
    config, _ = read_config(run / CONFIG)
    if not config:
        raise DataError(f"{run} has no {CONFIG}; give the run_folder of a run, such as runs/elc_strict")
    section = config.get("checkpoints")
    named = section.get("save_folder") if isinstance(section, dict) else None
    places = [run / CHECKPOINTS]
    if isinstance(named, str) and "://" not in named:
        places.append(Path(named))
    found: dict[int, Path] = {}
    try:
        for place in places:
            for path in sorted(place.iterdir()) if place.is_dir() else []:
                whole = path.is_file() or (path / ".metadata").is_file()
                step = step_of(path.name)
                if whole and step is not None and not path.is_symlink():
                    found.setdefault(step, path)
    except OSError as error:
        raise DataError(f"{run} cannot be read ({error.strerror or one_line(error)})") from None
    if not found:
        remote = f"; they are in {named}: copy them there first" if isinstance(named, str) and "://" in named else ""
        raise DataError(f"{places[0]} holds no checkpoint named like ba100-rank0.pt{remote}")
    return dict(sorted(found.items()))


def chosen_steps(checkpoints: dict[int, Path], names: Sequence[str]) -> list[int]:
    """The steps of the named checkpoints, ascending.

    Args:
        checkpoints: see `find_checkpoints`.
        names: `all`, or names such as `ba100` (file names are understood as well).

    Raises:
        ConfigError: a name is unknown.
    """
    if list(names) == ["all"]:
        return list(checkpoints)
    by_name = {name: step for step, path in checkpoints.items() for name in (branch_name(step), path.name)}
    for name in names:
        if name not in by_name:
            known = ", ".join(branch_name(step) for step in checkpoints)
            raise ConfigError(f"--checkpoints: there is no {name}; give all, or names among {known}")
    return sorted({by_name[name] for name in names})


def identity(run: Path) -> dict[str, Any]:
    """What tells a run from another: its name and when it started (None if events.jsonl does not tell)."""
    config, _ = read_config(run / CONFIG)
    events, _ = read_events(run / EVENTS)
    first = next((event.time for event in events if event.name == "started"), None)
    return {"run": str(config.get("run_name") or run.resolve().name), "started": first}

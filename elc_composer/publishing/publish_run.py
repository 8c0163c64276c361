"""Publishes a run: one branch per checkpoint, then the final model on main."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from elc_composer.common.errors import DataError
from elc_composer.common.files import write_json
from elc_composer.common.run_folder import MODEL_CONFIG, TOKENIZER
from elc_composer.model_files.run_model import beside, read_model_config
from elc_composer.model_files.trainer_checkpoint import read_trainer_checkpoint
from elc_composer.publishing.facts import read_facts
from elc_composer.publishing.model_card import Card
from elc_composer.publishing.model_folder import write_model
from elc_composer.publishing.placing import make_readable
from elc_composer.publishing.repository import MAIN, ORIGIN, Repository
from elc_composer.publishing.run_checkpoints import branch_name, chosen_steps, find_checkpoints, identity
from elc_composer.publishing.self_check import Expected, check_folders, expect


@dataclass(frozen=True)
class Revision:
    """A branch of the repository and the files for it."""

    name: str
    checkpoint: Path
    folder: Path
    expected: Expected

    def files(self) -> dict[str, int]:
        """File name -> bytes."""
        return {path.name: path.stat().st_size for path in sorted(self.folder.iterdir())}


@dataclass(frozen=True)
class Plan:
    """What a call of `publish` is to write."""

    kept: list[str]
    """Branches of this run that the repository holds already."""
    new: list[Revision]
    main: Revision


def plan_publication(
    run: Path, repository: Repository, staging: Path, names: Sequence[str], card: Card, *, ask: bool = True
) -> Plan:
    """Write the files of every branch that the repository lacks, and those of main, into `staging`.

    Args:
        run: the run folder.
        repository: where to publish; `ask=False` does not ask it for its branches.
        staging: an empty folder.
        names: checkpoints to publish: `all`, or names such as `ba100`.
        card: licence, language and datasets for the model cards; the rest is set here.
        ask: see `repository`.

    Raises:
        ConfigError: a checkpoint's name is unknown.
        DataError: the run or a checkpoint cannot be read, or the repository holds another run's model.
    """
    checkpoints = find_checkpoints(run)
    steps = chosen_steps(checkpoints, names)
    config, tokenizer = run / MODEL_CONFIG, beside(run, TOKENIZER)
    if not config.is_file() or tokenizer is None:
        raise DataError(
            f"{run} lacks {TOKENIZER if config.is_file() else MODEL_CONFIG}, which a run writes at its start"
        )
    own = identity(run)
    origins = repository.origins() if ask else {}
    refuse_other_runs(repository.name, own, origins)
    kept = [branch_name(step) for step in steps if _is_whole(origins, branch_name(step))]
    published = {name for name in origins if name != MAIN and _is_whole(origins, name)}
    branches = sorted(published | {branch_name(step) for step in steps}, key=lambda name: int(name[2:]))

    def stage(name: str, step: int) -> Revision:
        folder = staging / name
        folder.mkdir()
        model = read_trainer_checkpoint(checkpoints[step], read_model_config(config))
        facts = read_facts(run, step)
        said = replace(
            card, location=repository.name, facts=facts, arguments=repository.arguments(name), note=repository.note
        )
        write_model(model, tokenizer, folder, replace(said, branches=branches if name == MAIN else ()))
        write_json(folder / ORIGIN, {**own, "branch": name, "checkpoint": branch_name(step)})
        make_readable(folder)
        return Revision(name, checkpoints[step], folder, expect(model, folder))

    new = [stage(branch_name(step), step) for step in steps if branch_name(step) not in kept]
    return Plan(kept, new, stage(MAIN, max(checkpoints)))


def refuse_other_runs(name: str, own: dict[str, Any], origins: dict[str, dict[str, Any] | None]) -> None:
    """Refuse a repository with another run's revisions: its branches would belong to two models.

    Raises:
        DataError: naming the other run.
    """
    for branch, origin in origins.items():
        if origin and (origin.get("run"), origin.get("started")) != (own["run"], own["started"]):
            raise DataError(
                f"{name} holds another run: {branch} is of {origin.get('run')!r}, started {origin.get('started')}, not "
                f"{own['run']!r}, started {own['started']}; choose another name or place"
            )


def write_plan(plan: Plan, repository: Repository, *, check: bool, say: Callable[[str], None]) -> None:
    """Check all new folders in one fresh process, then write the branches, main last.

    Args:
        plan: see `plan_publication`.
        repository: where to write.
        check: whether to load the folders and compare their logits with the checkpoints'.
        say: is called with a line for each thing that was done.

    Raises:
        DataError: the check fails (nothing is written then), or the repository cannot be written.
    """
    started = time.monotonic()
    missing = [each for each in [*plan.new, plan.main] if not repository.holds(each.name, each.folder)]
    if check and missing:
        check_folders([revision.expected for revision in missing])
        number = f"{len(missing)} folder{'s' * (len(missing) > 1)}"
        seconds = time.monotonic() - started
        say(f"{number} loaded in a fresh process, same logits as in the checkpoint ({seconds:.1f} s)")
    for revision in [*plan.new, plan.main]:
        changed = repository.write(revision.name, revision.folder)
        say(f"{revision.name:<10} {'written' if changed else 'unchanged'}, from {revision.checkpoint.name}")
    for name in plan.kept:
        say(f"{name:<10} there already")


def listing(plan: Plan) -> list[str]:
    """Branches, files and sizes of a plan, as lines."""
    lines = []
    for revision in [*plan.new, plan.main]:
        sizes = revision.files()
        lines.append(
            f"{revision.name}: {len(sizes)} files, {sum(sizes.values()):,} bytes, from {revision.checkpoint.name}"
        )
        lines += [f"  {size:>12,}  {name}" for name, size in sizes.items()]
    return lines + [f"{name}: there already" for name in plan.kept]


def _is_whole(origins: dict[str, dict[str, Any] | None], branch: str) -> bool:
    """Whether a branch holds its own checkpoint; one whose upload was interrupted still holds main's files."""
    origin = origins.get(branch)
    return origin is not None and origin.get("branch") == branch

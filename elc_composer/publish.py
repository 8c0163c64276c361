"""Publishes a run as a repository: the final model on main, and one branch per checkpoint.

    python -m elc_composer.publish RUN --to FOLDER|hf://user/name [--checkpoints all|NAME ...] [--dry-run]

A second call adds the checkpoints that are new and changes nothing else. See docs/publishing.md.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elc_composer.common.addresses import is_address, refuse_addresses
from elc_composer.common.errors import ConfigError, DataError, one_line
from elc_composer.publishing.hub_repository import HubRepository
from elc_composer.publishing.local_repository import LocalRepository, check_name
from elc_composer.publishing.model_card import Card
from elc_composer.publishing.options import add_card_options
from elc_composer.publishing.placing import staged
from elc_composer.publishing.publish_run import listing, plan_publication, write_plan
from elc_composer.publishing.repository import MAIN
from elc_composer.publishing.run_checkpoints import find_checkpoints, identity

HUB = "hf://"


def main(arguments: Sequence[str] | None = None, api: Any = None) -> int:
    """Command line; returns 0 if the repository is up to date, else 1 after an error message of one line.

    Args:
        arguments: the command line's, by default those of this process.
        api: stands for huggingface_hub's HfApi.
    """
    parser = argparse.ArgumentParser(prog="python -m elc_composer.publish", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--to", required=True, metavar="FOLDER|hf://user/name", help="local repository, or the Hub")
    parser.add_argument(
        "--checkpoints", nargs="+", default=["all"], metavar="NAME", help="all (default), or names such as ba1100"
    )
    parser.add_argument("--name", metavar="USER/NAME", help="name in a local repository; default: local/<run_name>")
    parser.add_argument("--private", action="store_true", help="make a new repository on the Hub private")
    parser.add_argument("--dry-run", action="store_true", help="list branches, files and sizes; write and send nothing")
    add_card_options(parser)
    chosen = parser.parse_args(arguments)
    try:
        publish(chosen, api)
    except (ConfigError, DataError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


def publish(chosen: argparse.Namespace, api: Any) -> None:
    """Publish as the options say; see `main`.

    Raises:
        ConfigError: an option is invalid.
        DataError: the run or the repository does not allow it.
    """
    refuse_addresses({"RUN": chosen.run})
    card = Card("", license=chosen.license, language=chosen.language, datasets=tuple(chosen.dataset))
    find_checkpoints(chosen.run)
    repository = open_repository(chosen, api)
    if isinstance(repository, HubRepository):
        with tempfile.TemporaryDirectory(prefix="elc_publish_") as staging:
            carry_out(chosen, repository, Path(staging), card, ask=not chosen.dry_run)
    else:
        with staged(repository.folder) as staging:
            carry_out(chosen, repository, staging, card)
    if not chosen.dry_run:
        where = f"{repository.name!r}{repository.arguments(MAIN)}"
        print(f"load it with AutoModelForMaskedLM.from_pretrained({where}, trust_remote_code=True)")
        if repository.note:
            print(repository.note)


def open_repository(chosen: argparse.Namespace, api: Any) -> HubRepository | LocalRepository:
    """The repository that --to names.

    Raises:
        ConfigError: --to or --name is malformed.
        DataError: a folder that holds something else, or no login.
    """
    if chosen.to.startswith(HUB):
        name = check_name(chosen.to.removeprefix(HUB).rstrip("/"), "--to")
        if chosen.name:
            raise ConfigError(f"--name {chosen.name} is for a local repository; --to {chosen.to} names one on the Hub")
        repository = HubRepository(name, chosen.private, api)
        if not chosen.dry_run:
            repository.check_login()
        return repository
    if is_address(chosen.to):
        raise ConfigError(f"--to {chosen.to} is not supported; it must be a folder, or hf://user/name")
    plain = re.sub(r"[^\w.-]+|--+|\.\.+", "-", identity(chosen.run)["run"], flags=re.ASCII).strip("-._") or "run"
    return LocalRepository(Path(chosen.to), check_name(chosen.name or f"local/{plain}", "--name"))


def carry_out(
    chosen: argparse.Namespace,
    repository: HubRepository | LocalRepository,
    staging: Path,
    card: Card,
    *,
    ask: bool = True,
) -> None:
    """Stage the revisions in an empty folder, and list or write them."""
    plan = plan_publication(chosen.run, repository, staging, chosen.checkpoints, card, ask=ask)
    if chosen.dry_run:
        print("\n".join(listing(plan)))
    else:
        write_plan(plan, repository, check=chosen.check, say=lambda line: print(line, flush=True))


if __name__ == "__main__":
    sys.exit(main())

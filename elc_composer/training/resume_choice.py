"""Choice of the checkpoint that a run resumes from, agreed on by all ranks."""

from __future__ import annotations

from typing import Any

from composer.utils import dist

from elc_composer.checkpoints.resume import ResumePoint, ensure_here, find_resume_point
from elc_composer.common.errors import ConfigError, DataError
from elc_composer.training.config import RunConfig
from elc_composer.training.same_run import check_same_run


def choose_resume_point(config: RunConfig) -> ResumePoint | None:
    """Rank 0 looks for a checkpoint, other nodes fetch it; all ranks get it, or raise what one of them raised."""
    found: list[Any] = [None]
    problem: Exception | None = None
    if dist.get_global_rank() == 0:
        try:
            found[0] = find_resume_point(config.checkpoints, config.run_folder)
            if found[0] is not None:
                check_same_run(config)
        except (ConfigError, DataError) as error:
            problem = error
    dist.broadcast_object_list(found)
    if found[0] is not None and dist.get_local_rank() == 0:
        try:
            ensure_here(found[0], config.checkpoints)
        except DataError as error:
            problem = error
    for each in dist.all_gather_object(problem):
        if each is not None:
            raise each
    return found[0]

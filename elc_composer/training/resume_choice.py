"""Choice of the checkpoint that a run resumes from, agreed on by all ranks."""

from __future__ import annotations

from composer.utils import dist

from elc_composer.checkpoints.resume import ResumePoint, ensure_here, find_resume_point
from elc_composer.common.errors import DataError
from elc_composer.common.process_group import on_rank_zero
from elc_composer.data.masking import MaskingConfig
from elc_composer.training.config import RunConfig
from elc_composer.training.same_run import check_same_run


def choose_resume_point(config: RunConfig) -> tuple[ResumePoint | None, MaskingConfig]:
    """The checkpoint to resume from, present on every node (None for a new run), and the masking settings of the run.

    Rank 0 chooses, then the first rank of each other node fetches the checkpoint.

    Raises:
        ConfigError, DataError: from rank 0 or any node, on every rank.
    """
    point, masking = on_rank_zero(lambda: _find(config))
    problem: DataError | None = None
    if point is not None and dist.get_local_rank() == 0:
        try:
            ensure_here(point, config.checkpoints)
        except DataError as error:
            problem = error
    for each in dist.all_gather_object(problem):
        if each is not None:
            raise each
    return point, masking


def _find(config: RunConfig) -> tuple[ResumePoint | None, MaskingConfig]:
    point = find_resume_point(config.checkpoints, config.run_folder)
    return point, config.masking if point is None else check_same_run(config)

"""The stages that turn tokens into shards: plan the segments of each output, then write its shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from elc_composer.common.errors import DataError
from elc_composer.prepared.layout import dataset_name
from streaming_prep.corpus_files import SPLITS
from streaming_prep.jobs.plan import PlanSegments, PlanSpec, read_plan
from streaming_prep.jobs.shard import ShardSpec, TokenPiece, WriteShard, WrittenShard
from streaming_prep.mds_shards import samples_per_shard
from streaming_prep.packing import PackingReport
from streaming_prep.stage_runner import StageRunner, run_in_this_process
from streaming_prep.texts import TokenText

_TOKENS_WORTH_WORKERS = 20_000_000


@dataclass(frozen=True)
class Output:
    """One split at one sequence length."""

    split: str
    seq_length: int
    texts: list[TokenText]
    plan: PlanSegments
    packed: PackingReport
    encoding: str
    """Of the MDS column."""
    shards: list[tuple[WriteShard, WrittenShard]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its folder, such as `seq_128/train`."""
        return dataset_name(self.seq_length, self.split)


def plan_outputs(runner: StageRunner, texts: Sequence[TokenText], encoding: str) -> list[Output]:
    """Plan the segments of every split and sequence length. Raises `DataError` for an output without text."""
    wanted: list[tuple[str, int, list[TokenText]]] = []
    for split in SPLITS:
        own = [text for text in texts if text.clean.split == split]
        if own:
            wanted += [(split, seq_length, own) for seq_length in runner.settings.lengths()]
    jobs = [_plan_job(runner, own, seq_length) for _, seq_length, own in wanted]
    outputs = []
    for (split, seq_length, own), job, packed in zip(wanted, jobs, runner.run("pack", jobs)):
        output = Output(split, seq_length, own, job, packed, encoding)
        if not packed.samples:
            raise DataError(f"no text is left after cleaning the {split} files; give --corpus folders of text")
        outputs.append(output)
    return outputs


def write_shards(runner: StageRunner, outputs: Sequence[Output]) -> None:
    """Write the shards of all outputs, and add them to the outputs."""
    owners: list[Output] = []
    jobs: list[WriteShard] = []
    for output in outputs:
        for job in _shard_jobs(runner, output):
            owners.append(output)
            jobs.append(job)
    # Each worker that writes shards first imports Streaming and torch, which takes longer than writing little text.
    little = sum(output.packed.tokens for output in outputs) < _TOKENS_WORTH_WORKERS
    written = runner.run("shards", jobs, run_in_this_process if little else None)
    for output, job, shard in zip(owners, jobs, written):
        output.shards.append((job, shard))


def _plan_job(runner: StageRunner, texts: list[TokenText], seq_length: int) -> PlanSegments:
    settings = runner.settings
    # The published packing continues from one file into the next; only a blank line ends a document.
    files_end_documents = settings.packing != "published"
    spec = PlanSpec(
        tokens_of=[text.job.key for text in texts],
        ends_document=[files_end_documents and text.clean.closes_source for text in texts],
        tokens=sum(text.tokenized.tokens for text in texts),
        seq_length=seq_length,
        packing=settings.packing,
        document_aware=settings.document_aware,
    )
    return PlanSegments(runner.work, spec, [text.job.lengths for text in texts])


def _shard_jobs(runner: StageRunner, output: Output) -> Iterator[WriteShard]:
    pieces = _token_pieces(output.texts)
    plan, samples = output.plan, output.packed.samples
    size = samples_per_shard(runner.settings.shard_bytes, output.seq_length, output.encoding)
    for first in range(0, samples, size):
        count = min(size, samples - first)
        begin = int(read_plan(plan.data, first, 1)[0, 0])
        end = int(read_plan(plan.data, first + count - 1, 1).sum())
        own = [piece for piece in pieces if piece.start < end and piece.start + piece.tokens > begin]
        spec = ShardSpec(plan.key, first, count, output.encoding, runner.version)
        yield WriteShard(runner.work, spec, plan.data, own)


def _token_pieces(texts: Sequence[TokenText]) -> list[TokenPiece]:
    pieces = []
    start = 0
    for text in texts:
        tokens = text.tokenized.tokens
        pieces.append(TokenPiece(text.job.data, start, tokens, text.job.spec.dtype))
        start += tokens
    return pieces

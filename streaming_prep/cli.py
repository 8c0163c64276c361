"""The command line of streaming_prep. Invalid input gives one line on stderr and exit code 2, found damage code 1."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from elc_composer.common.addresses import refuse_addresses
from elc_composer.common.errors import ConfigError, DataError
from streaming_prep.build_arguments import add_build_arguments
from streaming_prep.screen import Screen
from streaming_prep.settings import BuildSettings
from streaming_prep.transfer import is_remote


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 damage found by `verify`, 2 invalid input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        _check_places(options)
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except (ConfigError, DataError) as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader of our output has exited (`| head`). Python would flush the rest at exit and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _fail(_os_error_message(error))
    except KeyboardInterrupt:
        return _fail("interrupted; rerun the same command to resume", 130)


def _check_places(options: argparse.Namespace) -> None:
    """Check addresses before any work; options that take a local path only are of type Path."""
    for option in ("out", "folder"):
        place = getattr(options, option, None)
        if place is not None and not isinstance(place, Path):
            is_remote(place, "--out" if option == "out" else "DIR|URL")
    refuse_addresses({name: value for name, value in vars(options).items() if isinstance(value, (Path, list))})


def _fail(message: str, code: int = 2) -> int:
    print(f"streaming_prep: {message}", file=sys.stderr)
    return code


def _os_error_message(error: OSError) -> str:
    place = error.filename or "the output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left for {place}; free some space and rerun the same command to resume"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission for {place}; give a place that you may write to, or files that you may read"
    return f"{place}: {error.strerror or error}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m streaming_prep",
        description="Prepare raw text for training: clean, tokenize, pack, write shards.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="clean, tokenize, pack and write a corpus")
    add_build_arguments(build)
    build.set_defaults(run=_build)
    verify = commands.add_parser("verify", help="check every file of a prepared folder against its manifest")
    verify.add_argument("folder", metavar="DIR|URL")
    verify.set_defaults(run=_verify)
    stats = commands.add_parser("stats", help="print words and tokens of each corpus, draw the segment lengths")
    stats.add_argument("folder", metavar="DIR|URL")
    stats.add_argument(
        "--out", "--picture", type=Path, metavar="PNG", help="picture to write (default: segment_lengths.png in DIR)"
    )
    stats.set_defaults(run=_stats)
    sample = commands.add_parser("sample", help="print random segments as text")
    sample.add_argument("folder", metavar="DIR|URL")
    sample.add_argument("--output", metavar="NAME", help="such as seq_128/train (default: the first)")
    sample.add_argument("--count", type=int, default=5, metavar="N", help="number of segments (default: 5)")
    sample.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed gives the same segments")
    sample.set_defaults(run=_sample)
    report = commands.add_parser("tokenizer-report", help="report how well a tokenizer fits a corpus")
    report.add_argument("tokenizer", metavar="FILE|DIR", type=Path)
    report.add_argument("--corpus", required=True, nargs="+", type=Path, metavar="DIR", help="folders of text")
    report.add_argument("--cleaner", default="auto", metavar="NAME", help="auto, none, or a corpus's name")
    report.add_argument("--split", default="train", help="train or dev (default: train)")
    report.add_argument(
        "--frequencies", type=Path, metavar="FILE", help="write the counts of all pieces to this TSV file"
    )
    report.set_defaults(run=_tokenizer_report)
    pairs = commands.add_parser("minimal-pairs", help="convert minimal pairs (BLiMP's JSONL) to MDS")
    pairs.add_argument("source", metavar="DIR|FILE", type=Path)
    pairs.add_argument("--out", required=True, metavar="DIR|URL", help="folder, or s3://bucket/prefix")
    pairs.set_defaults(run=_minimal_pairs)
    return parser


def _build(options: argparse.Namespace) -> int:
    from streaming_prep.build import build

    settings = BuildSettings(
        corpus=options.corpus,
        dev=options.dev,
        dev_share=options.dev_share,
        cleaner=options.cleaner,
        errors=options.errors,
        tokenizer=options.tokenizer,
        vocab_size=options.vocab_size,
        min_frequency=options.min_frequency,
        tokenizer_markers=options.tokenizer_markers,
        seq_lengths=options.seq_length,
        packing=options.packing,
        document_aware=options.document_aware,
        shard_bytes=options.shard_bytes,
        chunk_bytes=options.chunk_bytes,
        max_line_bytes=options.max_line_bytes,
    )
    build(
        settings,
        options.out,
        workers=options.workers,
        engine=options.engine,
        work=options.work,
        keep_work=options.keep_work,
        screen=Screen(silent=options.quiet),
    )
    return 0


def _verify(options: argparse.Namespace) -> int:
    from streaming_prep.verify import verify

    damage = verify(options.folder, Screen())
    for line in damage:
        print(f"streaming_prep: {line}", file=sys.stderr)
    return 1 if damage else 0


def _stats(options: argparse.Namespace) -> int:
    from streaming_prep.stats import print_stats

    print_stats(options.folder, options.out)
    return 0


def _sample(options: argparse.Namespace) -> int:
    from streaming_prep.sample import print_sample

    print_sample(options.folder, options.output, options.count, options.seed)
    return 0


def _tokenizer_report(options: argparse.Namespace) -> int:
    from streaming_prep.corpus_report import print_tokenizer_report

    print_tokenizer_report(options.tokenizer, options.corpus, options.cleaner, options.split, options.frequencies)
    return 0


def _minimal_pairs(options: argparse.Namespace) -> int:
    from streaming_prep.convert_pairs import convert_minimal_pairs

    counts = convert_minimal_pairs(options.source, options.out)
    for paradigm, count in counts.items():
        print(f"{paradigm:<56}{count:>7,}")
    print(f"{len(counts)} paradigms, {sum(counts.values()):,} minimal pairs: {options.out}")
    return 0

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
from streaming_prep.engines import ENGINES
from streaming_prep.packing import PACKINGS
from streaming_prep.screen import Screen
from streaming_prep.settings import ERRORS, BuildSettings
from streaming_prep.train_tokenizer import MARKERS
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
        if (place := getattr(options, option, None)) is not None:
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
    _add_build(commands.add_parser("build", help="clean, tokenize, pack and write a corpus"))
    verify = commands.add_parser("verify", help="check every file of a prepared folder against its manifest")
    verify.add_argument("folder", metavar="DIR|URL")
    verify.set_defaults(run=_verify)
    stats = commands.add_parser("stats", help="print words and tokens of each corpus, draw the segment lengths")
    stats.add_argument("folder", metavar="DIR|URL")
    stats.add_argument("--picture", type=Path, help="PNG to write (default: segment_lengths.png)")
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


def _add_build(build: argparse.ArgumentParser) -> None:
    default = BuildSettings(corpus=[])
    build.add_argument("--corpus", required=True, nargs="+", type=Path, metavar="DIR", help="folders of text")
    build.add_argument("--out", required=True, metavar="DIR|URL", help="folder, or s3://bucket/prefix")
    build.add_argument("--dev", nargs="+", type=Path, default=[], metavar="DIR|FILE", help="text of the dev split")
    build.add_argument(
        "--dev-share",
        type=float,
        default=default.dev_share,
        metavar="X",
        help=f"share of the train text that becomes the dev split if there is none (default: {default.dev_share})",
    )
    vocabulary = build.add_mutually_exclusive_group()
    vocabulary.add_argument("--tokenizer", type=Path, metavar="FILE", help="use this tokenizer.json, do not train one")
    vocabulary.add_argument(
        "--vocab-size",
        type=int,
        default=default.vocab_size,
        metavar="N",
        help=f"entries of the trained tokenizer (default: {default.vocab_size:,})",
    )
    build.add_argument(
        "--min-frequency",
        type=int,
        default=default.min_frequency,
        metavar="N",
        help=f"occurrences that a pair needs to become an entry (default: {default.min_frequency})",
    )
    build.add_argument(
        "--tokenizer-markers",
        choices=MARKERS,
        default=default.tokenizer_markers,
        help="[PAR] and [TAB] in the text that the tokenizer is trained on: removed (default), or as for the published "
        "tokenizers",
    )
    build.add_argument(
        "--seq-length",
        type=int,
        nargs="+",
        default=default.seq_lengths,
        metavar="N",
        help="sequence lengths in tokens, with [CLS] and [SEP] (default: 128 512)",
    )
    build.add_argument("--packing", choices=PACKINGS, default=default.packing, help="see docs/data.md")
    build.add_argument("--document-aware", action="store_true", help="with concat: no segment holds two documents")
    build.add_argument("--cleaner", default=default.cleaner, metavar="NAME", help="auto, none, or a corpus's name")
    build.add_argument("--errors", choices=ERRORS, default=default.errors, help="treatment of bytes that are not UTF-8")
    build.add_argument(
        "--shard-bytes", type=int, default=default.shard_bytes, metavar="N", help="size of a shard before compression"
    )
    build.add_argument("--chunk-bytes", type=int, default=default.chunk_bytes, metavar="N", help="raw text of a job")
    build.add_argument(
        "--max-line-bytes", type=int, default=default.max_line_bytes, metavar="N", help="longer lines are an error"
    )
    build.add_argument("--workers", type=int, default=_cpus(), metavar="N", help="processes (default: number of CPUs)")
    build.add_argument("--engine", choices=ENGINES, default="local", help="local processes, or a Ray cluster")
    build.add_argument("--work", type=Path, metavar="DIR", help="work folder for finished jobs (default: OUT/.work)")
    build.add_argument("--keep-work", action="store_true", help="keep the work folder at the end")
    build.add_argument("--quiet", action="store_true", help="print errors only")
    build.set_defaults(run=_build)


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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

    print_stats(options.folder, options.picture or Path("segment_lengths.png"))
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

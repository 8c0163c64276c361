"""The command line. Input that cannot work ends in one line on stderr and code 2, damage found in code 1."""

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
from streaming_prep.transfer import is_remote


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it is done, 1 where verification finds damage, 2 for input that cannot work."""
    options = _parser().parse_args(arguments)
    try:
        _check_places(options)
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except (ConfigError, DataError) as error:
        return _fail(str(error))
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); the interpreter must not try to flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _fail(_os_sentence(error))
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from what is finished", 130)


def _check_places(options: argparse.Namespace) -> None:
    """Check addresses before any work; options that take a local path only are of type Path."""
    for option in ("out", "folder"):
        if (place := getattr(options, option, None)) is not None:
            is_remote(place, "--out" if option == "out" else "DIR|URL")
    refuse_addresses({name: value for name, value in vars(options).items() if isinstance(value, (Path, list))})


def _fail(sentence: str, code: int = 2) -> int:
    print(f"streaming_prep: {sentence}", file=sys.stderr)
    return code


def _os_sentence(error: OSError) -> str:
    place = error.filename or "the output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space is left for {place}; make room and run the same command again to go on"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission for {place}; give a place that you may write to, or files that you may read"
    return f"{place}: {error.strerror or error}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m streaming_prep", description="Raw corpora to MDS shards.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_build(commands.add_parser("build", help="clean, tokenize, pack and write a corpus"))
    verify = commands.add_parser("verify", help="check every shard of a prepared folder against its manifest")
    verify.add_argument("folder", metavar="DIR|URL")
    verify.set_defaults(run=_verify)
    stats = commands.add_parser("stats", help="words and tokens a corpus, and a picture of the segments' lengths")
    stats.add_argument("folder", metavar="DIR|URL")
    stats.add_argument("--picture", type=Path, help="PNG to write (default: segment_lengths.png)")
    stats.set_defaults(run=_stats)
    sample = commands.add_parser("sample", help="print some segments as text")
    sample.add_argument("folder", metavar="DIR|URL")
    sample.add_argument("--output", help="such as seq_128/train (default: the first)")
    sample.add_argument("--count", type=int, default=5)
    sample.add_argument("--seed", type=int, default=0)
    sample.set_defaults(run=_sample)
    report = commands.add_parser("tokenizer-report", help="how well a tokenizer fits a corpus")
    report.add_argument("tokenizer", metavar="FILE|DIR", type=Path)
    report.add_argument("--corpus", required=True, nargs="+", type=Path, metavar="DIR")
    report.add_argument("--cleaner", default="auto")
    report.add_argument("--split", default="train", help="train or dev")
    report.set_defaults(run=_tokenizer_report)
    pairs = commands.add_parser("minimal-pairs", help="turn minimal pairs (BLiMP's JSONL) into MDS")
    pairs.add_argument("source", metavar="DIR|FILE", type=Path)
    pairs.add_argument("--out", required=True, metavar="DIR|URL")
    pairs.set_defaults(run=_minimal_pairs)
    return parser


def _add_build(build: argparse.ArgumentParser) -> None:
    default = BuildSettings(corpus=[])
    build.add_argument("--corpus", required=True, nargs="+", type=Path, metavar="DIR", help="folders of text")
    build.add_argument("--out", required=True, metavar="DIR|URL", help="folder, or s3://bucket/prefix")
    vocabulary = build.add_mutually_exclusive_group()
    vocabulary.add_argument("--tokenizer", type=Path, metavar="FILE", help="tokenizer.json to take")
    vocabulary.add_argument("--vocab-size", type=int, default=default.vocab_size, metavar="N", help="entries to train")
    build.add_argument("--min-frequency", type=int, default=default.min_frequency, metavar="N")
    build.add_argument("--seq-length", type=int, nargs="+", default=default.seq_lengths, metavar="N")
    build.add_argument("--packing", choices=PACKINGS, default=default.packing)
    build.add_argument("--document-aware", action="store_true", help="with concat: no segment holds two documents")
    build.add_argument("--cleaner", default=default.cleaner, help="auto, none, or a corpus's name")
    build.add_argument("--errors", choices=ERRORS, default=default.errors, help="what to do with bytes not UTF-8")
    build.add_argument("--shard-bytes", type=int, default=default.shard_bytes, metavar="N", help="before compression")
    build.add_argument("--chunk-bytes", type=int, default=default.chunk_bytes, metavar="N", help="raw text a job")
    build.add_argument("--max-line-bytes", type=int, default=default.max_line_bytes, metavar="N")
    build.add_argument("--workers", type=int, default=_cpus(), metavar="N", help="processes (default: the CPUs)")
    build.add_argument("--engine", choices=ENGINES, default="local")
    build.add_argument("--work", type=Path, metavar="DIR", help="where finished jobs are kept meanwhile")
    build.add_argument("--keep-work", action="store_true", help="leave the work folder there at the end")
    build.add_argument("--quiet", action="store_true")
    build.set_defaults(run=_build)


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _build(options: argparse.Namespace) -> int:
    from streaming_prep.build import build

    settings = BuildSettings(
        corpus=options.corpus,
        cleaner=options.cleaner,
        errors=options.errors,
        tokenizer=options.tokenizer,
        vocab_size=options.vocab_size,
        min_frequency=options.min_frequency,
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

    print_tokenizer_report(options.tokenizer, options.corpus, options.cleaner, options.split)
    return 0


def _minimal_pairs(options: argparse.Namespace) -> int:
    from streaming_prep.convert_pairs import convert_minimal_pairs

    counts = convert_minimal_pairs(options.source, options.out)
    for paradigm, count in counts.items():
        print(f"{paradigm:<56}{count:>7,}")
    print(f"{len(counts)} paradigms, {sum(counts.values()):,} minimal pairs: {options.out}")
    return 0

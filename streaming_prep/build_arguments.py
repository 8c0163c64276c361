"""Command-line arguments of `streaming_prep build`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from streaming_prep.engines import ENGINES
from streaming_prep.packing import PACKINGS
from streaming_prep.settings import ERRORS, BuildSettings
from streaming_prep.train_tokenizer import MARKERS


def add_build_arguments(build: argparse.ArgumentParser) -> None:
    """Add all arguments; the defaults are those of `BuildSettings`."""
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


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

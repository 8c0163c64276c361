"""`python -m streaming_prep.toy --out DIR [--seed 0] [--words 300000]`: writes the toy language."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from elc_composer.common.addresses import refuse_addresses
from elc_composer.common.errors import ConfigError, DataError
from streaming_prep.toy.write import PAIRS, write_toy_language


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; exit code 2 with one line where the arguments cannot work."""
    parser = argparse.ArgumentParser(
        prog="python -m streaming_prep.toy",
        description="Writes a corpus of a small English-like language and minimal pairs held out from it.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets corpus/ and minimal_pairs/")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (default 0)")
    parser.add_argument("--words", type=int, default=300_000, help="words of the training text (default 300000)")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"minimal pairs of each paradigm (default {PAIRS})")
    options = parser.parse_args(arguments)
    try:
        refuse_addresses(vars(options))
        language = write_toy_language(options.out, options.seed, options.words, options.pairs)
    except (ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{sum(language.words.values()):,} words in {language.corpus}")
    print(
        f"{sum(language.pairs.values()):,} minimal pairs of {len(language.pairs)} paradigms in {language.minimal_pairs}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

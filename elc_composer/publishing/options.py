"""Command-line options that export, convert and publish share."""

from __future__ import annotations

import argparse


def add_card_options(parser: argparse.ArgumentParser) -> None:
    """Add the options on the model card (--license, --language, --dataset) and --no-check."""
    parser.add_argument(
        "--license",
        metavar="ID",
        help="licence of the weights for the model card, such as apache-2.0; default: none stated",
    )
    parser.add_argument("--language", metavar="CODE", help="language for the model card, such as en")
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        action="append",
        default=[],
        help="a dataset on the Hub, for the model card; repeatable",
    )
    parser.add_argument(
        "--no-check",
        dest="check",
        action="store_false",
        help="do not load the folder in a fresh process and compare its outputs (6 to 8 seconds)",
    )

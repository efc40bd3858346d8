"""The command-line arguments of the two steps that train."""

import argparse

from workflow_scripts.core.step import input_file


def training_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the arguments of both steps."""
    parser.add_argument("--encoder", type=input_file, required=True, help="the encoder's record, encoder.json")
    for name, what in (
        ("--train", "tokens.json of the training set in each training language"),
        ("--validation", "tokens.json of the validation sets, in the same order"),
        ("--validation-rows", "the validation sets, parquet, in the same order"),
    ):
        parser.add_argument(name, type=input_file, nargs="+", required=True, help=what)
    for name, what in (
        ("--oracle", "tokens.json of the validation sets in the languages of `oracle`"),
        ("--oracle-rows", "these validation sets, parquet, in the same order"),
    ):
        parser.add_argument(name, type=input_file, nargs="*", default=[], help=what)
    parser.add_argument("--checkpoint-every", type=float, default=180.0, metavar="SECONDS", help="default: 180")
    return parser

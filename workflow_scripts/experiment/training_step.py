"""The command-line arguments of the two steps that train."""

import argparse

from workflow_scripts.experiment.step import input_file


def english_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the arguments of both steps."""
    parser.add_argument("--encoder", type=input_file, required=True, help="the encoder's record, encoder.json")
    parser.add_argument("--train", type=input_file, required=True, help="tokens.json of the English training set")
    parser.add_argument(
        "--validation", type=input_file, required=True, help="tokens.json of the English validation set"
    )
    parser.add_argument("--validation-rows", type=input_file, required=True, help="the English validation set, parquet")
    parser.add_argument("--checkpoint-every", type=float, default=180.0, metavar="SECONDS", help="default: 180")
    return parser

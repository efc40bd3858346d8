"""What the two steps that train have in common: command-line arguments, and the files of a run."""

import argparse
from pathlib import Path

from workflow_scripts.core.files import appears
from workflow_scripts.core.step import input_file

WEIGHTS = "weights.safetensors"
RUN_FILES = (WEIGHTS, "run.json", "log.jsonl")


def has_run(folder: Path) -> bool:
    """Whether a folder has all files of a finished run. Waits for those that another machine has just written."""
    return all(appears(folder / name) for name in RUN_FILES)


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
    parser.add_argument(
        "--copy-every",
        type=float,
        default=1800.0,
        metavar="SECONDS",
        help="from the folder in CROSSPROMPT_SCRATCH to the run's folder; default: 1800",
    )
    return parser

"""Tune one model on the training set and evaluate it on the validation set.

    encoder + tokens         ──> weights.safetensors   the tuned weights only
                                 run.json              settings, evaluations, cost, versions
                                 log.jsonl             loss, learning rate and gradient norm by step

The learning rate, and what else was searched, are those of the search's winner (`--selected`). If the search already
trained it with this run's seed (`--searches`), its files are hard-linked instead of training again. An interrupted
training resumes from the checkpoint in the run's folder. SIGTERM and Ctrl-C save a checkpoint and end the step with
status 75.

The environment variable CROSSPROMPT_DROPPED lists the methods with `keep_weights: false`: the search's weights are then
deleted once its winner is linked.

Settings: `tuning.settings.TrainingSettings`; see the configuration reference.
"""

import argparse
import json
import logging
import os
import shutil
from pathlib import Path

from workflow_scripts.core.files import appears, read_json, unreadable, written
from workflow_scripts.core.names import DROPPED, candidate_folder
from workflow_scripts.core.step import input_file, output_file, run, step_parser
from workflow_scripts.core.training_step import RUN_FILES, WEIGHTS, has_run, training_arguments
from workflow_scripts.tuning.settings import TrainingSettings

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = training_arguments(step_parser(__doc__, TrainingSettings))
    result.add_argument("--selected", type=input_file, required=True, help="selected.json, the winner of the search")
    result.add_argument(
        "--searches", type=input_file, nargs="*", default=[], help="records of this seed's finished searches"
    )
    result.add_argument(
        "--shots", type=input_file, nargs="*", default=[], help="tokens.json of a target language's training set"
    )
    result.add_argument(
        "--run", type=output_file, required=True, help="the run.json to write; weights and log go into the same folder"
    )
    return result


def main(arguments: argparse.Namespace) -> None:
    """Train, validate and write the run; or link the search's run if it is the same."""
    settings: TrainingSettings = arguments.settings
    values, folder = read_json(arguments.selected), arguments.run.parent
    for search in arguments.searches:
        if values in [found["candidate"] for found in read_json(search)]:
            winner = candidate_folder(search, values)
            if not appears(winner / WEIGHTS):
                break  # The weights were deleted after an earlier run: train again.
            check(winner, search)
            link(winner, folder)
            if settings.method in os.environ.get(DROPPED, "").split():
                drop_candidates(search.parent)
            return
    from workflow_scripts.tuning.runs import Run, tune

    tune(arguments, settings, [[Run(values, folder)]], checkpoints=folder)


def is_complete(arguments: argparse.Namespace) -> bool:
    """Whether the run's folder has all files of a finished run."""
    return has_run(arguments.run.parent)


def check(origin: Path, record: Path) -> None:
    """Raise UserError if one of the candidate's files is missing or damaged.

    The candidate's folder is not a declared output, so the message says to delete the search's record, which makes
    Snakemake run the search again.
    """
    from safetensors import SafetensorError, safe_open

    file = origin
    try:
        for name in RUN_FILES:
            file = origin / name
            appears(file)
            if file.suffix == ".safetensors":
                with safe_open(file, framework="numpy"):
                    pass
            elif file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            else:
                file.stat()
    except (SafetensorError, OSError, ValueError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
        raise unreadable(file, f"{file} {reason}: delete {record} and run the workflow again") from error


def link(origin: Path, run: Path) -> None:
    """Hard-link a finished run's files into another run's folder; copy them if the file system has no links."""
    for name in RUN_FILES:
        with written(run / name) as temporary:
            try:
                os.link(origin / name, temporary)
            except OSError:
                shutil.copy2(origin / name, temporary)
    logger.info("the search trained this run: %s", origin)


def drop_candidates(search: Path) -> None:
    """Delete the weights of all candidates of a search; the winner's are already linked into the run's folder."""
    for weights in search.glob(f"*/*/{WEIGHTS}"):
        weights.unlink()
        logger.info("deleted %s", weights)


if __name__ == "__main__":
    run(main, parser(), is_complete)

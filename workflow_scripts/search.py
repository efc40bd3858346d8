"""Train candidates of the learning-rate search on the English training set, side by side.

    encoder + English tokens ──> search/0.01+0.001.json       learning rate, validation and problem of each candidate
                                 search/0.01+0.001/lr-0.01/   a run's files, as `train` writes them
                                 search/0.01+0.001/lr-0.001/

The candidates share every pass over the encoder, which their method leaves frozen. Each has its own prompts, head,
optimizer and gradient clipping, and learns as it would alone, but for the masks of dropout. An interrupted search goes
on from a checkpoint in their folder; SIGTERM and Ctrl-C save one at once and end with status 75.

Settings: the merged training settings of the runs, which `config.yaml` explains.
"""

import argparse

from workflow_scripts.experiment.files import write_json
from workflow_scripts.experiment.names import candidate_folder, parse_group
from workflow_scripts.experiment.step import output_file, run, step_parser
from workflow_scripts.experiment.training_step import english_arguments


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = english_arguments(step_parser(__doc__))
    result.add_argument("--learning-rates", type=parse_group, required=True, help="the candidates, such as 0.01+0.001")
    result.add_argument(
        "--record", type=output_file, required=True, help="the record to write, beside the runs' folders"
    )
    return result


def main(arguments: argparse.Namespace) -> None:
    """Train, validate, write; the record last."""
    from workflow_scripts.tuning.runs import tune

    runs = {rate: candidate_folder(arguments.record, rate) for rate in arguments.learning_rates}
    told = ("learning_rate", "metric", "validation", "diverged", "problem")
    # In the group's own folder: other groups of the same search may be under way in theirs.
    records = tune(arguments, runs, checkpoints=next(iter(runs.values())).parent)
    write_json(arguments.record, [{name: record[name] for name in told} for record in records.values()])


if __name__ == "__main__":
    run(main, parser())

"""Train candidates of the learning-rate search together, on the training set.

    encoder + tokens         ──> search/0.01+0.001.json       learning rate, validation and problem of each candidate
                                 search/0.01+0.001/lr-0.01/   a run's files, as `train` writes them
                                 search/0.01+0.001/lr-0.001/

The candidates share the forward and backward passes through the encoder, which their method leaves frozen. Each has its
own prompts, head, optimizer and gradient clipping, and trains as it would alone except for the dropout masks. An
interrupted search resumes from a checkpoint in the folder. SIGTERM and Ctrl-C save a checkpoint and end the step with
status 75.

Settings: `tuning.settings.TrainingSettings`; see the configuration reference.
"""

import argparse

from workflow_scripts.core.files import write_json
from workflow_scripts.core.names import candidate_folder, parse_group
from workflow_scripts.core.step import output_file, run, step_parser
from workflow_scripts.core.training_step import training_arguments
from workflow_scripts.tuning.settings import TrainingSettings


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = training_arguments(step_parser(__doc__, TrainingSettings))
    result.add_argument("--learning-rates", type=parse_group, required=True, help="the candidates, such as 0.01+0.001")
    result.add_argument(
        "--record", type=output_file, required=True, help="the record to write; the runs' folders go next to it"
    )
    return result


def main(arguments: argparse.Namespace) -> None:
    """Train and validate the candidates and write their runs, the record last."""
    from workflow_scripts.tuning.runs import tune

    runs = {rate: candidate_folder(arguments.record, rate) for rate in arguments.learning_rates}
    fields = ("learning_rate", "metric", "validation", "diverged", "problem")
    # The checkpoint goes into this group's folder: other groups of the same search may be running.
    records = tune(arguments, runs, checkpoints=next(iter(runs.values())).parent)
    write_json(arguments.record, [{name: record[name] for name in fields} for record in records.values()])


if __name__ == "__main__":
    run(main, parser())

"""Train the candidates of a search, on the training set.

    encoder + tokens         ──> search/0.01+0.001.json       values, validation and problem of each candidate
                                 search/0.01+0.001/lr-0.01/   a run's files, as `train` writes them
                                 search/0.01+0.001/lr-0.001/

Candidates of one pass share the forward and backward passes through the encoder, which their method leaves frozen. Each
has its own prompts, head, optimizer and gradient clipping, and trains as it would alone except for the dropout masks.
With halving, the worst candidates are dropped after each rung, and the others resume from the rung's checkpoint. An
interrupted search resumes from the checkpoints in the group's folder. SIGTERM and Ctrl-C save a checkpoint and end the
step with status 75.

Settings: `tuning.settings.SearchSettings`; see the configuration reference.
"""

import argparse

from workflow_scripts.core.files import write_json
from workflow_scripts.core.names import candidate_folder
from workflow_scripts.core.step import output_file, run, step_parser
from workflow_scripts.core.training_step import has_run, training_arguments
from workflow_scripts.tuning.settings import SearchSettings

RECORDED = ("candidate", "metric", "validation", "diverged", "left_search_after", "problem")


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = training_arguments(step_parser(__doc__, SearchSettings))
    result.add_argument(
        "--record", type=output_file, required=True, help="the record to write; the runs' folders go next to it"
    )
    return result


def main(arguments: argparse.Namespace) -> None:
    """Train and validate the candidates and write their runs, the record last."""
    from workflow_scripts.tuning.runs import Run, tune

    settings: SearchSettings = arguments.settings
    passes = [
        [Run(values, candidate_folder(arguments.record, values)) for values in together] for together in settings.passes
    ]
    # The checkpoints go into this group's folder: other groups of the same search may be running.
    checkpoints = passes[0][0].folder.parent
    records = tune(arguments, settings.training(), passes, checkpoints, settings.halving)
    write_json(arguments.record, [{name: record[name] for name in RECORDED} for record in records])


def is_complete(arguments: argparse.Namespace) -> bool:
    """Whether every candidate's folder has the files of a finished run."""
    settings: SearchSettings = arguments.settings
    folders = [candidate_folder(arguments.record, values) for together in settings.passes for values in together]
    return all(map(has_run, folders))


if __name__ == "__main__":
    run(main, parser(), is_complete)

"""Export the winner of a task: the model that transferred best, in a folder that standard libraries load.

    scores.csv, runs.csv, the runs of a task ──> exported/TASK/       the model, its tokenizer and its card
                                                 exported/TASK.json   which run it is, and the checksums of its files

The winner is the arm with the best mean score, over seeds, in the languages that it was not tuned on; of its seeds, the
one with the best score on the validation set. If it cannot be exported, the next one is, and the card says so.
Settings: `WinnerSettings`.
"""

import argparse
import logging

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import sha256, write_json
from workflow_scripts.core.settings import StepSettings
from workflow_scripts.core.step import input_file, output_file, run, step_parser

logger = logging.getLogger(__name__)


class WinnerSettings(StepSettings):
    """The task, and the metric that decides."""

    task: str
    metric: str


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, WinnerSettings)
    result.add_argument("--scores", type=input_file, required=True, help="scores.csv of the grid")
    result.add_argument("--runs", type=input_file, required=True, help="runs.csv of the grid")
    result.add_argument("--encoders", type=input_file, nargs="+", required=True, help="encoder.json of each encoder")
    result.add_argument(
        "--record", type=output_file, required=True, help="the record to write, beside the folder of its name"
    )
    return result


def main(arguments: argparse.Namespace) -> None:
    """Choose, export and describe. Raises UserError if no model can be exported."""
    from workflow_scripts.publishing.card import write_card
    from workflow_scripts.publishing.export import export_run
    from workflow_scripts.publishing.winner import ranking
    from workflow_scripts.reporting.inputs import read_table
    from workflow_scripts.tuning.finished import open_run

    settings: WinnerSettings = arguments.settings
    scores, runs = read_table(arguments.scores), read_table(arguments.runs)
    resources = arguments.encoders[0].parents[2]
    refused: list[str] = []
    for winner in ranking(scores, runs, settings.task, settings.metric):
        try:
            opened = open_run(arguments.scores.parent / winner.folder, resources)
            exported = export_run(opened, arguments.record.with_suffix(""))
            break
        except UserError as error:
            refused.append(f"{winner.folder} transferred better, but cannot be exported: {error}")
            logger.warning("%s", refused[-1])
    else:
        raise UserError(f"no model of the task {settings.task} can be exported; the best one: {refused[0]}")
    write_card(opened, exported, note=" ".join([winner.note, *refused]))
    checksums = {name: sha256(exported.folder / name) for name in exported.files}
    write_json(arguments.record, {"run": winner.folder, "loads_with": exported.loads_with, "files": checksums})
    logger.info("%s: %s, loaded by %s", settings.task, winner.folder, exported.loads_with)


if __name__ == "__main__":
    run(main, parser())

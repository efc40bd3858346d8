"""Choose the learning rate with the best score on the validation set.

    search/*.json ──> selected.json   {"learning_rate": ...}

The record contains only the winner, so that nothing reruns if the search is extended and the winner stays the same.
Between equal candidates the smaller learning rate wins. A candidate that diverged wins only if all did.
Settings: `SelectSettings`.
"""

import argparse
import logging

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import read_json, write_json
from workflow_scripts.core.settings import StepSettings
from workflow_scripts.core.step import input_file, output_file, run, step_parser

logger = logging.getLogger(__name__)


class SelectSettings(StepSettings):
    """The learning rates to choose from."""

    learning_rates: list[float]


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, SelectSettings)
    result.add_argument("--searches", type=input_file, nargs="*", default=[], help="records of the candidates")
    result.add_argument("--selected", type=output_file, required=True, help="the record to write")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Choose the winner and write it; a single candidate wins without a search.

    Raises UserError if the records are not those of the candidates.
    """
    settings: SelectSettings = arguments.settings
    candidates = sorted(settings.learning_rates)
    if len(candidates) == 1:
        write_json(arguments.selected, {"learning_rate": candidates[0]})
        return
    records = {record["learning_rate"]: record for search in arguments.searches for record in read_json(search)}
    if sorted(records) != candidates:
        raise UserError(
            f"{arguments.selected}: the candidates are {candidates}, but there are runs of {sorted(records)}: delete"
            " the search's folder and run the workflow again"
        )
    for rate in candidates:
        logger.info("%g: %s %.2f", rate, records[rate]["metric"], records[rate]["validation"])
    winner = max(candidates, key=lambda rate: (not records[rate]["diverged"], records[rate]["validation"], -rate))
    write_json(arguments.selected, {"learning_rate": winner})


if __name__ == "__main__":
    run(main, parser())

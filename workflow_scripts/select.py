"""Choose the candidate with the best score on the validation set.

    search/*.json ──> selected.json   {"learning_rate": ..., and what else was searched}

The record contains only the winner, so that nothing reruns if the search is extended and the winner stays the same.
Between equal candidates the smaller learning rate wins, and then the earlier candidate. A candidate that was dropped
early does not win. A candidate that diverged wins only if all did. Settings: `SelectSettings`.
"""

import argparse
import logging

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import read_json, write_json
from workflow_scripts.core.names import Values, candidate_name
from workflow_scripts.core.settings import StepSettings
from workflow_scripts.core.step import input_file, output_file, run, step_parser

logger = logging.getLogger(__name__)


class SelectSettings(StepSettings):
    """The candidates to choose from."""

    candidates: list[Values]


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
    candidates = {candidate_name(values): values for values in settings.candidates}
    if len(candidates) == 1:
        write_json(arguments.selected, *candidates.values())
        return
    records = {
        candidate_name(record["candidate"]): record for search in arguments.searches for record in read_json(search)
    }
    if records.keys() != candidates.keys():
        raise UserError(
            f"{arguments.selected}: the candidates are {', '.join(candidates)}, but there are runs of"
            f" {', '.join(records)}: delete the search's folder and run the workflow again"
        )
    for name in candidates:
        left = records[name]["left_search_after"]
        remark = f", left after {left:.0%} of the steps" if left else ""
        logger.info("%s: %s %.2f%s", name, records[name]["metric"], records[name]["validation"], remark)

    def merit(name: str) -> tuple[bool, bool, float, float]:
        record = records[name]
        finished = record["left_search_after"] is None
        return finished, not record["diverged"], record["validation"], -candidates[name]["learning_rate"]

    write_json(arguments.selected, candidates[max(candidates, key=merit)])


if __name__ == "__main__":
    run(main, parser())

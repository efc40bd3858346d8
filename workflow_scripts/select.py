"""Choose the learning rate whose run was best on the English validation set.

    search/*.json ──> selected.json   {"learning_rate": ...}

The record holds the winner and nothing else: when the search grows and the winner stays, nothing that depends on it
has changed. Of equal candidates the smaller learning rate wins; one that diverged wins only where all did.
Settings: `learning_rates`.
"""

import argparse
import logging

from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.files import read_json, write_json
from workflow_scripts.experiment.step import input_file, output_file, run, step_parser

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = step_parser(__doc__)
    result.add_argument("--searches", type=input_file, nargs="*", default=[], help="records of the candidates")
    result.add_argument("--selected", type=output_file, required=True, help="the record to write")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Compare the candidates; a single one wins untried."""
    candidates = sorted(arguments.settings["learning_rates"])
    if len(candidates) == 1:
        write_json(arguments.selected, {"learning_rate": candidates[0]})
        return
    records = {record["learning_rate"]: record for search in arguments.searches for record in read_json(search)}
    if sorted(records) != candidates:
        raise UserError(f"{arguments.selected}: candidates {candidates}, but runs of {sorted(records)}")
    for rate in candidates:
        logger.info("%g: %s %.2f", rate, records[rate]["metric"], records[rate]["validation"])
    winner = max(candidates, key=lambda rate: (not records[rate]["diverged"], records[rate]["validation"], -rate))
    write_json(arguments.selected, {"learning_rate": winner})


if __name__ == "__main__":
    run(main, parser())

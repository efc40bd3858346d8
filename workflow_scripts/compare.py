"""Say how sure the differences between the methods are.

    scores.csv  runs.csv        ─┐
    seed-*/units.parquet        ─┴─> differences.csv   a row a comparison and language, `average` and `gap` among them

Each method's headline arm minus fine-tuning's, percentage points, with a 95 % interval that counts test examples and
seeds, a paired permutation test and Holm's correction over languages. A cell is empty where nothing is known.
Settings: `configuration`, the whole of it; the units are found by the grid's own paths, below the working folder.
"""

import argparse
import csv
import logging
from pathlib import Path

from workflow_scripts.evaluation.contributions import Sums, read_units
from workflow_scripts.evaluation.differences import COLUMNS, differences
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.files import written
from workflow_scripts.experiment.grid import Arm, Paths
from workflow_scripts.experiment.step import input_file, output_file, run, step_parser
from workflow_scripts.reporting.tables import read_runs, read_scores

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = step_parser(__doc__)
    result.add_argument("--scores", type=input_file, required=True, help="the long score table")
    result.add_argument("--runs", type=input_file, required=True, help="one row for each training run")
    result.add_argument("--differences", type=output_file, required=True, help="the CSV file to write")
    return result


def main(arguments: argparse.Namespace) -> list[Path]:
    """Compare every method with fine-tuning and write the table; returns the files of the runs that were compared."""
    configuration = load(arguments.settings["configuration"])
    paths = Paths.of(configuration)

    found: dict[Path, None] = {}

    def read(arm: Arm, seed: int, metric: str) -> dict[str, Sums]:
        file = Path(paths.units(arm.encoder, arm.task, arm.name, seed))
        found[file] = None
        return read_units(file, metric)

    rows = differences(read_scores(arguments.scores), read_runs(arguments.runs), read)
    with written(arguments.differences) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    logger.info("wrote %s", arguments.differences)
    return list(found)


if __name__ == "__main__":
    run(main, parser())

"""Compare the methods: differences with confidence intervals and tests.

    scores.csv  runs.csv        ─┐
    seed-*/units.parquet        ─┴─> differences.csv         one row per comparison and language, `average`, `gap`
                                     source_differences.csv  the same for each pair of training sources
                                     encoder_differences.csv the same for each pair of encoders
                                     ranks.csv               the mean rank of each arm over tasks and target languages

The differences are each method's headline arm minus fine-tuning's, or the first method's where there is none. They are
in percentage points, with a 95 % interval over test examples and seeds, a paired permutation test and Holm's correction
over languages. Cells without an estimate are empty.
Settings: `configuration`, the complete configuration; the units are found by the grid's paths, in the working folder.
"""

import argparse
import csv
import logging
from pathlib import Path

from workflow_scripts.core.files import written
from workflow_scripts.core.settings import WholeGridSettings
from workflow_scripts.core.step import input_file, output_file, run, step_parser
from workflow_scripts.evaluation.contributions import Sums, read_units
from workflow_scripts.evaluation.differences import (
    COLUMNS,
    ENCODER_COLUMNS,
    SOURCE_COLUMNS,
    differences,
    encoder_differences,
    source_differences,
)
from workflow_scripts.evaluation.other_grids import folders_of_arms, others
from workflow_scripts.evaluation.ranks import COLUMNS as RANK_COLUMNS
from workflow_scripts.evaluation.ranks import rankings
from workflow_scripts.evaluation.tables import read_runs, read_scores
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.grid import Arm, Paths

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, WholeGridSettings)
    result.add_argument("--scores", type=input_file, required=True, help="the table of scores")
    result.add_argument("--runs", type=input_file, required=True, help="the table of training runs")
    result.add_argument("--differences", type=output_file, required=True, help="the table of methods to write")
    result.add_argument("--sources", type=output_file, required=True, help="the table of training sources to write")
    result.add_argument("--encoders", type=output_file, required=True, help="the table of encoders to write")
    result.add_argument("--ranks", type=output_file, required=True, help="the table of mean ranks to write")
    return result


def main(arguments: argparse.Namespace) -> list[Path]:
    """Compare each method with fine-tuning and write the table; return the run files that were read."""
    settings: WholeGridSettings = arguments.settings
    configuration = load(settings.configuration)
    paths = Paths.of(configuration)

    found: dict[Path, None] = {}
    elsewhere = folders_of_arms(others(configuration.report.others))

    def read(arm: Arm, seed: int, metric: str) -> dict[str, Sums]:
        of_arm = Paths(configuration.resources, str(elsewhere[arm])) if arm in elsewhere else paths
        file = Path(of_arm.units(*arm.place, seed))
        found[file] = None
        return read_units(file, metric)

    scores, runs = read_scores(arguments.scores), read_runs(arguments.runs)
    for path, columns, rows in (
        (arguments.differences, COLUMNS, differences(scores, runs, read)),
        (arguments.sources, SOURCE_COLUMNS, source_differences(scores, runs, read)),
        (arguments.encoders, ENCODER_COLUMNS, encoder_differences(scores, runs, read)),
        (arguments.ranks, RANK_COLUMNS, rankings(scores, runs, read)),
    ):
        with written(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
        logger.info("wrote %s", path)
    return list(found)


if __name__ == "__main__":
    run(main, parser())

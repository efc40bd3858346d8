"""Score the predictions of one tuned model in every language.

    predictions + gold rows, by language ──> scores.csv        language, metric, value (percent)
                                             units.parquet     language, metric, unit, numerator, denominator
                                             calibration.csv   language, answers, error, confidence, accuracy, ...

A score is 100 * sum(numerator) / sum(denominator) over its units (the test examples). The step `compare` resamples
units. The calibration is that of the predictions' probabilities (`evaluation/calibration.py`); predictions without
probabilities have no row in the table.

Settings: `ScoreSettings`.
"""

import argparse
import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import written
from workflow_scripts.core.names import predictions_file
from workflow_scripts.core.settings import StepSettings
from workflow_scripts.core.step import input_file, output_file, recorded_files, run, step_parser
from workflow_scripts.corpora.schema import read_confidences, read_predictions, read_rows
from workflow_scripts.evaluation.calibration import COLUMNS, calibration
from workflow_scripts.evaluation.contributions import Sums, contributions, write_units
from workflow_scripts.evaluation.metrics import score
from workflow_scripts.kinds.settings import ScoringSettings


class ScoreSettings(StepSettings):
    """The test sets.

    Attributes:
        kind, labels, normalisation: the task's.
        languages: in the order of the test sets.
    """

    kind: str
    labels: list[str]
    normalisation: str | None = None
    languages: list[str]


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, ScoreSettings)
    result.add_argument("--predictions", type=input_file, nargs="+", required=True, help="records of `predict`")
    result.add_argument(
        "--rows", type=input_file, nargs="+", required=True, help="the test sets, parquet, in the same order"
    )
    result.add_argument("--scores", type=output_file, required=True, help="the CSV file to write")
    result.add_argument("--units", type=output_file, required=True, help="the parquet file to write")
    result.add_argument("--calibration", type=output_file, required=True, help="the CSV file of the calibration")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Score each language and write the three tables. Raises UserError if a prediction is missing or invalid."""
    settings: ScoreSettings = arguments.settings
    kind, languages = settings.kind, settings.languages
    files = recorded_files(arguments.predictions, predictions_file)
    units: dict[str, dict[str, Sums]] = {}
    scores: list[list[Any]] = []
    calibrations: list[list[Any]] = []
    for language, rows_file in zip(languages, arguments.rows, strict=True):
        rows, predictions = read_rows(rows_file, kind), read_predictions(files[language])
        scoring = ScoringSettings(language=language, labels=settings.labels, normalisation=settings.normalisation)
        try:
            values = score(kind, rows, predictions, scoring)
            calibrated = calibration(kind, rows, predictions, read_confidences(files[language]), scoring)
        except UserError as error:
            raise UserError(f"{files[language]}: {error}") from error
        scores += ([language, metric, repr(value)] for metric, value in values.items())
        calibrations += [[language, *(repr(calibrated[name]) for name in COLUMNS)]] if calibrated else []
        units[language] = contributions(kind, rows, predictions, scoring)
    write_units(arguments.units, units)
    write_csv(arguments.calibration, ["language", *COLUMNS], calibrations)
    write_csv(arguments.scores, ["language", "metric", "value"], scores)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table."""
    with written(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)


if __name__ == "__main__":
    run(main, parser())

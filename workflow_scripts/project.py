"""Project a model's vectors of all languages onto a plane, with each language's boundary between the labels.

    vectors of the model ──> points.csv       language, id, label, x, y
                             boundaries.csv   language, x_weight, y_weight, intercept

Figure 2 of the paper, by t-SNE. Settings: `ProjectSettings`.
"""

import argparse
import csv
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from workflow_scripts.analysis.projection import boundary, project
from workflow_scripts.analysis.samples import SampleSettings, read_records
from workflow_scripts.core.files import written
from workflow_scripts.core.step import input_file, output_file, run, step_parser

logger = logging.getLogger(__name__)

POINTS = ("language", "id", "label", "x", "y")
BOUNDARIES = ("language", "x_weight", "y_weight", "intercept")


class ProjectSettings(SampleSettings):
    """Which texts the figure shows.

    Attributes:
        figure_samples: the most points of a language.
    """

    figure_samples: int


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, ProjectSettings)
    result.add_argument(
        "--vectors", type=input_file, nargs="+", required=True, help="records of `represent` of the model"
    )
    result.add_argument("--points", type=output_file, required=True, help="the CSV file of points to write")
    result.add_argument("--boundaries", type=output_file, required=True, help="the CSV file of boundaries to write")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Project the vectors, fit the boundaries and write both tables."""
    import numpy as np

    settings: ProjectSettings = arguments.settings
    samples = read_records(arguments.vectors, settings)
    shown = min(settings.figure_samples, len(samples.ids))
    points: list[tuple[Any, ...]] = []
    lines: list[tuple[Any, ...]] = []
    lost = samples.not_finite()
    if lost:
        logger.warning("not in the figure, since vectors are not finite: %s", ", ".join(lost))
    usable = {language: vectors for language, vectors in samples.vectors.items() if language not in lost}
    # With fewer points t-SNE has no neighbourhoods to preserve.
    if shown >= 2 and usable:
        together = project(np.concatenate([vectors[:shown] for vectors in usable.values()]))
        for language, part in zip(usable, np.split(together, len(usable)), strict=True):
            labels = samples.labels[language]
            rows = zip(samples.ids, labels, part.tolist(), strict=False)
            points += [(language, identity, label, repr(x), repr(y)) for identity, label, (x, y) in rows]
            line = boundary(part, labels[:shown])
            lines += [(language, *map(repr, line))] if line else []
    write(arguments.points, POINTS, points)
    write(arguments.boundaries, BOUNDARIES, lines)


def write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV table atomically."""
    with written(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)


if __name__ == "__main__":
    run(main, parser())

"""Gather the analyses of all models.

    alignment.csv of each model       ──> alignment.csv     encoder, task, method, prompt_length, seed, ...
    points.csv, boundaries.csv        ──> projections.csv, boundaries.csv   the same, of the first seed
    vectors of one untuned encoder    ──> samples.json      which texts were compared, and which were left out

Settings: `task` of the texts, `languages`, `samples`, `disagreeing`; `models` and `projected`: the columns that name
the model of each file, in the files' order. Without a model the tables hold their headers only.
"""

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from workflow_scripts.align import COLUMNS
from workflow_scripts.analysis.samples import Samples, read_records
from workflow_scripts.experiment.step import run, step_parser, write_json
from workflow_scripts.project import BOUNDARIES, POINTS, write

MODEL = ("encoder", "task", "method", "prompt_length", "seed")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = step_parser(__doc__)
    files: dict[str, Any] = {"type": Path, "nargs": "*", "required": True}
    result.add_argument("--alignments", **files, help="alignment.csv of each model")
    result.add_argument("--points", **files, help="points.csv of each projected model")
    result.add_argument("--lines", **files, help="boundaries.csv of each projected model")
    result.add_argument("--vectors", **files, help="records of `represent` of one untuned encoder")
    result.add_argument("--alignment", type=Path, required=True, help="the table of measures to write")
    result.add_argument("--projections", type=Path, required=True, help="the table of points to write")
    result.add_argument("--boundaries", type=Path, required=True, help="the table of boundaries to write")
    result.add_argument("--samples", type=Path, required=True, help="the JSON file to write")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Read everything and write the four files."""
    settings = arguments.settings
    models, projected = settings["models"], settings["projected"]
    write(arguments.alignment, MODEL + COLUMNS, rows(models, arguments.alignments))
    write(arguments.projections, MODEL + POINTS, rows(projected, arguments.points))
    write(arguments.boundaries, MODEL + BOUNDARIES, rows(projected, arguments.lines))
    samples = read_records(arguments.vectors, settings) if arguments.vectors else Samples([])
    write_json(
        arguments.samples,
        {
            "task": settings["task"],
            "asked": settings["samples"],
            "used": len(samples.ids),
            "languages": settings["languages"],
            "kept": settings["disagreeing"] == "keep",
            "disagreeing": [{"id": identity, "labels": labels} for identity, labels in samples.disagreeing.items()],
            "missing": {language: count for language, count in samples.missing.items() if count},
        },
    )


def rows(models: Sequence[dict[str, Any]], files: Sequence[Path]) -> Iterator[list[Any]]:
    """The rows of all files, each after the columns that name its model."""
    for model, path in zip(models, files, strict=True):
        with path.open(newline="", encoding="utf-8") as file:
            for row in list(csv.reader(file))[1:]:
                yield [model[column] for column in MODEL] + row


if __name__ == "__main__":
    run(main, parser())

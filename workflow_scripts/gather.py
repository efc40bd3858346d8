"""Combine the analyses of all models.

    alignment.csv of each model       ──> alignment.csv     encoder, task, source, method, prompt_length, ...
    points.csv, boundaries.csv        ──> projections.csv, boundaries.csv   the same, of the first seed
    vectors of one untuned encoder    ──> samples.json      which texts were compared, and which were left out

Settings: `GatherSettings`. The models are, for each encoder, the untuned encoder and each arm with each seed. Their
files are in the folder `--results`. Without `--vectors` the tables contain only their headers.
"""

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from workflow_scripts.align import COLUMNS
from workflow_scripts.analysis.samples import Samples, SampleSettings, read_records
from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import write_json
from workflow_scripts.core.names import UNTUNED, analysis_file, arm_name, model_name
from workflow_scripts.core.settings import Settings
from workflow_scripts.core.step import input_file, output_file, run, step_parser
from workflow_scripts.project import BOUNDARIES, POINTS, write

MODEL = ("encoder", "task", "source", "method", "prompt_length", "seed")


class AnalysedArm(Settings):
    """An arm of all encoders, or of some."""

    task: str
    source: str
    method: str
    prompt_length: int
    encoders: list[str] | None = None


class GatherSettings(SampleSettings):
    """The models, and the texts that were compared.

    Attributes:
        task: the task of the texts; None without an analysis.
        encoders: their names.
        arms: those of the encoders.
        seeds: those of each arm.
    """

    task: str | None
    encoders: list[str]
    arms: list[AnalysedArm]
    seeds: list[int]


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, GatherSettings)
    result.add_argument("--results", type=Path, required=True, help="the folder with the analysis of each model")
    result.add_argument(
        "--vectors", type=input_file, nargs="*", required=True, help="records of `represent` of one untuned encoder"
    )
    result.add_argument("--alignment", type=output_file, required=True, help="the table of measures to write")
    result.add_argument("--projections", type=output_file, required=True, help="the table of points to write")
    result.add_argument("--boundaries", type=output_file, required=True, help="the table of boundaries to write")
    result.add_argument("--samples", type=output_file, required=True, help="the JSON file to write")
    return result


def main(arguments: argparse.Namespace) -> list[Path]:
    """Read everything and write the four files; return the models' files that were read."""
    settings: GatherSettings = arguments.settings
    found: list[Path] = []

    def rows(file: str, seeds: Sequence[int]) -> Iterator[list[Any]]:
        """Yield the rows of a file of every model, preceded by the columns that identify the model."""
        for model in list_models(settings, seeds) if arguments.vectors else ():
            path = analysis_file(arguments.results, model["encoder"], model_folder(model), file)
            found.append(path)
            for row in table_rows(path):
                yield [model[column] for column in MODEL] + row

    write(arguments.alignment, MODEL + COLUMNS, rows("alignment.csv", settings.seeds))
    write(arguments.projections, MODEL + POINTS, rows("points.csv", settings.seeds[:1]))
    write(arguments.boundaries, MODEL + BOUNDARIES, rows("boundaries.csv", settings.seeds[:1]))
    samples = read_records(arguments.vectors, settings) if arguments.vectors else Samples([])
    write_json(
        arguments.samples,
        {
            "task": settings.task,
            "asked": settings.samples,
            "used": len(samples.ids),
            "languages": settings.languages,
            "kept": settings.disagreeing == "keep",
            "disagreeing": [{"id": identity, "labels": labels} for identity, labels in samples.disagreeing.items()],
            "missing": {language: count for language, count in samples.missing.items() if count},
        },
    )
    return found


def list_models(settings: GatherSettings, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the columns that identify each model; the untuned encoder has no task."""
    for encoder in settings.encoders:
        yield {"encoder": encoder, "task": "", "source": "", "method": UNTUNED, "prompt_length": 0, "seed": 0}
        for arm in settings.arms:
            if arm.encoders is None or encoder in arm.encoders:
                for seed in seeds:
                    yield {"encoder": encoder, **arm.model_dump(exclude={"encoders"}), "seed": seed}


def model_folder(model: dict[str, Any]) -> str:
    """Return the folder name of a model's analysis."""
    if model["method"] == UNTUNED:
        return UNTUNED
    return model_name(model["task"], model["source"], arm_name(model["method"], model["prompt_length"]), model["seed"])


def table_rows(path: Path) -> list[list[str]]:
    """Return a CSV file's rows without the header. Raises UserError, naming the file, if it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))[1:]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it and run the workflow again") from error


if __name__ == "__main__":
    run(main, parser())

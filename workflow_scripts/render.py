"""Write the report, its tables and its answer as plain text.

results/  scores.csv  runs.csv  shots.csv  calibration.csv  oracle.csv  curves.parquet  provenance.json
          differences.csv  source_differences.csv  encoder_differences.csv  ranks.csv  alignment.csv  projections.csv
          boundaries.csv  samples.json  examples.json  distances.csv  explained.csv
report/   published.csv  template.html.j2 ...
    -> results/report.html  results/summary.txt  results/tables/*.csv, *.tex
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from workflow_scripts.core.files import read_json, written
from workflow_scripts.core.settings import StepSettings
from workflow_scripts.core.step import input_file, output_file, run, step_parser
from workflow_scripts.evaluation.tables import read_runs, read_scores
from workflow_scripts.reporting.files import write_tables
from workflow_scripts.reporting.inputs import Inputs, read_curves, read_differences, read_examples, read_table
from workflow_scripts.reporting.page import render_page
from workflow_scripts.reporting.published import read_published
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.sections import sections
from workflow_scripts.reporting.summary import summary_text

logger = logging.getLogger(__name__)

FILES = {
    "scores": "the table of scores",
    "runs": "the table of training runs",
    "shots": "the scores of models that were tuned with a few rows of a target language",
    "calibration": "how well the probabilities of each model are calibrated",
    "curves": "the training curves",
    "oracle": "validation scores in other languages, of the kept and of the best weights",
    "provenance": "benchmark, configuration, versions, checksums",
    "differences": "each method minus the baseline, with intervals and tests",
    "source-differences": "one training source minus another, with intervals and tests",
    "encoder-differences": "one encoder minus another, with intervals and tests",
    "ranks": "the mean rank of each arm, with intervals",
    "alignment": "the measures of the representations",
    "projections": "the points of figure 2",
    "boundaries": "the decision boundaries of figure 2",
    "samples": "which texts the analysis compares",
    "examples": "examples of predictions",
    "distances": "the distance and the token count of each target language",
    "explained": "their correlation with the transfer gap",
    "published": "the paper's numbers",
}


class RenderSettings(StepSettings):
    """The tables to write, by name."""

    tables: Sequence[str] = ()


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, RenderSettings)
    for name, what in FILES.items():
        result.add_argument(f"--{name}", type=input_file, required=True, help=what)
    result.add_argument("--templates", type=Path, required=True, help="the folder of the page's templates")
    result.add_argument("--output", type=output_file, required=True, help="the page to write")
    result.add_argument("--summary", type=output_file, required=True, help="the text file to write for terminals")
    result.add_argument("--tables", type=Path, help="the folder to write the tables to; without it, none")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Read the inputs, then write the tables, the summary and, last, the page."""
    settings: RenderSettings = arguments.settings
    report = Report.of(
        Inputs(
            scores=read_scores(arguments.scores),
            runs=read_runs(arguments.runs),
            provenance=read_json(arguments.provenance),
            differences=read_differences(arguments.differences),
            source_differences=read_differences(arguments.source_differences),
            encoder_differences=read_differences(arguments.encoder_differences),
            ranks=read_table(arguments.ranks),
            shots=read_table(arguments.shots),
            calibration=read_table(arguments.calibration),
            curves=read_curves(arguments.curves),
            oracle=read_table(arguments.oracle),
            alignment=read_table(arguments.alignment),
            projections=read_table(arguments.projections),
            boundaries=read_table(arguments.boundaries),
            samples=read_json(arguments.samples),
            examples=read_examples(arguments.examples),
            distances=read_table(arguments.distances),
            explained=read_table(arguments.explained),
            published=read_published(arguments.published),
        )
    )
    made = sections(report)
    if arguments.tables is not None:
        for path in write_tables(made, arguments.tables, settings.tables):
            logger.info("wrote %s", path)
    page = render_page(report, made, arguments.templates)
    with written(arguments.summary) as temporary:
        temporary.write_text(summary_text(report), encoding="utf-8", newline="\n")
    logger.info("wrote %s", arguments.summary)
    with written(arguments.output) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    logger.info("wrote %s, %d kB", arguments.output, len(page.encode()) // 1000)


if __name__ == "__main__":
    run(main, parser())

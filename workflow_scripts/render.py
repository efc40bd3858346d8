"""Write the report and its tables.

results/scores.csv  results/runs.csv  results/provenance.json  report/
    -> results/report.html  results/tables/*.csv, *.tex
"""

import argparse
import logging
from pathlib import Path

from workflow_scripts.experiment.step import read_json, run, step_parser, written
from workflow_scripts.reporting.page import render
from workflow_scripts.reporting.published import FILE, read_published
from workflow_scripts.reporting.tables import read_runs, read_scores, write_tables

log = logging.getLogger("crossprompt")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = step_parser(__doc__)
    result.add_argument("--scores", type=Path, required=True, help="the long score table")
    result.add_argument("--runs", type=Path, required=True, help="one row for each training run")
    result.add_argument("--provenance", type=Path, required=True, help="benchmark, configuration, versions, checksums")
    result.add_argument("--templates", type=Path, required=True, help="the folder of the page's templates")
    result.add_argument("--output", type=Path, required=True, help="the page to write")
    result.add_argument("--tables", type=Path, help="the folder to write the tables to; without it, none")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Read the three inputs, then write the tables and, last, the page."""
    scores, runs = read_scores(arguments.scores), read_runs(arguments.runs)
    provenance = read_json(arguments.provenance)
    if arguments.tables is not None:
        published = read_published(arguments.templates / FILE)
        pairs = [(encoder, task) for encoder, task in provenance["benchmark"].get("comparable_pairs", [])]
        for path in write_tables(scores, runs, arguments.tables, published, pairs):
            log.info("wrote %s", path)
    page = render(scores, runs, provenance, arguments.templates)
    with written(arguments.output) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    log.info("wrote %s, %d kB", arguments.output, len(page.encode()) // 1000)


if __name__ == "__main__":
    run(main, parser())

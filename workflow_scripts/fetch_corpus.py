"""Read one part of a corpus from its source and write it in the row schema of its kind of task.

    source ──> resources/corpora/{task}/{language}/{split}.parquet

Settings: `source` ("mini" or "xtreme"), `path` (for "xtreme"), `task`, `kind`, `labels`, `language`, `split`, `limit`,
`whole` (of train, where nothing is to be held out for validation).
"""

import argparse
import importlib
import logging
from pathlib import Path

from workflow_scripts.corpora.schema import check_row, write_rows
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.step import run, step_parser

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = step_parser(__doc__)
    result.add_argument("--rows", type=Path, required=True, help="the parquet file to write")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Fetch the rows, check each and write them."""
    settings = arguments.settings
    source = importlib.import_module(f"workflow_scripts.corpora.{settings['source']}")
    rows = source.rows(settings)
    where = f"{settings['task']}, {settings['language']}, {settings['split']}"
    if not rows:
        raise UserError(f"{where}: the corpus source {settings['source']} gave no rows")
    for number, row in enumerate(rows, 1):
        check_row(row, settings["kind"], settings["labels"], f"{where}, row {number}")
    write_rows(arguments.rows, rows, settings["kind"])
    logger.info("%s: %d rows", where, len(rows))


if __name__ == "__main__":
    run(main, parser())

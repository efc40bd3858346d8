"""Read one split of a corpus in one language and write it in the row schema of its kind of task.

    source ──> resources/corpora/{task}/{language}/{split}.parquet      with its origin: files, hashes, licences

Settings: `source`, the module in `corpora/` that reads it ("mini", "xtreme", "hub", "universal_dependencies"), the
settings of that module's `rows`, and `task`, `kind`, `labels`, `language`, `split`, `limit`, `whole` (for train: hold
out nothing for validation).

Corpora from the hub are read at the commit that `--pinned` records. Later steps do not use the network.
"""

import argparse
import importlib
import logging
from pathlib import Path

from workflow_scripts.corpora.schema import check_row, write_rows
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.files import read_json
from workflow_scripts.experiment.step import input_file, output_file, run, step_parser

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__)
    result.add_argument(
        "--pinned", type=input_file, nargs="*", default=[], help="the record of the repository on the hub, if any"
    )
    result.add_argument("--downloads", type=Path, default=Path("resources"), help="the folder for downloaded files")
    result.add_argument("--rows", type=output_file, required=True, help="the parquet file to write")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Fetch the rows, check each of them, and write them. Raises UserError if there are none or one is unusable."""
    settings = {**arguments.settings, "downloads": str(arguments.downloads)}
    for record in arguments.pinned:
        settings["pinned"] = read_json(record)
    source = importlib.import_module(f"workflow_scripts.corpora.{settings['source']}")
    rows = source.rows(settings)
    where = f"{settings['task']}, {settings['language']}, {settings['split']}"
    if not rows:
        raise UserError(f"{where}: the corpus source {settings['source']} returned no rows")
    for number, row in enumerate(rows, 1):
        check_row(row, settings["kind"], settings["labels"], f"{where}, row {number}")
    origin = source.origin(settings)
    write_rows(arguments.rows, rows, settings["kind"], origin)
    licences = "; ".join(f"{name}: {licence}" for name, licence in origin["licences"].items())
    logger.info("%s: %d rows from %s (%s)", where, len(rows), origin["name"], licences)


if __name__ == "__main__":
    run(main, parser())

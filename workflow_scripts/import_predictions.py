"""Import predictions that were made elsewhere, such as those of a prompted language model, in the form of our own.

    file + corpus rows, by language ──> predictions/en+de/en.parquet   id, prediction (JSON), the origin
                                        predictions/en+de.json         checksum by language

The files must have exactly one prediction for every test row. Settings: `outside.settings.ImportSettings`.
"""

import argparse
import importlib
import logging

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import sha256, write_json
from workflow_scripts.core.names import predictions_file
from workflow_scripts.core.source_files import SourceFiles
from workflow_scripts.core.step import input_file, output_file, run, step_parser
from workflow_scripts.corpora.schema import read_rows, write_predictions
from workflow_scripts.outside.answers import matched
from workflow_scripts.outside.files import locate, sources
from workflow_scripts.outside.settings import ImportSettings

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, ImportSettings)
    result.add_argument(
        "--rows",
        type=input_file,
        nargs="+",
        required=True,
        help="the test sets, parquet, in the order of the languages",
    )
    result.add_argument(
        "--record", type=output_file, required=True, help="the record to write, in the folder predictions/"
    )
    return result


def main(arguments: argparse.Namespace) -> list[SourceFiles]:
    """Import the predictions of every language, the record last; return the user's files that they come from.

    Raises UserError, naming file and record, for a file that does not have exactly the test rows, or wrong answers.
    """
    settings: ImportSettings = arguments.settings
    module = importlib.import_module(f"workflow_scripts.outside.{settings.format}")
    where = f"arms.{settings.arm}, {settings.task}"
    try:
        files = sources(settings.files)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    record = {}
    for language, pattern, rows_file in zip(settings.languages, settings.files, arguments.rows, strict=True):
        file, rows = locate(pattern), read_rows(rows_file, settings.kind)
        accept_unknown = settings.unknown == "wrong"
        try:
            found, unknown = matched(module.answers(file, settings), rows, file, rows_file, accept_unknown)
        except UserError as error:
            raise UserError(f"{where}, {language}: {error}") from error
        origin = {"file": str(file), "sha256": sha256(file), "rows": len(rows), "unknown": unknown}
        target = predictions_file(arguments.record, language)
        write_predictions(target, found, origin)
        record[language] = sha256(target)
        logger.info("%s: %d predictions from %s, %d of them not valid answers", language, len(rows), file, unknown)
    write_json(arguments.record, record)
    return [files]


if __name__ == "__main__":
    run(main, parser())

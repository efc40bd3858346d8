"""Read one split of a corpus in one language and write it in the row schema of its kind of task.

    source ──> resources/corpora/{task}/{language}/{split}.parquet      with its origin: files, hashes, licences, and
                                                                        how many rows were changed or left out

Settings: `corpora.description.Corpus`.

Corpora from the hub are read at the commit that `--pinned` records. Later steps do not use the network.
"""

import argparse
import importlib
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from workflow_scripts.core.files import read_json
from workflow_scripts.core.source_files import SourceFiles
from workflow_scripts.core.step import input_file, output_file, run, step_parser
from workflow_scripts.corpora.description import Corpus
from workflow_scripts.corpora.rows import complete
from workflow_scripts.corpora.schema import read_origin, write_rows

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, Corpus)
    result.add_argument(
        "--pinned", type=input_file, nargs="*", default=[], help="the record of the repository on the hub, if any"
    )
    result.add_argument("--downloads", type=Path, default=Path("resources"), help="the folder for downloaded files")
    result.add_argument("--rows", type=output_file, required=True, help="the parquet file to write")
    return result


def main(arguments: argparse.Namespace) -> list[SourceFiles]:
    """Fetch the rows, check each of them, and write them; return the user's files that they come from.

    Raises UserError if there are no rows or one is unusable.
    """
    corpus: Corpus = arguments.settings
    pinned = read_json(arguments.pinned[0]) if arguments.pinned else None
    source = importlib.import_module(f"workflow_scripts.corpora.{corpus.type}")
    own_files = [source.sources(corpus)] if hasattr(source, "sources") else []
    counts: Counter[str] = Counter()
    rows = complete(lambda: source.rows(corpus, pinned, arguments.downloads), corpus, counts)

    def origin() -> dict[str, Any]:
        return {**source.origin(corpus, pinned, arguments.downloads), "counts": dict(counts)}

    number = write_rows(arguments.rows, rows, corpus.kind, origin)
    found = read_origin(arguments.rows) or {}
    licences = "; ".join(f"{name}: {licence}" for name, licence in found["licences"].items())
    logger.info("%s: %d rows from %s (%s)", corpus.name, number, found["name"], licences)
    return own_files


if __name__ == "__main__":
    run(main, parser())

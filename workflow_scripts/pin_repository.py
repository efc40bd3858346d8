"""Pin a dataset on the Hugging Face Hub: resolve its revision to a commit and record the commit's files.

    the hub ──> resources/repositories/{repository}.json      commit, licence, size and hash of each parquet file

A branch such as `main` is resolved only once: as long as the record exists, all corpora are read at its commit.
Settings: `PinSettings`.
"""

import argparse
import logging

from workflow_scripts.core.files import write_json
from workflow_scripts.core.settings import StepSettings
from workflow_scripts.core.step import output_file, run, step_parser
from workflow_scripts.corpora.hub import pin

logger = logging.getLogger(__name__)


class PinSettings(StepSettings):
    """What to pin: the name of a repository, with its owner, and the revision to resolve."""

    repository: str
    revision: str


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, PinSettings)
    result.add_argument("--record", type=output_file, required=True, help="the JSON file to write")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Query the hub and write the record. Raises UserError if the hub cannot be reached or has no such revision."""
    settings: PinSettings = arguments.settings
    pinned = pin(settings.repository, settings.revision)
    write_json(arguments.record, pinned)
    fields = (pinned[name] for name in ("repository", "revision", "commit", "licence"))
    logger.info("%s at %s is commit %s, licence %s", *fields)


if __name__ == "__main__":
    run(main, parser())

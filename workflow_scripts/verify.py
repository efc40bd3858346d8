"""Check the files of a grid against its configuration and the user's data, and print the differences.

    resources/, results/  ──> a line for each output that does not match the configuration

For every output, the recorded settings, inputs and checksum are compared with the configuration, the current inputs,
the user's own files that were read, and the file. Missing outputs, and outputs that an earlier version of the code
made, are only counted: the next run makes them.

Then everything that follows from predictions and run records (scores, tables, statistics, report) is recomputed in a
temporary folder, without training, and compared byte by byte (`console/recomputing.py`); `--quick` skips this.

Nothing is changed. The exit status is 0 if nothing differs, else 1. The options are those of the command that ran the
workflow.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from workflow_scripts.console.recomputing import Comparison, recompute
from workflow_scripts.core.errors import UserError
from workflow_scripts.core.lineage import Lineage
from workflow_scripts.core.step import run, step_parser
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.consistency import differences
from workflow_scripts.experiment.jobs import all_jobs


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__)
    result.add_argument(
        "--configfile", type=Path, nargs="+", required=True, metavar="FILE", help="the grid's configuration files"
    )
    result.add_argument(
        "--config", nargs="*", default=[], metavar="KEY=VALUE", help="keys that replace those in the files"
    )
    result.add_argument("--quick", action="store_true", help="compare settings and checksums; recompute nothing")
    result.add_argument("--directory", type=Path, metavar="FOLDER", help="the working folder; default: the current one")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Compare and print. Raises UserError if something differs."""
    configuration = load(values(arguments.configfile, arguments.config))
    if arguments.directory:
        os.chdir(arguments.directory)
    jobs = list(all_jobs(configuration))
    found = list(differences(Lineage(configuration.resources, configuration.results, checksums=True), jobs))
    differing = [difference for difference in found if not difference.only_code]
    outputs = [Path(output) for job in jobs for output in job.outputs]
    there = sum(output.exists() for output in outputs)
    for difference in differing:
        print(difference)
    print(f"{there} of {len(outputs)} outputs exist, {len(differing)} of them differ from the configuration")
    if len(found) > len(differing):
        print(f"{len(found) - len(differing)} of them were made by an earlier version of the code")
    named = {difference.output for difference in differing}
    again = Comparison() if arguments.quick else recompute(configuration)
    others = {file: reason for file, reason in again.differing.items() if file not in named}
    for file, reason in others.items():
        print(f"{file}: {reason}")
    if not arguments.quick:
        print(f"{again.files} files were recomputed, {len(again.differing)} of them differ")
    if again.left_out:
        print(f"what the steps {', '.join(again.left_out)} make was not recomputed, since their inputs differ")
    sys.stdout.flush()
    if others:
        raise UserError("delete what differs, and run the workflow again with this configuration to remake it")
    if differing:
        raise UserError("run the workflow again with this configuration to remake what differs")


def values(files: list[Path], overrides: list[str]) -> dict[str, Any]:
    """Return the configuration as Snakemake reads it. Raises UserError if a file or value cannot be read."""
    from snakemake.cli import parse_config
    from snakemake.exceptions import WorkflowError
    from snakemake.settings.types import ConfigSettings

    try:
        found = ConfigSettings(config=parse_config(overrides), configfiles=files).overwrite_config
    except (WorkflowError, OSError, ValueError) as error:
        raise UserError(str(error)) from error
    return dict(found)


if __name__ == "__main__":
    run(main, parser())

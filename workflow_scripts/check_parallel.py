"""Check that the test sets of a task have the same ids in all languages, as `parallel: true` says.

    rows of the test sets ──> results/parallel/{task}.json      the languages, and the number of ids

Averages over languages count rows of one id as one draw. This job has a high priority and reads the ids alone, so wrong
ids are found before the first training. No training depends on it: an added language retrains nothing.

Settings: `CheckParallelSettings`.
"""

import argparse
from pathlib import Path

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import write_json
from workflow_scripts.core.settings import StepSettings
from workflow_scripts.core.step import input_file, output_file, run, step_parser
from workflow_scripts.corpora.schema import read_ids


class CheckParallelSettings(StepSettings):
    """The test sets.

    Attributes:
        task: its name.
        languages: in the order of the test sets.
    """

    task: str
    languages: list[str]


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, CheckParallelSettings)
    result.add_argument("--rows", type=input_file, nargs="+", required=True, help="the test sets, parquet")
    result.add_argument("--checked", type=output_file, required=True, help="the JSON file to write")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Compare the ids of each language with those of the first. Raises UserError if they differ."""
    settings: CheckParallelSettings = arguments.settings
    languages = settings.languages
    files: dict[str, Path] = dict(zip(languages, arguments.rows, strict=True))
    reference, *others = languages
    expected = read_ids(files[reference])
    known = set(expected)
    for language in others:
        found = read_ids(files[language])
        there = set(found)
        # In the order of the rows, those of the reference first.
        odd = [(reference, identity) for identity in expected if identity not in there]
        odd += [(language, identity) for identity in found if identity not in known]
        if odd:
            only, identity = odd[0]
            raise UserError(
                f"tasks.{settings.task}.parallel: the test sets in {reference} and {language} have different ids;"
                f" the first difference is {identity!r}, which only {only} has: correct the files or columns.id, or set"
                f" parallel: false (or partly, if some languages lack rows)"
            )
    write_json(arguments.checked, {"languages": languages, "ids": len(expected)})


if __name__ == "__main__":
    run(main, parser())

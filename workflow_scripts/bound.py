"""Compute an upper bound on question-answering scores, by language: the best score of any span of tokens.

    rows + tokens of the test sets ──> results/{encoder}/{task}/ceilings.json      metric -> language -> percent

No model is involved. Answers that are longer than decoding allows, or that begin or end inside a token, cannot be
reached exactly.

Settings: `BoundSettings`.
"""

import argparse
import logging

from workflow_scripts.core.files import write_json
from workflow_scripts.core.settings import StepSettings
from workflow_scripts.core.step import input_file, output_file, run, step_parser
from workflow_scripts.corpora.schema import read_rows
from workflow_scripts.kinds import part
from workflow_scripts.kinds.settings import ScoringSettings
from workflow_scripts.kinds.tokens import read_tokens

logger = logging.getLogger(__name__)


class BoundSettings(StepSettings):
    """The test sets.

    Attributes:
        kind, normalisation: the task's.
        languages: in the order of the test sets.
    """

    kind: str
    normalisation: str | None = None
    languages: list[str]


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, BoundSettings)
    result.add_argument("--rows", type=input_file, nargs="+", required=True, help="the test sets, parquet")
    result.add_argument("--tokens", type=input_file, nargs="+", required=True, help="their tokens, in the same order")
    result.add_argument("--ceilings", type=output_file, required=True, help="the JSON file to write")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Find the best scores of each question and write their means."""
    settings: BoundSettings = arguments.settings
    find_ceilings = part(settings.kind, "ceiling").ceilings
    ceilings: dict[str, dict[str, float]] = {}
    for language, rows_file, record in zip(settings.languages, arguments.rows, arguments.tokens, strict=True):
        scoring = ScoringSettings(language=language, normalisation=settings.normalisation)
        language_ceilings = find_ceilings(read_rows(rows_file, settings.kind), read_tokens(record), scoring)
        for metric, value in language_ceilings.items():
            ceilings.setdefault(metric, {})[language] = value
        reached = ", ".join(f"{metric} {value:.1f}" for metric, value in language_ceilings.items())
        logger.info("%s: at most %s", language, reached)
    write_json(arguments.ceilings, ceilings)


if __name__ == "__main__":
    run(main, parser())

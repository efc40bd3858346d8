"""Compute an upper bound on question-answering scores, by language: the best score of any span of tokens.

    rows + tokens of the test sets ──> results/{encoder}/{task}/ceilings.json      metric -> language -> percent

No model is involved. Answers that are longer than decoding allows, or that begin or end inside a token, cannot be
reached exactly.

Settings: `kind`, `languages`, in the order of the test sets.
"""

import argparse
import logging

from workflow_scripts.corpora.schema import Row, read_rows
from workflow_scripts.experiment.files import write_json
from workflow_scripts.experiment.step import input_file, output_file, run, step_parser
from workflow_scripts.kinds.question_answering.ceiling import Window, best_scores
from workflow_scripts.kinds.question_answering.model import LONGEST_ANSWER
from workflow_scripts.kinds.tokens import Tokens, read_tokens

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__)
    result.add_argument("--rows", type=input_file, nargs="+", required=True, help="the test sets, parquet")
    result.add_argument("--tokens", type=input_file, nargs="+", required=True, help="their tokens, in the same order")
    result.add_argument("--ceilings", type=output_file, required=True, help="the JSON file to write")
    return result


def main(arguments: argparse.Namespace) -> None:
    """Find the best scores of each question and write their means."""
    kind, languages = arguments.settings["kind"], arguments.settings["languages"]
    ceilings: dict[str, dict[str, float]] = {}
    for language, rows_file, record in zip(languages, arguments.rows, arguments.tokens, strict=True):
        language_ceilings = mean_ceilings(read_rows(rows_file, kind), read_tokens(record))
        for metric, value in language_ceilings.items():
            ceilings.setdefault(metric, {})[language] = value
        reached = ", ".join(f"{metric} {value:.1f}" for metric, value in language_ceilings.items())
        logger.info("%s: at most %s", language, reached)
    write_json(arguments.ceilings, ceilings)


def mean_ceilings(rows: list[Row], tokens: Tokens) -> dict[str, float]:
    """Return the best scores that spans of tokens reach, averaged over all questions: metric -> percent."""
    windows: list[list[Window]] = [[] for _ in rows]
    starts, ends = tokens.ragged("offset_start"), tokens.ragged("offset_end")
    for feature, row in enumerate(tokens.plain("row")):
        windows[row].append((starts[feature], ends[feature]))
    best = [
        best_scores(row["context"], row["answers"]["text"], row_windows, LONGEST_ANSWER)
        for row, row_windows in zip(rows, windows, strict=True)
    ]
    return {metric: sum(scores[metric] for scores in best) / len(best) for metric in best[0]}


if __name__ == "__main__":
    run(main, parser())

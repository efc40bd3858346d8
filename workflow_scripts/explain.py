"""Compare the transfer gap with the distance of a language from the source, its script and its token count.

    scores.csv  runs.csv             ─┐
    tokens and rows of the test sets ─┴─> distances.csv  the measures of each target language
                                          explained.csv  their rank correlation with the gap, by method

Tokens are counted in the token folders; nothing is tokenised. Only the tokenizer's special tokens are looked up.
Settings: `configuration`, the complete configuration; tokens, rows and encoders are found by the grid's paths, in the
working folder.
"""

import argparse
import logging
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from workflow_scripts.core.files import written
from workflow_scripts.core.names import OUTSIDE
from workflow_scripts.core.settings import WholeGridSettings
from workflow_scripts.core.step import input_file, output_file, run, step_parser
from workflow_scripts.corpora.schema import read_ids
from workflow_scripts.evaluation.explained import COLUMNS, DISTANCE_COLUMNS, distances, explained, gaps
from workflow_scripts.evaluation.pieces import Pieces, count_pieces, special_ids
from workflow_scripts.evaluation.tables import read_runs, read_scores
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.grid import Grid, Paths
from workflow_scripts.kinds import part
from workflow_scripts.kinds.tokenizer import load_tokenizer
from workflow_scripts.kinds.tokens import read_tokens

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, WholeGridSettings)
    result.add_argument("--scores", type=input_file, required=True, help="the table of scores")
    result.add_argument("--runs", type=input_file, required=True, help="the table of training runs")
    result.add_argument("--distances", type=output_file, required=True, help="the table of measures to write")
    result.add_argument("--explained", type=output_file, required=True, help="the table of correlations to write")
    return result


def main(arguments: argparse.Namespace) -> list[Path]:
    """Count the tokens, write both tables, and return the token records and rows that were read."""
    settings: WholeGridSettings = arguments.settings
    configuration = load(settings.configuration)
    grid, paths = Grid(configuration), Paths.of(configuration)
    read: dict[Path, None] = {}
    counted: dict[tuple[str, str], dict[str, Pieces]] = {}
    special: dict[str, tuple[set[int], int | None]] = {}
    for encoder, task, language, split, answers in grid.tokens():
        if (split, answers) != ("test", "head"):
            continue
        if encoder not in special:
            special[encoder] = special_ids(load_tokenizer(Path(paths.encoder(encoder)).parent))
        record, rows = Path(paths.tokens(encoder, task, language, "test")), Path(paths.corpus(task, language, "test"))
        read |= {record: None, rows: None}
        words = words_of(rows) if "tokens" in part(grid.kind(task), "rows").FIELDS else None
        counted.setdefault((encoder, task), {})[language] = count_pieces(
            read_tokens(record), read_ids(rows), words, *special[encoder]
        )
    parallel = {task: bool(section.definition.parallel) for task, section in configuration.tasks.items()}
    scores, runs = read_scores(arguments.scores), read_runs(arguments.runs)
    scores = scores[scores["encoder"] != OUTSIDE]  # predictions that were made elsewhere have no tokenizer
    measures = pd.DataFrame(distances(scores, counted, parallel), columns=DISTANCE_COLUMNS)
    for path, table in (
        (arguments.distances, measures),
        (arguments.explained, pd.DataFrame(explained(gaps(scores, runs), measures), columns=COLUMNS)),
    ):
        with written(path) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
        logger.info("wrote %s", path)
    return list(read)


def words_of(rows: Path) -> list[int]:
    """The number of words of each row, of a corpus whose rows are lists of words."""
    column = pq.read_table(rows, columns=["tokens"])["tokens"].combine_chunks()
    counts: list[int] = column.value_lengths().to_pylist()
    return counts


if __name__ == "__main__":
    run(main, parser())

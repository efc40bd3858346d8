"""Choose examples of predictions: test rows on which the tuning methods disagree.

    scores.csv, runs.csv             ──> the arm that represents each method
    predictions + gold rows          ──> examples.json   inputs, gold and each arm's prediction, by task and language

Settings: `configuration`, the complete configuration; predictions and rows are found by the grid's paths, in the
working folder. Predictions are those of the configuration's first seed.
"""

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import written
from workflow_scripts.core.names import NO_SEED, OUTSIDE, languages_name, predictions_file
from workflow_scripts.core.settings import WholeGridSettings
from workflow_scripts.core.step import input_file, output_file, run, step_parser
from workflow_scripts.corpora.schema import read_predictions, read_rows
from workflow_scripts.evaluation.aggregate import headline_arms, methods_of
from workflow_scripts.evaluation.examples import PredictedRow, examples
from workflow_scripts.evaluation.tables import read_runs, read_scores
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.grid import Arm, Grid, Paths

logger = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    result = step_parser(__doc__, WholeGridSettings)
    result.add_argument("--scores", type=input_file, required=True, help="the table of scores")
    result.add_argument("--runs", type=input_file, required=True, help="the table of training runs")
    result.add_argument("--examples", type=output_file, required=True, help="the JSON file to write")
    return result


def main(arguments: argparse.Namespace) -> list[Path]:
    """Choose examples for each encoder and task with several methods; return the records of the predictions read.

    Predictions that were made elsewhere are shown beside those of each encoder if they cover every language of the
    task, and have no seed or the seed of the examples.
    """
    settings: WholeGridSettings = arguments.settings
    configuration = load(settings.configuration)
    grid, paths, seed = (
        Grid(configuration),
        Paths.of(configuration),
        configuration.seeds[0],
    )
    scores = read_scores(arguments.scores)
    own = {*grid.arms(), *grid.outside_arms()}  # the tables may also have arms of other grids
    chosen = {
        key: length
        for key, length in headline_arms(scores, read_runs(arguments.runs)).items()
        if Arm(*key, length) in own
    }
    found: list[dict[str, Any]] = []
    records: list[Path] = []
    for encoder in configuration.encoders:
        for task, section in configuration.tasks.items():
            source = configuration.training_sources(task)[0]
            methods = [method for method in methods_of(scores) if (encoder, task, source, method) in chosen]
            arms = [Arm(encoder, task, source, method, chosen[encoder, task, source, method]) for method in methods]
            arms += [
                arm
                for arm in grid.outside_arms()
                if arm.task == task
                and grid.tested_by(arm) == grid.languages(task)
                and {seed, NO_SEED} & set(grid.outside_seeds(arm.method))
            ]
            if len(arms) < 2:
                continue
            definition, names = section.definition, [arm.name for arm in arms]
            rows = dict(read(grid, paths, arms, seed))
            made = examples(rows, definition.kind, definition.texts, names)
            found += [{"encoder": encoder, "task": task, "source": source, "seed": seed, **example} for example in made]
            used = (record for arm in arms for record in records_of(grid, paths, arm, seed).values())
            records += map(Path, dict.fromkeys(used))
            logger.info("%s, %s: %d examples of %s", encoder, task, len(made), " and ".join(names))
    with written(arguments.examples) as temporary:
        # Keys are not sorted: the premise comes before the hypothesis, and methods keep their order.
        temporary.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return records


def records_of(grid: Grid, paths: Paths, arm: Arm, seed: int) -> dict[str, str]:
    """Return the record of an arm's predictions in each language of its task."""
    if arm.encoder == OUTSIDE:
        of_arm = grid.outside_seeds(arm.method)
        languages = grid.tested_by(arm)
        record = paths.predictions(*arm.place, seed if seed in of_arm else NO_SEED, languages_name(languages))
        return dict.fromkeys(languages, record)
    return {
        language: paths.predictions(*arm.place, seed, languages_name(group))
        for group in grid.language_groups(arm.task)
        for language in group
    }


def read(grid: Grid, paths: Paths, arms: Sequence[Arm], seed: int) -> Iterator[tuple[str, Iterator[PredictedRow]]]:
    """Yield each language of a task with an iterator over its test rows and the arms' predictions; read lazily."""
    task = arms[0].task
    records = {arm.name: records_of(grid, paths, arm, seed) for arm in arms}
    for language in grid.languages(task):
        files = {arm: predictions_file(Path(of_arm[language]), language) for arm, of_arm in records.items()}
        yield language, predicted_rows(Path(paths.corpus(task, language, "test")), grid.kind(task), files)


def predicted_rows(rows: Path, kind: str, files: dict[str, Path]) -> Iterator[PredictedRow]:
    """Yield each row with its predictions by arm. Raises UserError, naming the file, if a prediction is missing."""
    predictions = {arm: read_predictions(file) for arm, file in files.items()}
    for row in read_rows(rows, kind):
        for arm, by_id in predictions.items():
            if row["id"] not in by_id:
                raise UserError(f"{files[arm]} has no prediction of row {row['id']!r}: delete it and run again")
        yield row, {arm: by_id[row["id"]] for arm, by_id in predictions.items()}


if __name__ == "__main__":
    run(main, parser())

"""A baseline without a language model: what character n-grams score on the rows of a grid.

    python -m benchmarks.bag_of_words --configfile CONFIGURATION

For each classification and regression task of a finished grid and each of its sources: scikit-learn's tf-idf of
character n-grams (1 to 5, within words) and a linear model, fitted on the rows that the grid tuned on and scored on the
rows that it tested on, beside the mean score of each method over the seeds. A tuned model should beat the baseline in
the source language and, since n-grams hardly transfer, by far in languages with other scripts.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from workflow_scripts.core.names import source_languages
from workflow_scripts.corpora.schema import Row, read_rows
from workflow_scripts.evaluation.metrics import score
from workflow_scripts.experiment.configuration import load_file
from workflow_scripts.experiment.grid import Grid, Paths
from workflow_scripts.kinds.settings import ScoringSettings

MODELS = {"classification": ("label", LogisticRegression(C=10, max_iter=2000)), "regression": ("score", Ridge())}


def main() -> None:
    """Print a table for each task and source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", type=Path, required=True, help="the configuration of a finished grid")
    configuration = load_file(parser.parse_args().configfile)
    grid, paths = Grid(configuration), Paths.of(configuration)
    scores = pd.read_csv(Path(configuration.results, "scores.csv"))
    for task in configuration.tasks:
        definition = configuration.tasks[task].definition
        kind = definition.kind
        if kind not in MODELS:
            continue
        for source in sorted({arm.source for arm in grid.arms() if arm.task == task}):
            training = [read_rows(Path(paths.corpus(task, one, "train")), kind) for one in source_languages(source)]
            predict = fitted([row for rows in training for row in rows], kind)
            found = scores[(scores["task"] == task) & (scores["source"] == source)]
            table = found.pivot_table("value", "language", "method", aggfunc="mean", sort=False).round(1)
            for language in table.index:
                rows = read_rows(Path(paths.corpus(task, language, "test")), kind)
                table.loc[language, "bag of words"] = main_metric(
                    kind, rows, predict(rows), ScoringSettings(language=language, labels=definition.labels)
                )
            print(f"{task}, tuned on {source}\n{table.to_string()}\n")


def text(row: Row) -> str:
    """The text of a row, or its two texts."""
    return " \n ".join(filter(None, (row["text"], row["text_pair"])))


def fitted(rows: list[Row], kind: str) -> Any:
    """Fit the model; return a function from rows to predictions by id."""
    column, model = MODELS[kind]
    pipeline = make_pipeline(TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True), model)
    pipeline.fit([text(row) for row in rows], [row[column] for row in rows])
    return lambda others: dict(
        zip([row["id"] for row in others], pipeline.predict([text(row) for row in others]).tolist(), strict=True)
    )


def main_metric(kind: str, rows: list[Row], predictions: dict[str, Any], scoring: ScoringSettings) -> float:
    """The kind's main metric, in percent."""
    return round(next(iter(score(kind, rows, predictions, scoring).values())), 1)


if __name__ == "__main__":
    main()

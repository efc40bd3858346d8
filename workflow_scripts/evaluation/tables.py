"""The long tables of scores and training runs, read and checked."""

from pathlib import Path

import pandas as pd

from workflow_scripts.core.errors import UserError
from workflow_scripts.evaluation.aggregate import check_runs, check_scores

EMPTY = ["searched", "stopped", "problem"]  # columns of runs.csv whose empty fields are texts


def read_scores(path: Path) -> pd.DataFrame:
    """Read and check the long score table. Raises UserError."""
    scores = _read_csv(path, text=["encoder", "task", "source", "method", "language", "metric"])
    check_scores(scores)
    return scores


def read_runs(path: Path) -> pd.DataFrame:
    """Read and check the table of training runs; no problem is the empty text. Raises UserError."""
    runs = _read_csv(path, text=["encoder", "task", "source", "method", "stage", "metric", *EMPTY])
    check_runs(runs)
    selected = runs["selected"].astype(str).str.lower() == "true"
    return runs.assign(selected=selected, **{column: runs[column].fillna("") for column in EMPTY})


def _read_csv(path: Path, text: list[str]) -> pd.DataFrame:
    # Only the empty field is missing: pandas would read a language called "na" or an encoder called "null" as
    # missing too.
    try:
        return pd.read_csv(path, dtype=dict.fromkeys(text, "str"), keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from error

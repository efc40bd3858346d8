"""The paper's tables as plain frames, and as CSV files under plain names."""

from pathlib import Path

import pandas as pd

from workflow_scripts.evaluation.aggregate import (
    ARM,
    Arms,
    arm_names,
    averages,
    by_language,
    check_runs,
    check_scores,
    final_runs,
    headline_arms,
    in_table_order,
    tasks_of,
    transfer_gaps,
)
from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.step import written


def read_scores(path: Path) -> pd.DataFrame:
    """Read and check the long score table. Raises UserError."""
    scores = _read_csv(path, text=["encoder", "task", "method", "language", "metric"])
    check_scores(scores)
    return scores


def read_runs(path: Path) -> pd.DataFrame:
    """Read and check the table of training runs; no problem is the empty text. Raises UserError."""
    runs = _read_csv(path, text=["encoder", "task", "method", "stage", "metric", "problem"])
    check_runs(runs)
    selected = runs["selected"].astype(str).str.lower() == "true"
    return runs.assign(problem=runs["problem"].fillna(""), selected=selected)


def _read_csv(path: Path, text: list[str]) -> pd.DataFrame:
    # Only the empty field is missing: pandas would read a language called "na" or an encoder called "null" as
    # missing too.
    try:
        return pd.read_csv(path, dtype=dict.fromkeys(text, "str"), keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from error


def headline_averages(scores: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Table 1 with a column `headline`: whether the arm stands for its method (see `headline_arms`)."""
    return _mark_headline(averages(scores), headline_arms(scores, runs))


def headline_gaps(scores: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Table 2 with a column `headline`, as `headline_averages`."""
    return _mark_headline(transfer_gaps(scores), headline_arms(scores, runs))


def _mark_headline(table: pd.DataFrame, arms: Arms) -> pd.DataFrame:
    keys = zip(table["encoder"], table["task"], table["method"], table["prompt_length"], strict=True)
    return table.assign(headline=[arms.get((encoder, task, method)) == n for encoder, task, method, n in keys])


def language_scores(scores: pd.DataFrame, task: str) -> pd.DataFrame:
    """Tables 5 to 8 in one frame: `by_language`'s tables with the metric as a column."""
    tables = [table.assign(metric=metric) for metric, table in by_language(scores, task).items()]
    joined = pd.concat(tables, ignore_index=True)
    front = [*ARM, "arm", "seed", "metric"]
    return joined[[*front, *(column for column in joined if column not in front)]]


def learning_rate_search(runs: pd.DataFrame) -> pd.DataFrame:
    """Every candidate of the search on the English validation set (the paper's appendix A.1), one row a candidate.

    `last_epoch_best`: training longer might have helped. `at_the_edge`: the winner is the smallest or largest of
    several candidates, so a better one may lie outside.
    """
    search = runs[runs["stage"] == "search"]
    group = search.groupby(["task", *ARM])["learning_rate"]
    several = group.transform("nunique") > 1
    extreme = search["learning_rate"].isin([]) if search.empty else _is_extreme(search["learning_rate"], group)
    table = search.assign(
        arm=arm_names(search),
        last_epoch_best=search["best_epoch"] == search["epochs"],
        at_the_edge=search["selected"].astype(bool) & several & extreme,
    )
    columns = [
        "encoder",
        "task",
        "method",
        "prompt_length",
        "arm",
        "learning_rate",
        "seed",
        "metric",
        "validation",
        "majority",
        "selected",
        "best_epoch",
        "epochs",
        "last_epoch_best",
        "at_the_edge",
        "problem",
    ]
    return _by_task(table[columns], "learning_rate", "seed")


def _is_extreme(rates: pd.Series, group) -> pd.Series:  # type: ignore[no-untyped-def]
    return (rates == group.transform("min")) | (rates == group.transform("max"))


def _by_task(table: pd.DataFrame, *further: str) -> pd.DataFrame:
    parts = [in_table_order(table[table["task"] == task], *further) for task in tasks_of(table)]
    return pd.concat(parts, ignore_index=True) if parts else table


def cost(runs: pd.DataFrame) -> pd.DataFrame:
    """What an arm costs, by encoder and task; the paper states the tuned share alone (section 4: 0.1 % to 0.3 %).

    Over the runs that the scores come from: means, and for memory the most. `tuned_percent` is of the encoder's
    parameters. `search_seconds` is the time that all candidates of the learning-rate search took together, the
    winner included.
    """
    keys = ["task", *ARM]
    table = (
        final_runs(runs)
        .groupby(keys, as_index=False)
        .agg(
            runs=("seed", "size"),
            tuned_parameters=("tuned_parameters", "mean"),
            encoder_parameters=("encoder_parameters", "mean"),
            seconds=("seconds", "mean"),
            examples_per_second=("examples_per_second", "mean"),
            peak_memory_mb=("peak_memory_mb", "max"),
            stored_bytes=("stored_bytes", "mean"),
        )
    )
    search = runs[runs["stage"] == "search"].groupby(keys, as_index=False).agg(search_seconds=("seconds", "sum"))
    table = table.merge(search, on=keys, how="left")
    table["tuned_percent"] = 100 * table["tuned_parameters"] / table["encoder_parameters"]
    table["arm"] = arm_names(table)
    columns = [
        "encoder",
        "task",
        "method",
        "prompt_length",
        "arm",
        "runs",
        "tuned_parameters",
        "tuned_percent",
        "encoder_parameters",
        "seconds",
        "search_seconds",
        "examples_per_second",
        "peak_memory_mb",
        "stored_bytes",
    ]
    return _by_task(table[columns])


def problems(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that failed, did not learn or are not above the majority class; `problem` says which.

    `final` is True for a run that scores come from; a candidate that lost the search is expected to fail now and
    then.
    """
    final = final_runs(runs)
    lost = runs[(runs["stage"] == "search") & ~runs["selected"].astype(bool)]
    checked = pd.concat([final.assign(final=True), lost.assign(final=False)], ignore_index=True)
    checked["problem"] = [_problem(run) for run in checked.to_dict("records")]
    return _by_task(checked[checked["problem"] != ""], "learning_rate", "seed").sort_values(
        "final", ascending=False, kind="stable"
    )


def _problem(run: dict) -> str:
    if pd.notna(run["problem"]) and run["problem"]:
        return str(run["problem"])
    if pd.isna(run["validation"]):
        return "no validation score"
    # Equal is a problem too: a model that always answers the most frequent class has not learned.
    if pd.notna(run["majority"]) and run["validation"] <= run["majority"]:
        return f"validation {run['validation']:.1f} is not above the majority class, {run['majority']:.1f}"
    return ""


def table_file(task: str) -> str:
    """The file name of a task's scores by language, with the paper's number where it has one: `table_5_xnli.csv`."""
    number = TASKS[task].paper_table
    return f"table_{number}_{task}.csv" if number else f"table_{task}.csv"


def write_tables(scores: pd.DataFrame, runs: pd.DataFrame, folder: Path) -> list[Path]:
    """Write every table as CSV and return the files, each written to a temporary name, then renamed.

    A table of a task that has no scores is not written, and removed if an earlier grid left it: a stale table
    misleads.
    """
    check_scores(scores)
    check_runs(runs)
    tables = {
        "table_1_averages.csv": headline_averages(scores, runs),
        "table_2_transfer_gaps.csv": headline_gaps(scores, runs),
        **{table_file(task): language_scores(scores, task) for task in tasks_of(scores.dropna(subset="value"))},
        "learning_rate_search.csv": learning_rate_search(runs),
        "cost.csv": cost(runs),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for task in TASKS:
        if table_file(task) not in tables:
            (folder / table_file(task)).unlink(missing_ok=True)
    for name, table in tables.items():
        with written(folder / name) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
    return [folder / name for name in tables]

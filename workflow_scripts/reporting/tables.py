"""The frames that the report's tables and charts are made from."""

from collections.abc import Sequence

import pandas as pd

from workflow_scripts.core.names import UNTUNED
from workflow_scripts.evaluation.aggregate import (
    ARM,
    arm_names,
    averages,
    final_runs,
    in_table_order,
    runs_elsewhere,
    validation_by_prompt_length,
)

AVERAGE = "average"  # of several languages, in a column of languages


def learning_rate_search(runs: pd.DataFrame) -> pd.DataFrame:
    """Every candidate of the search on the validation set (the paper's appendix A.1), one row each.

    `last_epoch_best`: the last of several epochs was the best, so longer training might have helped. `at_the_edge`: the
    winner is the smallest or largest of several learning rates, so a better one may be outside the range.
    """
    search = runs[runs["stage"] == "search"]
    group = search.groupby(["task", *ARM])["learning_rate"]
    several = group.transform("nunique") > 1
    extreme = search["learning_rate"].isin([]) if search.empty else _is_extreme(search["learning_rate"], group)
    table = search.assign(
        arm=arm_names(search),
        last_epoch_best=(
            search["keep"].isin(["best_metric", "best_loss"])
            & (search["epochs"] > 1)
            & (search["kept_epoch"] == search["epochs"])
        ),
        at_the_edge=search["selected"].astype(bool) & several & extreme,
    )
    columns = [
        "encoder",
        "task",
        "source",
        "method",
        "prompt_length",
        "arm",
        "learning_rate",
        "searched",
        "seed",
        "metric",
        "validation",
        "majority",
        "selected",
        "kept_epoch",
        "epochs_taken",
        "epochs",
        "stopped",
        "left_search_after",
        "last_epoch_best",
        "at_the_edge",
        "problem",
    ]
    return in_table_order(table[columns], "learning_rate", "seed")


def _is_extreme(rates: pd.Series, group) -> pd.Series:  # type: ignore[no-untyped-def]
    return (rates == group.transform("min")) | (rates == group.transform("max"))


def cost(runs: pd.DataFrame) -> pd.DataFrame:
    """What an arm costs, by encoder and task. The paper states only the tuned share (section 4: 0.1 % to 0.3 %).

    Means over the runs that the scores come from; for memory the maximum. The winner of a search shared the encoder,
    and so time and memory, with other candidates. Throughput and memory are therefore those of the runs that shared it
    with the fewest (`together`; 1 is none). `tuned_percent` is the share of the encoder's parameters. `search_seconds`
    is the time of all candidates of the learning-rate search, the winner included. Predictions that were made elsewhere
    have the costs that the configuration states.
    """
    keys = ["task", *ARM]
    final = pd.concat([final_runs(runs), runs_elsewhere(runs)], ignore_index=True)
    table = final.groupby(keys, as_index=False).agg(
        runs=("seed", "size"),
        tuned_parameters=("tuned_parameters", "mean"),
        encoder_parameters=("encoder_parameters", "mean"),
        epochs=("epochs", "mean"),
        epochs_taken=("epochs_taken", "mean"),
        seconds=("seconds", "mean"),
        stored_bytes=("stored_bytes", "mean"),
    )
    fewest = final[final["together"] == final.groupby(keys)["together"].transform("min")]
    measured = fewest.groupby(keys, as_index=False).agg(
        together=("together", "min"),
        examples_per_second=("examples_per_second", "mean"),
        peak_memory_mb=("peak_memory_mb", "max"),
    )
    table = table.merge(measured, on=keys)
    search = runs[runs["stage"] == "search"].groupby(keys, as_index=False).agg(search_seconds=("seconds", "sum"))
    table = table.merge(search, on=keys, how="left")
    table["tuned_percent"] = 100 * table["tuned_parameters"] / table["encoder_parameters"]
    table["arm"] = arm_names(table)
    columns = [
        "encoder",
        "task",
        "source",
        "method",
        "prompt_length",
        "arm",
        "runs",
        "tuned_parameters",
        "tuned_percent",
        "encoder_parameters",
        "epochs",
        "epochs_taken",
        "seconds",
        "search_seconds",
        "together",
        "examples_per_second",
        "peak_memory_mb",
        "stored_bytes",
    ]
    return in_table_order(table[columns])


def problems(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that failed, did not learn or are not above the majority class; `problem` says which.

    `final` is True for a run that scores come from. Losing candidates of the search may fail.
    """
    final = final_runs(runs)
    lost = runs[(runs["stage"] == "search") & ~runs["selected"].astype(bool)]
    checked = pd.concat([final.assign(final=True), lost.assign(final=False)], ignore_index=True)
    checked["problem"] = [_problem(run) for run in checked.to_dict("records")]
    return in_table_order(checked[checked["problem"] != ""], "learning_rate", "seed").sort_values(
        "final", ascending=False, kind="stable"
    )


def _problem(run: dict) -> str:
    if pd.notna(run["problem"]) and run["problem"]:
        return str(run["problem"])
    if pd.isna(run["validation"]):
        return "no validation score"
    # Equal is a problem too: a model that always predicts the most frequent class has learnt nothing.
    if pd.notna(run["majority"]) and run["validation"] <= run["majority"]:
        return f"validation {run['validation']:.1f} is not above the majority class, {run['majority']:.1f}"
    return ""


def prompt_lengths(scores: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The effect of the prompt length: the main metric on validation, and averaged over the test languages.

    One row for each encoder, task, method and length. `validation` and `test` are means over the seeds that have one,
    `validation_std` and `test_std` sample standard deviations (NaN with one seed); `chosen` marks the length that
    is the method's headline arm (see `headline_arms`). Methods without prompts are left out.
    """
    keys = ["encoder", "task", "source", "method", "prompt_length"]
    final = final_runs(runs)
    # The metric of a run's validation score is the task's main metric.
    validation = final.groupby(keys, as_index=False).agg(
        metric=("metric", "first"),
        validation=("validation", "mean"),
        validation_std=("validation", "std"),
        seeds=("validation", "count"),
    )
    test = averages(scores).rename(columns={"mean": "test", "std": "test_std"})
    test = test[[*keys, "metric", "test", "test_std", "languages", "complete"]]
    table = validation.merge(test, on=[*keys, "metric"], how="left").merge(
        validation_by_prompt_length(runs)[[*keys, "best"]].rename(columns={"best": "chosen"}), on=keys, how="left"
    )
    table = table[table["prompt_length"] > 0]
    table["chosen"] = table["chosen"].eq(True)
    columns = [
        *keys,
        "arm",
        "metric",
        "validation",
        "validation_std",
        "test",
        "test_std",
        "seeds",
        "languages",
        "complete",
        "chosen",
    ]
    return in_table_order(table.assign(arm=arm_names(table))[columns])


def representations(alignment: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Measures of `results/alignment.csv` over the seeds, one row an arm, training task, measure and language.

    Columns: `encoder`, `task` (that it was trained on; empty for the untuned encoder), `source`, `method`,
    `prompt_length`, `arm`, `measure`, `language`, `mean`, `std` (a sample's; NaN with one seed) and `seeds`. Values are
    in percent, angles in degrees.
    """
    compared_with_itself = (alignment["method"] == UNTUNED) & (alignment["measure"] == "before_after")
    rows = alignment[alignment["measure"].isin(list(measures)) & ~compared_with_itself]
    keys = ["encoder", "task", "source", "method", "prompt_length", "measure", "language"]
    table = rows.groupby(keys, as_index=False, sort=False).agg(
        mean=("value", "mean"), std=("value", "std"), seeds=("value", "count")
    )
    table.insert(5, "arm", arm_names(table))
    return in_table_order(table)


def by_shots(shots: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The score of each arm by target language and by the number of this language's rows in training.

    Args:
        shots: scores in the target languages, with the column `shots`, the number of rows.
        scores: scores of models without such rows: those of the same cells are the scores with 0 rows.

    Columns: `encoder`, `task`, `source`, `method`, `prompt_length`, `metric`, `language`, `shots`, `value` and `std` (a
    sample's; NaN with one seed) over the `seeds`. An arm with several target languages first has rows of the language
    `average`: their unweighted mean, over the seeds with a score in all of them.
    """
    arm = ["encoder", "task", "source", "method", "prompt_length", "metric"]
    cell = [*arm, "seed", "language"]
    without = scores.merge(shots[cell].drop_duplicates(), on=cell).assign(shots=0)
    both = pd.concat([without, shots], ignore_index=True)[[*cell, "shots", "value"]]
    both["targets"] = both.groupby(arm)["language"].transform("nunique")
    of_seed = both[both["targets"] > 1].groupby([*arm, "seed", "shots", "targets"], as_index=False, sort=False)
    means = of_seed["value"].agg(value="mean", scored="count").query("scored == targets").assign(language=AVERAGE)
    each = pd.concat([means, both.dropna(subset="value")], ignore_index=True)
    over_seeds = each.groupby([*arm, "language", "shots"], as_index=False, sort=False)["value"]
    return in_table_order(over_seeds.agg(value="mean", std="std", seeds="count"))

"""The paper's tables as plain frames, and as CSV and LaTeX files under plain names."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
    languages_of,
    tasks_of,
    transfer_gaps,
    validation_by_prompt_length,
)
from workflow_scripts.experiment import table_names
from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.files import read_json, write_json, written
from workflow_scripts.experiment.names import UNTUNED
from workflow_scripts.experiment.table_names import task_table
from workflow_scripts.experiment.visible import visible
from workflow_scripts.reporting import latex
from workflow_scripts.reporting.published import audit, beside


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
    """Table 1 with a column `headline`: whether the arm is its method's headline arm (see `headline_arms`)."""
    return _mark_headline(averages(scores), headline_arms(scores, runs))


def headline_gaps(scores: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Table 2 with a column `headline`, as `headline_averages`."""
    return _mark_headline(transfer_gaps(scores), headline_arms(scores, runs))


def _mark_headline(table: pd.DataFrame, arms: Arms) -> pd.DataFrame:
    keys = zip(table["encoder"], table["task"], table["method"], table["prompt_length"], strict=True)
    return table.assign(headline=[arms.get((encoder, task, method)) == n for encoder, task, method, n in keys])


CEILING_NOTE = (
    "Highest possible: the score with the best span of tokens for each question. An answer is a span of tokens, no"
    " longer than decoding allows, so no model with this tokenizer can score higher."
)


def ceilings_of(ceilings: pd.DataFrame, task: str, metric: str, languages: Sequence[str]) -> dict[str, pd.Series]:
    """By encoder, the best scores that the tokens allow: each language, then `avg`, unweighted. NaN if unknown."""
    rows = ceilings[(ceilings["task"] == task) & (ceilings["metric"] == metric)]
    found = {}
    for encoder, own in rows.groupby("encoder", sort=False):
        values = own.set_index("language")["value"].reindex(list(languages))
        values["avg"] = values.mean(skipna=False)
        found[str(encoder)] = values
    return found


def language_scores(scores: pd.DataFrame, task: str) -> pd.DataFrame:
    """Tables 5 to 8 in one frame: `by_language`'s tables with the metric as a column."""
    tables = [table.assign(metric=metric) for metric, table in by_language(scores, task).items()]
    joined = pd.concat(tables, ignore_index=True)
    front = [*ARM, "arm", "seed", "metric"]
    return joined[[*front, *(column for column in joined if column not in front)]]


def learning_rate_search(runs: pd.DataFrame) -> pd.DataFrame:
    """Every candidate of the search on the English validation set (the paper's appendix A.1), one row each.

    `last_epoch_best`: the last of several epochs was the best, so longer training might have helped. `at_the_edge`: the
    winner is the smallest or largest of several learning rates, so a better one may be outside of the range.
    """
    search = runs[runs["stage"] == "search"]
    group = search.groupby(["task", *ARM])["learning_rate"]
    several = group.transform("nunique") > 1
    extreme = search["learning_rate"].isin([]) if search.empty else _is_extreme(search["learning_rate"], group)
    table = search.assign(
        arm=arm_names(search),
        last_epoch_best=(
            (search["keep"] != "last") & (search["epochs"] > 1) & (search["best_epoch"] == search["epochs"])
        ),
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
    """What an arm costs, by encoder and task. The paper states only the tuned share (section 4: 0.1 % to 0.3 %).

    Means over the runs that the scores come from; for memory the maximum. The winner of a search shared the encoder,
    and so time and memory, with other candidates. Throughput and memory are therefore those of the runs that shared it
    with the fewest (`together`; 1 is none). `tuned_percent` is the share of the encoder's parameters. `search_seconds`
    is the time of all candidates of the learning-rate search, the winner included.
    """
    keys = ["task", *ARM]
    final = final_runs(runs)
    table = final.groupby(keys, as_index=False).agg(
        runs=("seed", "size"),
        tuned_parameters=("tuned_parameters", "mean"),
        encoder_parameters=("encoder_parameters", "mean"),
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
        "method",
        "prompt_length",
        "arm",
        "runs",
        "tuned_parameters",
        "tuned_percent",
        "encoder_parameters",
        "seconds",
        "search_seconds",
        "together",
        "examples_per_second",
        "peak_memory_mb",
        "stored_bytes",
    ]
    return _by_task(table[columns])


def problems(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that failed, did not learn or are not above the majority class; `problem` says which.

    `final` is True for a run that scores come from. Losing candidates of the search may fail.
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


def prompt_lengths(scores: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The effect of the prompt length: the main metric on English validation, and averaged over the test languages.

    One row for each encoder, task, method and length. `validation` and `test` are means over the seeds that have one,
    `validation_std` and `test_std` sample standard deviations (NaN with one seed); `chosen` marks the length that
    is the method's headline arm (see `headline_arms`). Methods without prompts are left out.
    """
    keys = ["encoder", "task", "method", "prompt_length"]
    final = final_runs(runs)
    validation = final.groupby(keys, as_index=False).agg(
        metric=("metric", "first"),
        validation=("validation", "mean"),
        validation_std=("validation", "std"),
        seeds=("validation", "count"),
    )
    test = averages(scores).rename(columns={"mean": "test", "std": "test_std"})
    main = test["metric"] == test["task"].map(lambda task: TASKS[task].metrics[0])
    test = test[main][[*keys, "test", "test_std", "languages", "complete"]]
    table = validation.merge(test, on=keys, how="left").merge(
        validation_by_prompt_length(runs)[[*keys, "best"]].rename(columns={"best": "chosen"}), on=keys, how="left"
    )
    table = table[table["prompt_length"] > 0]
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
    return _by_task(table.assign(arm=arm_names(table))[columns])


@dataclass(frozen=True)
class TableFile:
    """A table as it is written: its frame as CSV, and its LaTeX."""

    frame: pd.DataFrame
    latex: str


SUFFIXES = (".csv", ".tex")
WRITTEN = ".tables.json"  # names the tables of the last run; other files in the folder belong to the user
REPRESENTATIONS = {
    table_names.BEFORE_AFTER: (
        {"before_after": "before and after"},
        "Cosine similarity of a text's representation before and after tuning (\\%) by language. Mean over seeds, with"
        " the standard deviation in parentheses.",
    ),
    table_names.TRANSLATIONS: (
        {"translation": "translations", "non_translation": "other pairs", "relative_difference": "relative difference"},
        "Cosine similarity of translations of English texts and of all other pairs (\\%), and by how many percent the"
        " first exceeds the second. Mean over seeds, with the standard deviation in parentheses.",
    ),
}


def write_tables(
    scores: pd.DataFrame,
    runs: pd.DataFrame,
    folder: Path,
    alignment: pd.DataFrame | None = None,
    published: pd.DataFrame | None = None,
    comparable: Iterable[tuple[str, str]] = (),
    ceilings: pd.DataFrame | None = None,
    expected: Iterable[str] = (),
) -> list[Path]:
    """Write every table as CSV and as LaTeX and return the files. Each is written under a temporary name, then renamed.

    A table from an earlier run that this one does not have is deleted, since it would mislead; other files are kept.

    Args:
        scores, runs: the long tables that all others are made from.
        folder: where to write.
        alignment: the rows of `results/alignment.csv`, of which tables 3 and 4 are made.
        published: the paper's figures (`published.read_published`); with them comes their audit.
        comparable: the (encoder, task) pairs that are shown beside the paper's figures.
        ceilings: the best scores that the tokens allow (`Inputs.ceilings`).
        expected: names of tables that are written even without a row, with the header alone.
    """
    check_scores(scores)
    check_runs(runs)
    tables = {
        table_names.AVERAGES: _table_1(headline_averages(scores, runs)),
        table_names.GAPS: _table_2(headline_gaps(scores, runs)),
        **{
            task_table(task): _table_of_task(scores, task, ceilings) for task in tasks_of(scores.dropna(subset="value"))
        },
        **(_representations(alignment) if alignment is not None else {}),
        table_names.LENGTHS: _lengths(prompt_lengths(scores, runs)),
        table_names.SEARCH: _search(learning_rate_search(runs)),
        table_names.COST: _cost(cost(runs)),
    }
    if ceilings is not None and not ceilings.empty:
        tables[table_names.CEILINGS] = _ceilings(ceilings)
    pairs = list(comparable)
    if published is not None:
        tables[table_names.AUDIT] = _audit(audit(published))
        if pairs:
            tables[table_names.BESIDE] = _beside(beside(published, scores, runs, pairs, alignment))
    for name in expected:
        tables.setdefault(name, TableFile(pd.DataFrame(columns=ARM), "% There are no rows.\n"))
    before = _written_before(folder)
    write_json(folder / WRITTEN, sorted(before | tables.keys()))
    for name in before - tables.keys():
        for suffix in SUFFIXES:
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    files = []
    for name, table in tables.items():
        with written(folder / f"{name}.csv") as temporary:
            shown = table.frame.map(lambda value: visible(value) if isinstance(value, str) else value)
            shown.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
        with written(folder / f"{name}.tex") as temporary:
            temporary.write_text(latex.HEAD + table.latex, encoding="utf-8", newline="\n")
        files += [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    write_json(folder / WRITTEN, sorted(tables))
    return files


def _written_before(folder: Path) -> set[str]:
    """The names of the tables that earlier runs wrote to the folder."""
    try:
        names = set(read_json(folder / WRITTEN))
    except (UserError, TypeError):  # missing or damaged: treat every file as the user's
        return set()
    return {name for name in names if isinstance(name, str) and re.fullmatch(r"\w+", name)}


def _table_1(frame: pd.DataFrame) -> TableFile:
    caption = (
        "Zero-shot cross-lingual transfer: average over all test languages, English included (\\%). Mean over seeds,"
        " with the standard deviation in parentheses. A method's prompt length is the one chosen on English validation."
    )
    return TableFile(frame, latex.summary_latex(frame, "mean", caption, "averages", best=max))


def _table_2(frame: pd.DataFrame) -> TableFile:
    caption = (
        "Transfer gap: English minus the average of the other languages, in percentage points. Mean over seeds, with"
        " the standard deviation in parentheses. Smaller is better."
    )
    return TableFile(frame, latex.summary_latex(frame, "gap", caption, "transfer-gaps", best=min))


def _table_of_task(scores: pd.DataFrame, task: str, ceilings: pd.DataFrame | None) -> TableFile:
    frame = language_scores(scores, task)
    languages = [language for language in languages_of(frame) if language != "metric"]
    highest = {
        metric: {} if ceilings is None else ceilings_of(ceilings, task, metric, languages)
        for metric in TASKS[task].metrics
    }
    return TableFile(frame, latex.languages_latex(frame, task, f"{task}-by-language", highest, CEILING_NOTE))


def _ceilings(frame: pd.DataFrame) -> TableFile:
    """The CSV lists every language; the LaTeX only averages, as the tables by language show the rest."""
    keys = ["task", "encoder", "metric"]
    averages = frame.groupby(keys, as_index=False, sort=False)["value"].mean()
    columns = [
        latex.TASK,
        latex.of_text("Encoder", "encoder"),
        latex.METRIC,
        latex.of_number("Highest possible", "value"),
    ]
    caption = f"Averages over the test languages (\\%). {latex.escaped(CEILING_NOTE)}"
    return TableFile(frame, latex.plain_latex(averages, columns, caption, "ceilings", texts=3))


def representations(alignment: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Measures of `results/alignment.csv` over the seeds, one row an arm, training task, measure and language.

    Columns: `encoder`, `task` (that it was trained on; empty for the untuned encoder), `method`, `prompt_length`,
    `arm`, `measure`, `language`, `mean`, `std` (a sample's; NaN with one seed) and `seeds`. Values are in percent.
    """
    compared_with_itself = (alignment["method"] == UNTUNED) & (alignment["measure"] == "before_after")
    rows = alignment[alignment["measure"].isin(list(measures)) & ~compared_with_itself]
    keys = ["encoder", "task", "method", "prompt_length", "measure", "language"]
    table = rows.groupby(keys, as_index=False, sort=False).agg(
        mean=("value", "mean"), std=("value", "std"), seeds=("value", "count")
    )
    table.insert(4, "arm", arm_names(table))
    parts = [in_table_order(table[table["task"] == task]) for task in ("", *TASKS)]
    return pd.concat(parts, ignore_index=True)


def _representations(alignment: pd.DataFrame) -> dict[str, TableFile]:
    """Tables 3 and 4, if the measures are there."""
    tables = {}
    for name, (measures, caption) in REPRESENTATIONS.items():
        frame = representations(alignment, list(measures))
        if not frame.empty:
            tables[name] = TableFile(frame, latex.representations_latex(frame, measures, caption, name))
    return tables


def _lengths(frame: pd.DataFrame) -> TableFile:
    columns = [
        latex.TASK,
        latex.arm_column(frame),
        latex.METRIC,
        latex.of_pair("English validation", "validation", "validation_std"),
        latex.of_pair("Test average", "test", "test_std"),
    ]
    caption = (
        "Prompt lengths: score on the English validation set and average over the test languages, mean over seeds with"
        " the standard deviation in parentheses. Bold: of several, the length chosen on the validation set."
    )
    lengths = frame.groupby(["encoder", "task", "method"])["prompt_length"].transform("size")
    shown = frame.assign(winner=frame["chosen"] & (lengths > 1))
    return TableFile(frame, latex.plain_latex(shown, columns, caption, "prompt-lengths", texts=3, winner="winner"))


def _search(frame: pd.DataFrame) -> TableFile:
    columns = [
        latex.TASK,
        latex.arm_column(frame),
        latex.of_rate("Learning rate", "learning_rate"),
        latex.of_number("English validation", "validation"),
        latex.of_number("Best epoch", "best_epoch", digits=0),
    ]
    caption = "Learning-rate search on the English validation set: every candidate; the chosen one in bold."
    return TableFile(frame, latex.plain_latex(frame, columns, caption, "learning-rates", texts=2, winner="selected"))


def _cost(frame: pd.DataFrame) -> TableFile:
    columns = [
        latex.TASK,
        latex.arm_column(frame),
        latex.of_number("Tuned parameters", "tuned_parameters", digits=0),
        latex.of_number(r"of the encoder (\%)", "tuned_percent", digits=2),
        latex.of_number("Seconds", "seconds", digits=0),
        latex.of_number("Examples/s", "examples_per_second"),
        latex.of_number("Peak memory (MB)", "peak_memory_mb", digits=0),
    ]
    caption = "Tuned parameters and cost of one training: means over seeds; of memory, the most."
    return TableFile(frame, latex.plain_latex(frame, columns, caption, "cost", texts=2))


def _audit(frame: pd.DataFrame) -> TableFile:
    """The LaTeX shows what does not agree; the CSV has every figure."""
    columns = [
        latex.of_text("Table", "table"),
        latex.TASK,
        latex.METHOD,
        latex.METRIC,
        latex.Column("Figure", _figure),
        latex.of_number("Printed", "printed"),
        latex.of_number("Recomputed", "recomputed", digits=2),
    ]
    checked = frame[frame["agrees"].notna()]
    wrong = checked[~checked["agrees"].astype(bool)].sort_values("table", kind="stable")
    caption = (
        f"Printed figures of Tu, Xiong and Zhou (2022) that do not follow from the paper's own figures within rounding:"
        f" {len(wrong)} of {len(checked)} that can be recomputed."
    )
    return TableFile(frame, latex.plain_latex(wrong, columns, caption, "published-audit", texts=5, groups="table"))


def _figure(row: pd.Series) -> str:
    run = "" if pd.isna(row["run"]) else f", run {row['run']}"
    return latex.escaped(row["what"].replace("standard deviation", "std.") + run)


def _beside(frame: pd.DataFrame) -> TableFile:
    return TableFile(frame, latex.beside_latex(frame, "beside"))

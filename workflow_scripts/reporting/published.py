"""The paper's printed tables: reading them, checking their consistency, and comparing them with ours.

`report/published.csv` holds every number in tables 1 to 8 of Tu, Xiong and Zhou (2022) as printed. A printed number
represents a range: 88.3 is anything from 88.25 to 88.35. A figure that is derived from others agrees with them if it is
in the range that their ranges allow; being close is not enough.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from workflow_scripts.core.errors import UserError
from workflow_scripts.experiment.catalogue import METHODS
from workflow_scripts.reporting.tasks import Tasks
from workflow_scripts.reporting.wording import listed, method_words

if TYPE_CHECKING:
    from workflow_scripts.reporting.report import Report

MODEL = "XLM-R-large"  # the paper's own rows; table 1 also quotes others'
FILE = "published.csv"
COLUMNS = ["table", "task", "model", "method", "run", "language", "metric", "value", "std", "note"]
AUDIT_COLUMNS = [
    "table",
    "task",
    "method",
    "run",
    "language",
    "metric",
    "what",
    "printed",
    "recomputed",
    "tolerance",
    "agrees",
    "note",
]
BESIDE_COLUMNS = [
    "encoder",
    "task",
    "metric",
    "method",
    "prompt_length",
    "scope",
    "ours",
    "ours_std",
    "ours_seeds",
    "published",
    "published_std",
    "difference",
    "note",
]
BY_LANGUAGE = (5, 6, 7, 8)  # the paper's tables of scores by language
SOURCE = "en"  # the paper tunes on English
# The measures of `results/alignment.csv` that tables 3 and 4 print, and how the data file calls them.
MEASURES = {
    "before_after": "cosine_before_after",
    "translation": "cosine_translations",
    "non_translation": "cosine_non_translations",
    "relative_difference": "relative_difference",
}
_EXACT = 1e-9  # tolerance for rounding of binary fractions
_KEYS = ["task", "method", "metric"]


@dataclass(frozen=True)
class Range:
    """A recomputed figure, with the lowest and highest value that unrounded inputs allow."""

    value: float
    low: float
    high: float


def read_published(path: Path) -> pd.DataFrame:
    """Read the printed figures: `COLUMNS`, and `half`, half a unit of a figure's last printed digit.

    The number of digits is that of the figure's group (table, task, method, metric): table 5 prints 79 for 79.0 among
    figures with one digit, while the relative differences of fine-tuning on PAWS in table 4 have none.

    Raises UserError if the file is missing or lacks a column.
    """
    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from error
    absent = [column for column in COLUMNS if column not in text]
    if absent:
        raise UserError(f"{path} lacks the columns {', '.join(absent)}")
    digits = text["value"].str.partition(".")[2].str.len()
    digits = digits.groupby([text[key] for key in ("table", *_KEYS)]).transform("max")
    return text.assign(
        table=text["table"].astype(int),
        run=pd.to_numeric(text["run"]).astype("Int64"),
        value=pd.to_numeric(text["value"]),
        std=pd.to_numeric(text["std"]),
        half=0.5 * 10.0**-digits,
    )


def mean_range(values: Sequence[float], half: float) -> Range:
    """The mean of figures that were each rounded by up to `half`."""
    mean = float(np.mean(values))
    return Range(mean, mean - half, mean + half)


def gap_range(english: Sequence[float], others: Sequence[float], half: float) -> Range:
    """The transfer gap: the mean over runs of English minus that of the other languages, in percentage points."""
    gap = float(np.mean(english) - np.mean(others))
    return Range(gap, gap - 2 * half, gap + 2 * half)


def deviation_range(values: Sequence[float], half: float) -> Range:
    """The population standard deviation (divided by the number of runs) of figures rounded by up to `half`.

    The paper's table 1 prints this of the printed averages: 2.7 for exact match of fine-tuning on TyDiQA is not the
    sample deviation, which would be 3.1.

    The deviation is a convex function, so its maximum is at a corner of the box of possible figures. Its minimum is
    where all figures are as close to one centre as possible.
    """
    printed = np.asarray(values, dtype=float)
    corners = (printed + half * np.array(signs) for signs in product((-1, 1), repeat=len(printed)))
    highest = max(float(np.std(corner)) for corner in corners)

    def squares(centre: float) -> float:
        return float(np.mean((np.clip(centre, printed - half, printed + half) - centre) ** 2))

    nearest = minimize_scalar(squares, bounds=(printed.min() - half, printed.max() + half), method="bounded")
    return Range(float(np.std(printed)), float(np.sqrt(nearest.fun)), highest)


def relative_difference_range(translations: float, others: float, half: float) -> Range:
    """Table 4's relative difference, in percent: how much higher the cosine of translations is than that of others."""

    def difference(high: float, low: float) -> float:
        return 100 * (high - low) / low

    return Range(
        difference(translations, others),
        difference(translations - half, others + half),
        difference(translations + half, others - half),
    )


def audit(published: pd.DataFrame, tasks: Tasks) -> pd.DataFrame:
    """Recompute every figure of the paper's tables that can be derived from other figures.

    Columns: `AUDIT_COLUMNS`. `tolerance` is the largest difference between the printed and the recomputed figure, in
    its direction, that rounding alone explains. `agrees` is empty if the paper does not print what the figure is
    derived from. The notes of `published` are not used.
    """
    own = published[published["model"] == MODEL]
    rows = [*_averages(own), *_table_1(own), *_table_2(own, tasks), *_table_4(own)]
    table = pd.DataFrame(rows, columns=AUDIT_COLUMNS)
    return table.assign(run=table["run"].astype("Int64"), agrees=table["agrees"].astype("boolean"))


def _finding(printed: float, half: float, found: Range | None, what: str, note: str = "", **where: Any) -> dict:
    """One row of the audit. half: of the printed figure."""
    row = {"run": pd.NA, "language": "", **where, "what": what, "printed": printed, "note": note}
    if found is None:
        return {**row, "recomputed": np.nan, "tolerance": np.nan, "agrees": pd.NA}
    reach = found.high - found.value if printed >= found.value else found.value - found.low
    tolerance = reach + half
    return {
        **row,
        "recomputed": found.value,
        "tolerance": tolerance,
        "agrees": abs(printed - found.value) <= tolerance + _EXACT,
    }


def _by_language(own: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Tables 5 to 8: a task, method and metric with its rows, averages included."""
    for key, rows in own[own["table"].isin(BY_LANGUAGE)].groupby(["table", *_KEYS], sort=False):
        yield dict(zip(["table", *_KEYS], key, strict=True)), rows


def _averages(own: pd.DataFrame) -> Iterator[dict]:
    """The printed average of every run of tables 5 to 8."""
    for where, rows in _by_language(own):
        for run, of_run in rows.groupby("run"):
            languages = of_run[of_run["language"] != "avg"]
            (average,) = of_run[of_run["language"] == "avg"].itertuples()
            found = mean_range(languages["value"], average.half)
            row = _finding(average.value, average.half, found, "average over languages", run=run, **where)
            yield row if row["agrees"] else {**row, "note": _mean_note(row)}


def _mean_note(row: dict) -> str:
    side = "above" if row["printed"] > row["recomputed"] else "below"
    return f"{abs(row['printed'] - row['recomputed']):.1f} {side} the mean of its own row"


def _table_1(own: pd.DataFrame) -> Iterator[dict]:
    """Means and deviations of table 1, from the printed averages of the runs and from their scores by language."""
    runs = {tuple(where[key] for key in _KEYS): rows for where, rows in _by_language(own)}
    for printed in own[own["table"] == 1].to_dict("records"):
        where = {"table": 1, **{key: printed[key] for key in _KEYS}}
        half, rows = printed["half"], runs.get(tuple(printed[key] for key in _KEYS))
        if rows is None:
            note = "the paper prints no scores by language or run of it"
            yield _finding(printed["value"], half, None, "mean over runs", note, **where)
            yield _finding(printed["std"], half, None, "standard deviation over runs", note, **where)
            continue
        is_average = rows["language"] == "avg"
        from_scores = rows[~is_average].groupby("run")["value"].mean()
        for inputs, values in (("printed averages", rows[is_average]["value"]), ("scores by language", from_scores)):
            mean, spread = mean_range(values, half), deviation_range(values, half)
            yield _finding(printed["value"], half, mean, f"mean over runs, from the {inputs}", **where)
            yield _finding(printed["std"], half, spread, f"standard deviation over runs, from the {inputs}", **where)


def _table_2(own: pd.DataFrame, tasks: Tasks) -> Iterator[dict]:
    """The transfer gaps of table 2, from the scores by language; if they differ, also by the other metric."""
    runs = {tuple(where[key] for key in _KEYS): rows for where, rows in _by_language(own)}
    what = "transfer gap, from the scores by language"
    for printed in own[own["table"] == 2].to_dict("records"):
        where = {"table": 2, **{key: printed[key] for key in _KEYS}}
        key = tuple(printed[key] for key in _KEYS)
        if key not in runs:
            note = "the paper prints no scores by language of it"
            yield _finding(printed["value"], printed["half"], None, what, note, **where)
            continue
        row = _finding(printed["value"], printed["half"], _gap(runs[key]), what, **where)
        if not row["agrees"]:
            others = {metric: _gap(rows) for (task, method, metric), rows in runs.items() if (task, method) == key[:2]}
            del others[printed["metric"]]
            row["note"] = "; ".join(
                _by_other_metric(printed, tasks.metric_title(key[0], metric), found) for metric, found in others.items()
            )
        yield row


def _by_other_metric(printed: dict, title: str, found: Range) -> str:
    row = _finding(printed["value"], printed["half"], found, "")
    verdict = "which agrees" if row["agrees"] else "which does not agree either"
    return f"by {title} it is {found.value:.1f}, {verdict}"


def _gap(rows: pd.DataFrame) -> Range:
    scores = rows[rows["language"] != "avg"]
    english = scores["language"] == SOURCE
    return gap_range(scores[english]["value"], scores[~english]["value"], float(scores["half"].iloc[0]))


def _table_4(own: pd.DataFrame) -> Iterator[dict]:
    """The relative differences of table 4, from its own cosines."""
    for (task, method, pair), cell in own[own["table"] == 4].groupby(["task", "method", "language"], sort=False):
        figures = cell.set_index("metric")
        translations, others = (figures.loc[f"cosine_{kind}"] for kind in ("translations", "non_translations"))
        found = relative_difference_range(translations["value"], others["value"], translations["half"])
        printed = figures.loc["relative_difference"]
        where = {"table": 4, "task": task, "method": method, "language": pair, "metric": "relative_difference"}
        yield _finding(printed["value"], printed["half"], found, "relative difference, from the cosines", **where)


def audit_in_words(found: pd.DataFrame, tasks: Tasks) -> list[str]:
    """The results of the audit, one sentence for each table."""
    return [
        *_averages_in_words(found, tasks),
        *_table_1_in_words(found, tasks),
        *_table_2_in_words(found, tasks),
        *_table_4_in_words(found),
    ]


def _checked(found: pd.DataFrame, table: Iterable[int], what: str = "") -> pd.DataFrame:
    return found[found["table"].isin(list(table)) & found["agrees"].notna() & found["what"].str.contains(what)]


def _wrong(found: pd.DataFrame) -> pd.DataFrame:
    return found[~found["agrees"].astype(bool)]


def _name(row: Any, tasks: Tasks) -> str:
    metric = f" ({tasks.metric_title(row.task, row.metric)})" if len(tasks[row.task].metrics) > 1 else ""
    return f"{tasks.title(row.task)}{metric}, {method_words(row.method)}"


def _not_printed(checked: pd.DataFrame, tasks: Tasks) -> list[str]:
    wrong = _wrong(checked).itertuples()
    return [f"{_name(row, tasks)}: {row.printed:.1f}, not {row.recomputed:.1f}" for row in wrong]


def _averages_in_words(found: pd.DataFrame, tasks: Tasks) -> Iterator[str]:
    checked = _checked(found, BY_LANGUAGE)
    parts = [
        f"{_name(row, tasks)}, run {row.run}: {row.printed:.1f} printed, {row.recomputed:.1f} computed"
        for row in _wrong(checked).itertuples()
    ]
    if parts:
        yield (
            f"Tables 5 to 8: {len(parts)} of {len(checked)} printed averages do not follow from the scores of their row"
            f" ({'; '.join(parts)})."
        )
    elif len(checked):
        yield f"Tables 5 to 8: all {len(checked)} printed averages follow from the scores of their row."


def _table_1_in_words(found: pd.DataFrame, tasks: Tasks) -> Iterator[str]:
    kinds = {"mean": "means", "standard deviation": "standard deviations"}
    for kind, title in kinds.items():
        for inputs in ("printed averages", "scores by language"):
            checked = _checked(found, [1], f"^{kind}.*{inputs}")
            names = _not_printed(checked, tasks)
            if len(checked):
                rest = f"but for {len(names)} ({'; '.join(names)})" if names else "without exception"
                yield f"Table 1: its {len(checked)} {title} follow from the {inputs} of the runs {rest}."
    if len(_checked(found, [1])):
        yield (
            "Table 1's deviations are those of a population (divided by the number of runs); ours are those of a sample"
            " (divided by one less), which are 1.12 times as large with five runs."
        )


def _table_2_in_words(found: pd.DataFrame, tasks: Tasks) -> Iterator[str]:
    checked = _checked(found, [2])
    if checked.empty:
        return
    by_task = checked.groupby("task", sort=False)["agrees"].all()
    rebuilt, not_rebuilt = ([tasks.title(task) for task in by_task.index[by_task == well]] for well in (True, False))
    gone = [tasks.title(task) for task in found[(found["table"] == 2) & found["agrees"].isna()]["task"].unique()]
    sentence = f"Table 2: {listed(rebuilt) or 'no task'} can be rebuilt from tables 5 to 7"
    if not_rebuilt:
        sentence += f", {listed(not_rebuilt)} cannot ({'; '.join(_not_printed(checked, tasks))})"
    if gone:
        sentence += f"; of {listed(gone)} there are no scores by language to rebuild it from"
    yield f"{sentence}."


def _table_4_in_words(found: pd.DataFrame) -> Iterator[str]:
    checked = _checked(found, [4])
    if len(checked):
        wrong = len(_wrong(checked))
        rest = f"{wrong} of {len(checked)} do not" if wrong else f"all {len(checked)} do"
        yield f"Table 4: relative differences should follow from its cosines; {rest}."


def beside(report: "Report") -> pd.DataFrame:
    """Our scores beside the paper's, for the comparable pairs of encoder and task only.

    Columns: `BESIDE_COLUMNS`. The headline arm of each method that the paper has. `scope` is a language (the mean over
    runs of tables 5 to 8), `average` (table 1) or `gap` (table 2, main metric); `difference` is ours minus the paper's,
    in percentage points. Average and gap are over the paper's languages: without all of them there is neither.
    `ours_std` is a sample deviation, `published_std` a population's (see `deviation_range`). `note` warns of a printed
    figure that does not follow from the paper's own scores. The measures of tables 3 and 4 follow, where the analysed
    texts are comparable as well.
    """
    comparable = report.inputs.comparable_pairs
    published = report.inputs.published
    own = published[published["model"] == MODEL]
    doubts = _doubts(report.audit) if comparable else {}
    rows = []
    for encoder, task in comparable:
        for method in METHODS:
            arm = (encoder, task, method, report.arms.get((encoder, task, SOURCE, method)))
            theirs = own[(own["task"] == task) & (own["method"] == method)]
            beside_arm = [*_beside_arm(report, arm, theirs)]
            if (encoder, report.inputs.samples.get("task")) in comparable:
                beside_arm += _beside_measures(_of_arm(report.inputs.alignment, *arm), theirs, task)
            for row in beside_arm:
                note = doubts.get((task, method, row["metric"], row["scope"]), "")
                rows.append({"encoder": encoder, "method": method, "prompt_length": arm[-1], **row, "note": note})
    table = pd.DataFrame(rows, columns=BESIDE_COLUMNS)
    return table.assign(difference=table["ours"] - table["published"])


def _beside_arm(report: "Report", arm: tuple, theirs: pd.DataFrame) -> Iterator[dict]:
    """Every language that both have, then the average and the gap where all languages are there."""
    task = report.tasks[arm[1]]
    ours = _of_arm(report.scores, *arm).dropna(subset="value")
    by_cell = {key: rows["value"] for key, rows in ours.groupby(["metric", "language"])}
    for metric in task.metrics:
        for language in task.languages:
            printed = theirs[
                (theirs["metric"] == metric.name) & (theirs["language"] == language) & (theirs["table"] >= 5)
            ]
            values = by_cell.get((metric.name, language))
            if values is not None and len(printed):
                yield {
                    "task": task.name,
                    "metric": metric.name,
                    "scope": language,
                    **_ours(values),
                    "published": printed["value"].mean(),
                    "published_std": printed["value"].std(ddof=0),
                }
    if set(ours["language"]) != set(task.languages):
        return
    for row in _of_arm(report.averages, *arm).to_dict("records"):
        yield from _beside_summary(row["mean"], row, theirs, 1, "average")
    for row in _of_arm(report.gaps, *arm).to_dict("records"):
        yield from _beside_summary(row["gap"], row, theirs, 2, "gap")


def _of_arm(frame: pd.DataFrame, encoder: str, task: str, method: str, length: int | None) -> pd.DataFrame:
    return frame[
        (frame["encoder"] == encoder)
        & (frame["task"] == task)
        & (frame["source"] == SOURCE)
        & (frame["method"] == method)
        & (frame["prompt_length"] == length)
    ]


def _beside_measures(ours: pd.DataFrame, theirs: pd.DataFrame, task: str) -> Iterator[dict]:
    """Tables 3 and 4, by language; the pair `en-de` of table 4 is German's."""
    for measure, metric in MEASURES.items():
        printed = theirs[theirs["metric"] == metric]
        for language, values in ours[ours["measure"] == measure].groupby("language", sort=False)["value"]:
            for figure in printed[printed["language"].str.removeprefix("en-") == language]["value"]:
                yield {
                    "task": task,
                    "metric": metric,
                    "scope": language,
                    **_ours(values),
                    "published": figure,
                    "published_std": float("nan"),
                }


def _ours(values: pd.Series) -> dict[str, Any]:
    return {"ours": values.mean(), "ours_std": values.std(ddof=1), "ours_seeds": len(values)}


def _beside_summary(ours: float, row: dict, theirs: pd.DataFrame, table: int, scope: str) -> Iterator[dict]:
    for printed in theirs[(theirs["table"] == table) & (theirs["metric"] == row["metric"])].to_dict("records"):
        if row["complete"]:
            yield {
                "task": row["task"],
                "metric": row["metric"],
                "scope": scope,
                "ours": ours,
                "ours_std": row["std"],
                "ours_seeds": row["seeds"],
                "published": printed["value"],
                "published_std": printed["std"],
            }


def _doubts(found: pd.DataFrame) -> dict[tuple[str, str, str, str], str]:
    """The note on a printed average or gap that does not follow from the paper's own scores by language."""
    from_scores = found["what"].str.contains("scores by language") & ~found["what"].str.startswith("standard")
    return {
        (row.task, row.method, row.metric, "average" if row.table == 1 else "gap"): (
            f"the paper's own scores by language give {row.recomputed:.1f}"
        )
        for row in _wrong(found[from_scores & found["agrees"].notna()]).itertuples()
    }


def analysis_as_printed(published: pd.DataFrame, number: int) -> pd.DataFrame:
    """Table 3 or 4 as printed: `task`, `method`, `metric`, then a column a language or pair of languages."""
    rows = published[published["table"] == number]
    keys = ["task", "method", "metric"]
    wide = rows.pivot(index=keys, columns="language", values="value")
    wide = wide.reindex(pd.MultiIndex.from_frame(rows[keys].drop_duplicates()))[list(dict.fromkeys(rows["language"]))]
    return wide.reset_index().rename_axis(columns=None)


def languages_as_printed(published: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    """The paper's scores of a task by language (tables 5 to 8), a run a row: `method`, `run`, languages, `avg`."""
    rows = published[(published["table"] >= 5) & (published["task"] == task) & (published["metric"] == metric)]
    wide = rows.pivot(index=["method", "run"], columns="language", values="value")
    printed = [language for language in dict.fromkeys(rows["language"]) if language != "avg"]
    return wide[[*printed, "avg"] if printed else []].reset_index().rename_axis(columns=None)

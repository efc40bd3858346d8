"""Tables 1, 2 and 5 to 8: averages, transfer gaps, and scores by language."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from workflow_scripts.evaluation.aggregate import ARM, by_language, languages_of
from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.reporting.tables import CEILING_NOTE, ceilings_of, headline_averages, headline_gaps
from workflow_scripts.reporting.views.table import Cell, Column, Row, Table, arm_cell, paper_table
from workflow_scripts.reporting.wording import (
    NOTHING,
    Names,
    method_title,
    metric_note,
    metric_title,
    plural,
    score_text,
    spread_text,
)


def averages_table(scores: pd.DataFrame, runs: pd.DataFrame, names: Names) -> Table:
    """Table 1 in the paper's layout: a row for each arm, a column for each task and metric."""
    table = headline_averages(scores, runs)
    return _summary(
        table,
        names,
        value="mean",
        best=max,
        identifier="table-1",
        title="Average over languages",
        paper=paper_table(1),
        caption=(
            "Mean over seeds of the unweighted average over all test languages, English included; ± is the standard"
            " deviation over seeds."
        ),
    )


def gaps_table(scores: pd.DataFrame, runs: pd.DataFrame, names: Names) -> Table:
    """Table 2 in the paper's layout: a row for each arm, a column for each task."""
    table = headline_gaps(scores, runs)
    return _summary(
        table,
        names,
        value="gap",
        best=min,
        identifier="table-2",
        title="Transfer gap",
        paper=paper_table(2),
        caption=(
            "English minus the average of the other languages, main metric, in percentage points; mean over seeds."
            " Smaller is better, but only together with a good average: a method that learned nothing has no gap."
        ),
    )


def _summary(table: pd.DataFrame, names: Names, value: str, best: Any, **texts: Any) -> Table:
    """A table of arms by tasks: a row for a method at its chosen prompt length, then one for every other length."""
    columns = list(dict.fromkeys(zip(table["task"], table["metric"], strict=True)))
    columns.sort(key=lambda pair: (list(TASKS).index(pair[0]), TASKS[pair[0]].metrics.index(pair[1])))
    winners = _winners(table[table["headline"] & table["complete"]], value, best)
    bodies = [
        _summary_body(of_method, columns, value, winners, names)
        for _, of_method in table.groupby(["encoder", "method"], sort=False)
    ]
    heads = (
        Column("Method", "head"),
        *(Column(TASKS[task].title, small=_column_note(table, task, metric)) for task, metric in columns),
    )
    return Table(
        columns=heads,
        bodies=tuple(bodies),
        notes=tuple(_summary_notes(table, bodies, names)),
        kind="summary",
        sorts="bodies",
        **texts,
    )


def _winners(table: pd.DataFrame, value: str, best: Any) -> dict[tuple[str, str, str], float]:
    """The best printed number of each encoder, task and metric that at least two methods have."""
    return {
        key: best(round(number, 1) for number in group[value].dropna())
        for key, group in table.groupby(["encoder", "task", "metric"])
        if group[value].notna().sum() > 1
    }


def _summary_body(
    table: pd.DataFrame,
    columns: list[tuple[str, str]],
    value: str,
    winners: dict[tuple[str, str, str], float],
    names: Names,
) -> tuple[Row, ...]:
    """One method with one encoder: its headline row, then a row for each prompt length if there are several."""
    encoder, method = table["encoder"].iloc[0], table["method"].iloc[0]
    lengths = sorted(set(table["prompt_length"]))
    several = len(lengths) > 1
    label = f"{method_title(method)}, chosen length" if several else names.arm(method, lengths[0])
    small = encoder if names.several_encoders else ""
    chosen = table[table["headline"]]
    cells = [
        _summary_cell(chosen, task, metric, value, winners.get((encoder, task, metric)), several)
        for task, metric in columns
    ]
    rows = [Row((arm_cell(method, label, small), *cells), kind="headline")]
    for length in lengths if several else []:
        of_length = table[table["prompt_length"] == length]
        cells = [_summary_cell(of_length, task, metric, value, None, False) for task, metric in columns]
        rows.append(Row((Cell(f"length {length}", marks=("indented",)), *cells), kind="detail"))
    return tuple(rows)


def _summary_notes(table: pd.DataFrame, bodies: list[tuple[Row, ...]], names: Names) -> Iterator[str]:
    shown = dict.fromkeys(zip(table["task"], table["metric"], strict=True))
    yield from filter(None, (metric_note(task, metric) for task, metric in shown))
    if any(len(body) > 1 for body in bodies):
        yield "Chosen length, in parentheses: the one with the best mean score on the English validation set."
    if not table["complete"].all():
        yield "† Over fewer languages than another arm of the same task has: not comparable with it."
    for row in table[table["note"] != ""].to_dict("records") if "note" in table else []:
        arm = names.arm(row["method"], row["prompt_length"], row["encoder"])
        start = "No gap" if pd.isna(row["gap"]) else "The gap"
        yield f"{start} on {TASKS[row['task']].title} for {arm}: {row['note']}."


def _column_note(table: pd.DataFrame, task: str, metric: str) -> tuple[str, str]:
    counts = table[(table["task"] == task) & (table["metric"] == metric)]["languages"]
    return metric_title(metric), plural(int(counts.max()), "language")


def _summary_cell(
    rows: pd.DataFrame, task: str, metric: str, value: str, best: float | None, show_length: bool
) -> Cell:
    found = rows[(rows["task"] == task) & (rows["metric"] == metric)]
    if found.empty or pd.isna(found.iloc[0][value]):
        return Cell(NOTHING, marks=("missing",))
    row = found.iloc[0]
    small = [spread_text(row["std"]) or "1 seed"]
    if show_length:
        small.append(f"({row['prompt_length']})")
    number = float(row[value])
    return Cell(
        score_text(number) + ("" if row["complete"] else "†"),
        small=" ".join(small),
        sort=number,
        marks=("best",) if best is not None and round(number, 1) == best else (),
        title=f"{plural(int(row['seeds']), 'seed')}, {plural(int(row['languages']), 'language')}",
    )


def language_tables(
    scores: pd.DataFrame,
    runs: pd.DataFrame,
    task: str,
    names: Names,
    generated: bool = False,
    ceilings: pd.DataFrame | None = None,
) -> list[Table]:
    """A task's scores by language: a table for each metric (tables 5 to 8, and UD-POS).

    generated: whether the corpora are those of the mini benchmark; the captions then name no other corpus.
    ceilings: the best scores that the tokens allow (`Inputs.ceilings`), one row each below the scores.
    """
    made = []
    for metric, table in by_language(scores, task).items():
        majority = _majority(runs, task, metric)
        highest = {} if ceilings is None else ceilings_of(ceilings, task, metric, languages_of(table))
        made.append(_language_table(table, task, metric, majority, names, generated, highest))
    return made


def _majority(runs: pd.DataFrame, task: str, metric: str) -> float | None:
    """The majority class's score on the English validation set by this metric, if the runs have it."""
    known = runs[(runs["task"] == task) & (runs["metric"] == metric)]["majority"].dropna()
    return float(known.max()) if len(known) else None


def _language_table(
    table: pd.DataFrame,
    task: str,
    metric: str,
    majority: float | None,
    names: Names,
    generated: bool,
    ceilings: dict[str, pd.Series],
) -> Table:
    languages = languages_of(table)
    groups = list(table.groupby(ARM, sort=False))
    means = pd.DataFrame([models[[*languages, "avg"]].mean() for _, models in groups]).round(1)
    by_encoder = means.groupby([encoder for (encoder, _, _), _ in groups])
    winners = {encoder: own.max() for encoder, own in by_encoder if len(own) > 1}
    shade = _shading(table[languages], majority)
    incomplete = bool((table["languages"] < len(languages)).any())

    def score_cells(scores: pd.Series, best: pd.Series | None, count: int) -> list[Cell]:
        cells = []
        for language in [*languages, "avg"]:
            number = scores[language]
            marks = []
            if pd.isna(number):
                marks.append("missing")
            elif best is not None and round(number, 1) == best[language]:
                marks.append("best")
            if language == "avg":
                marks.append("average")
            elif majority is not None and number <= majority:
                marks.append("below")
            dagger = "†" if language == "avg" and count < len(languages) and pd.notna(number) else ""
            cells.append(
                Cell(
                    score_text(number) + dagger,
                    sort=None if pd.isna(number) else float(number),
                    shade=None if language == "avg" or pd.isna(number) else shade(number),
                    marks=tuple(marks),
                    title=f"over {count} of {len(languages)} languages" if dagger else "",
                )
            )
        return cells

    bodies = []
    for (encoder, method, length), models in groups:
        fewest = int(models["languages"].min())
        label = names.arm(method, length, encoder)
        first = arm_cell(method, label, "mean" if len(models) > 1 else f"seed {models['seed'].iloc[0]}")
        cells = score_cells(models[[*languages, "avg"]].mean(), winners.get(encoder), fewest)
        rows = [Row((first, *cells), kind="mean")]
        if len(models) > 1:
            spread = models[[*languages, "avg"]].std(ddof=1)
            cells = [Cell(NOTHING if pd.isna(value) else f"{value:.1f}") for value in spread]
            title = f"sample standard deviation over {len(models)} seeds"
            rows.append(Row((Cell("± over seeds", marks=("indented",), title=title), *cells), kind="deviation"))
            rows += [
                Row(
                    (
                        Cell(f"seed {model['seed']}", marks=("indented",)),
                        *score_cells(model, None, int(model["languages"])),
                    ),
                    kind="seed",
                )
                for _, model in models.iterrows()
            ]
        bodies.append(tuple(rows))

    number = TASKS[task].paper_table
    notes = []
    if incomplete:
        notes.append("† The average is over fewer languages: not comparable with a row that has all of them.")
    if any("below" in cell.marks for body in bodies for row in body for cell in row.cells):
        notes.append(
            f"Dotted underline: not above {majority:.1f}, the score of the majority class on English validation."
        )
    if ceilings:
        notes.append(CEILING_NOTE)
    return Table(
        identifier=f"{task}-{metric.replace('_', '-')}",
        title=f"{TASKS[task].title}, {metric_title(metric)}" if len(TASKS[task].metrics) > 1 else TASKS[task].title,
        paper=paper_table(number, "Not in the paper by language"),
        caption=_language_caption(task, metric, languages, generated),
        columns=(
            Column("Method", "head"),
            *(Column(language, hint=names.language(language), language=language) for language in languages),
            Column("avg", hint="unweighted average over the languages"),
        ),
        bodies=tuple(bodies),
        notes=tuple(notes),
        feet=tuple(_ceiling_row(encoder, values, names) for encoder, values in ceilings.items()),
        kind="heat wide" if len(languages) > 20 else "heat",
        sorts="bodies",
    )


def _ceiling_row(encoder: str, values: pd.Series, names: Names) -> Row:
    head = Cell("Highest possible", small=encoder if names.several_encoders else "")
    return Row((head, *(Cell(score_text(value)) for value in values)), kind="ceiling")


def _language_caption(task: str, metric: str, languages: list[str], generated: bool) -> str:
    total = len(TASKS[task].languages)
    corpus = "generated sentences" if generated else TASKS[task].trains_on
    tested = (
        f"All {total} test languages that XTREME has for it."
        if set(languages) >= set(TASKS[task].languages)
        else f"{len(languages)} of the {total} test languages that XTREME has for it."
    )
    capital = metric_title(metric)[0].upper() + metric_title(metric)[1:]
    return (
        f"{capital} in percent, tuned on English ({corpus}). {tested} {metric_note(task, metric, alone=True)}".strip()
    )


def _shading(scores: pd.DataFrame, majority: float | None) -> Any:
    """A function from a score to the depth of its tint, from the majority class or the lowest score to the highest."""
    low = scores.min().min() if majority is None else majority
    high = scores.max().max()

    def shade(score: float) -> float:
        return round(min(1.0, max(0.0, (score - low) / (high - low))), 2) if high > low else 0.0

    return shade

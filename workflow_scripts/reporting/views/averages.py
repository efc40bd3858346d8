"""Tables 1 and 2: averages over languages and transfer gaps."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from workflow_scripts.core.names import OUTSIDE
from workflow_scripts.experiment import table_names
from workflow_scripts.reporting.parts import Section
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import Cell, Column, Row, Sheet, Table, arm_cell, number_cell, paper_table
from workflow_scripts.reporting.wording import NOTHING, listed, method_title, plural, score_text

Best = Callable[..., float]


def section(report: Report) -> Section:
    """Both tables."""
    return Section("summary", "Averages and transfer gaps", (averages(report), gaps(report)), "Averages and gaps")


def averages(report: Report) -> Sheet:
    """Table 1 in the paper's layout: a row for each arm, a column for each task and metric."""
    table = _summary(
        report,
        report.averages,
        value="mean",
        best=max,
        identifier="table-1",
        title="Average over languages",
        paper=paper_table(1),
        caption=(
            f"Mean over seeds of the unweighted average over all test languages, {report.names.reference} included, in"
            " percent, with the standard deviation over seeds."
        ),
    )
    return Sheet(table_names.AVERAGES, report.averages, (table,))


def gaps(report: Report) -> Sheet:
    """Table 2 in the paper's layout: a row for each arm, a column for each task."""
    reference = report.names.reference
    table = _summary(
        report,
        report.gaps,
        value="gap",
        best=min,
        identifier="table-2",
        title="Transfer gap",
        paper=paper_table(2),
        caption=(
            f"{reference[0].upper()}{reference[1:]} minus the average of the other languages, main metric, in"
            " percentage points; mean over seeds, with the standard deviation. Smaller is better, but only together"
            " with a good average: a method that learned nothing has no gap."
        ),
    )
    return Sheet(table_names.GAPS, report.gaps, (table,))


def _summary(report: Report, table: pd.DataFrame, value: str, best: Best, **texts: Any) -> Table:
    """A table of arms by tasks: a row for a method at its chosen prompt length, then one for every other length."""
    columns = report.tasks.columns(table)
    winners = _winners(table[table["headline"] & table["complete"]], value, best)
    bodies = [
        _body(report, of_method, columns, value, winners)
        for _, of_method in table.groupby(["encoder", "source", "method"], sort=False)
    ]
    heads = (
        Column("Method", "head"),
        *(
            Column(report.tasks.title(task), small=_column_note(report, table, task, metric))
            for task, metric in columns
        ),
    )
    return Table(
        columns=heads,
        bodies=tuple(bodies),
        notes=tuple(_notes(report, table, columns)),
        page_notes=tuple(_page_notes(report, bodies)),
        kind="summary",
        sorts="bodies",
        **texts,
    )


def _winners(table: pd.DataFrame, value: str, best: Best) -> dict[tuple[str, ...], float]:
    """The best printed number of each encoder, source, task and metric that at least two methods have."""
    tuned = table[table["encoder"] != OUTSIDE]
    return {
        key: best(round(number, 1) for number in group[value].dropna())
        for key, group in tuned.groupby(["encoder", "source", "task", "metric"])
        if group[value].notna().sum() > 1
    }


def _body(
    report: Report,
    table: pd.DataFrame,
    columns: list[tuple[str, str]],
    value: str,
    winners: dict[tuple[str, ...], float],
) -> tuple[Row, ...]:
    """One method: its headline row, then a row for each prompt length if there are several."""
    encoder, source, method = (table[key].iloc[0] for key in ("encoder", "source", "method"))
    lengths = sorted(set(table["prompt_length"]))
    several = len(lengths) > 1
    label = f"{method_title(method)}, chosen length" if several else report.names.arm(method, lengths[0])
    cells = {key: rows.iloc[0] for key, rows in table.groupby(["prompt_length", "task", "metric"])}
    chosen = {(row["task"], row["metric"]): row for _, row in table[table["headline"]].iterrows()}
    head = arm_cell(method, label, report.names.where(encoder, source).removeprefix(", "))
    shown = [
        _cell(chosen.get(column), value, winners.get((encoder, source, *column)), show_length=several)
        for column in columns
    ]
    rows = [Row((head, *shown), kind="headline")]
    for length in lengths if several else []:
        shown = [_cell(cells.get((length, *column)), value, None, show_length=False) for column in columns]
        rows.append(Row((Cell(f"length {length}", marks=("indented",)), *shown), kind="detail"))
    return tuple(rows)


def _notes(report: Report, table: pd.DataFrame, columns: list[tuple[str, str]]) -> Iterator[str]:
    yield from filter(None, (report.tasks.metric_note(*column) for column in columns))
    shown = set(table["task"])
    for words in report.inputs.provenance.get("words") or []:
        if words["task"] in shown:
            methods = listed([method_title(method) for method in words["methods"]])
            template = words["template"].replace("\n", " ⏎ ")
            answer = "the answer is a word or a text"
            if most := words["new_tokens"]:
                answer = f"the model generates the answer, at most {most} tokens,"
            yield f"{methods}: on {report.tasks.title(words['task'])}, {answer} in “{template}”."
    if report.outside:
        titles = listed([method_title(name) for name in report.outside])
        yield f"{titles}: predictions that were made elsewhere, scored on the same rows; never in bold."
        yield from _unknown_answers(report, shown)
    if not table["complete"].all():
        yield "† Over fewer languages than another arm of the same task: not comparable with it."
    for row in table[table["note"] != ""].to_dict("records") if "note" in table else []:
        arm = report.names.arm(row["method"], row["prompt_length"], row["encoder"], row["source"])
        start = "No gap" if pd.isna(row["gap"]) else "The gap"
        note = row["note"].replace(f"({row['source']})", f"({report.names.source(row['source'])})")
        yield f"{start} on {report.tasks.title(row['task'])} for {arm}: {note}."


def _unknown_answers(report: Report, tasks: set[str]) -> Iterator[str]:
    """How many answers of each arm of predictions that were made elsewhere are invalid."""
    records = pd.DataFrame(report.inputs.provenance.get("outside") or [])
    if records.empty:
        return
    for (arm, task), found in records.groupby(["arm", "task"], sort=False):
        unknown, rows = int(found["unknown"].sum()), int(found["rows"].sum())
        if task in tasks and unknown:
            where = f"{rows:,} answers on {report.tasks.title(task)}"
            yield f"{method_title(arm)}: {unknown:,} of {where} are not valid answers and count as wrong."


def _page_notes(report: Report, bodies: list[tuple[Row, ...]]) -> Iterator[str]:
    if any(len(body) > 1 for body in bodies):
        yield f"Chosen length, in parentheses: the one with the best mean score on {report.names.validation}."


def _column_note(report: Report, table: pd.DataFrame, task: str, metric: str) -> tuple[str, str]:
    counts = table[(table["task"] == task) & (table["metric"] == metric)]["languages"]
    return report.tasks.metric_title(task, metric), plural(int(counts.max()), "language")


def _cell(row: pd.Series | None, value: str, best: float | None, show_length: bool) -> Cell:
    if row is None or pd.isna(row[value]):
        return Cell(NOTHING, marks=("missing",))
    number = float(row[value])
    elsewhere = row["encoder"] == OUTSIDE
    alone = "1 seed" if pd.isna(row["std"]) and not elsewhere else ""
    seeds = "made elsewhere" if elsewhere else plural(int(row["seeds"]), "seed")
    length = f"({row['prompt_length']})" if show_length else ""
    dagger = "" if row["complete"] else "†"
    return number_cell(
        number,
        lambda shown: score_text(shown) + dagger,
        spread=row["std"],
        small=" ".join(filter(None, (alone, length))),
        marks=("best",) if best is not None and not dagger and round(number, 1) == best else (),
        title=f"{seeds}, {plural(int(row['languages']), 'language')}",
    )

"""The paper's own numbers in separate tables; our scores are shown beside them only where they are comparable."""

from typing import Any

import pandas as pd

from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.reporting.published import analysis_as_printed, beside, languages_as_printed
from workflow_scripts.reporting.views.differences import AVERAGE, GAP
from workflow_scripts.reporting.views.table import Cell, Column, Row, Table, arm_cell, sortable
from workflow_scripts.reporting.wording import (
    NOTHING,
    Names,
    method_title,
    metric_title,
    score_text,
    signed_text,
    spread_text,
)


def published_tables(published: pd.DataFrame) -> list[Table]:
    """Tables 1 to 8 as the paper prints them."""
    made = [
        _as_printed(
            published,
            1,
            identifier="published-1",
            title="Averages over languages, as published",
            notes=(
                "UD-POS: the paper’s own rows count chunks as our F1 does (seqeval 1.2.2), those of Hu et al. 2020 and"
                f" Ruder et al. 2021 as our {metric_title('f1_xtreme')} does (seqeval 0.0.12).",
            ),
        ),
        _as_printed(published, 2, identifier="published-2", title="Transfer gaps, as published"),
        _analysis_as_printed(published, 3, identifier="published-3", title="Before and after tuning, as published"),
        _analysis_as_printed(published, 4, identifier="published-4", title="Translations, as published"),
        *(
            _languages_as_printed(published, task, metric)
            for task in sorted(TASKS, key=lambda task: TASKS[task].paper_table or 0)
            for metric in TASKS[task].metrics
        ),
    ]
    return [table for table in made if table is not None]


def _as_printed(published: pd.DataFrame, number: int, **texts: Any) -> Table | None:
    rows = published[published["table"] == number]
    if rows.empty:
        return None
    columns = [
        (task, metric)
        for task, entry in TASKS.items()
        for metric in entry.metrics
        if ((rows["task"] == task) & (rows["metric"] == metric)).any()
    ]
    return Table(
        columns=(
            Column("Method", "head"),
            *(Column(TASKS[task].title, small=(metric_title(metric),)) for task, metric in columns),
        ),
        bodies=tuple(
            (Row((arm_cell(method, method_title(method), model), *(_printed(printed, *column) for column in columns))),)
            for (model, method), printed in rows.groupby(["model", "method"], sort=False)
        ),
        paper=f"The paper’s table {number}, as printed",
        kind="summary",
        sorts="bodies",
        published=True,
        **texts,
    )


def _analysis_as_printed(published: pd.DataFrame, number: int, **texts: Any) -> Table | None:
    frame = analysis_as_printed(published, number)
    if frame.empty:
        return None
    languages = [column for column in frame.columns if column not in ("task", "method", "metric")]
    several = frame["metric"].nunique() > 1
    bodies = []
    for (task, method), arm in frame.groupby(["task", "method"], sort=False):
        rows: list[Row] = []
        for row in arm.to_dict("records"):
            what = metric_title(row["metric"])
            where = f"trained on {TASKS[task].title}"
            head = arm_cell(method, method_title(method), f"{where} · {what}" if several else where)
            if rows:
                head = Cell(what, marks=("indented",))
            values = (Cell(score_text(row[language]), sort=sortable(row[language])) for language in languages)
            rows.append(Row((head, *values)))
        bodies.append(tuple(rows))
    return Table(
        columns=(Column("Method", "head"), *map(Column, languages)),
        bodies=tuple(bodies),
        paper=f"The paper’s table {number}, as printed",
        kind="analysis",
        sorts="bodies",
        published=True,
        **texts,
    )


def _languages_as_printed(published: pd.DataFrame, task: str, metric: str) -> Table | None:
    frame = languages_as_printed(published, task, metric)
    if frame.empty:
        return None
    title = f"{TASKS[task].title}, {metric_title(metric)}, as published"
    languages = [column for column in frame.columns if column not in ("method", "run")]
    return Table(
        identifier=f"published-{task}-{metric.replace('_', '-')}",
        title=title,
        paper=f"The paper’s table {TASKS[task].paper_table}, as printed",
        columns=(Column("Run", "head"), *map(Column, languages)),
        bodies=tuple(
            tuple(
                Row(
                    (
                        arm_cell(method, method_title(method), f"run {row['run']}"),
                        *(Cell(score_text(row[language]), sort=sortable(row[language])) for language in languages),
                    )
                )
                for row in runs.to_dict("records")
            )
            for method, runs in frame.groupby("method", sort=False)
        ),
        kind="analysis",
        sorts="bodies",
        published=True,
    )


def _printed(rows: pd.DataFrame, task: str, metric: str) -> Cell:
    found = rows[(rows["task"] == task) & (rows["metric"] == metric)]
    if found.empty or pd.isna(found.iloc[0]["value"]):
        return Cell(NOTHING, marks=("missing",))
    return Cell(
        score_text(found.iloc[0]["value"]), small=spread_text(found.iloc[0]["std"]), sort=float(found.iloc[0]["value"])
    )


def beside_table(
    published: pd.DataFrame,
    scores: pd.DataFrame,
    runs: pd.DataFrame,
    comparable: list[tuple[str, str]],
    alignment: pd.DataFrame,
    names: Names,
) -> Table | None:
    """Our scores beside the paper's for the `comparable` encoders and tasks, or None."""
    if not comparable or published.empty:
        return None
    rows = beside(published, scores, runs, comparable, alignment)
    if rows.empty:
        return None
    return Table(
        identifier="beside",
        title="Ours beside the paper’s",
        caption=(
            "For the paper’s encoder and corpora only. ± is the sample standard deviation over seeds for our scores and"
            " the population standard deviation for the paper’s."
        ),
        columns=(
            Column("Task", "head"),
            Column("Metric", "text"),
            Column("Scope", "text"),
            Column("Ours"),
            Column("Published"),
            Column("Difference"),
            Column("Note", "text"),
        ),
        bodies=tuple(
            tuple(_beside_row(row, names) for row in of_task.to_dict("records"))
            for _, of_task in rows.groupby("task", sort=False)
        ),
    )


def _beside_row(row: dict, names: Names) -> Row:
    scope = {AVERAGE: "average", GAP: "transfer gap"}.get(row["scope"], names.language(row["scope"]))
    return Row(
        (
            arm_cell(
                row["method"], TASKS[row["task"]].title, names.arm(row["method"], row["prompt_length"], row["encoder"])
            ),
            Cell(metric_title(row["metric"])),
            Cell(scope),
            Cell(score_text(row["ours"]), small=spread_text(row["ours_std"]), sort=sortable(row["ours"])),
            Cell(
                score_text(row["published"]), small=spread_text(row["published_std"]), sort=sortable(row["published"])
            ),
            Cell(signed_text(row["difference"]), sort=sortable(row["difference"])),
            Cell(row["note"]),
        )
    )


def audit_table(audit: pd.DataFrame) -> Table | None:
    """The printed figures that do not follow from the paper's own rows, or None."""
    wrong = audit[audit["agrees"].notna() & (audit["agrees"].astype(str).str.lower() == "false")]
    if wrong.empty:
        return None
    return Table(
        identifier="audit",
        title="Printed figures that do not follow from the paper’s other figures",
        caption="Printed and recomputed figures; the tolerance is the largest difference that rounding alone explains.",
        columns=(
            Column("Table", "head"),
            Column("Task", "text"),
            Column("Method", "text"),
            Column("Run", "text"),
            Column("What", "text"),
            Column("Printed"),
            Column("Recomputed"),
            Column("Tolerance"),
            Column("Note", "text"),
        ),
        bodies=(tuple(_audit_row(row) for row in wrong.to_dict("records")),),
    )


def _audit_row(row: dict) -> Row:
    return Row(
        (
            Cell(f"Table {row['table']}"),
            Cell(TASKS[row["task"]].title if row["task"] in TASKS else str(row["task"])),
            Cell(method_title(row["method"])),
            Cell(NOTHING if pd.isna(row["run"]) else str(row["run"])),
            Cell(str(row["what"])),
            Cell(score_text(row["printed"]), sort=sortable(row["printed"])),
            Cell(_two(row["recomputed"]), sort=sortable(row["recomputed"])),
            Cell(_two(row["tolerance"]), sort=sortable(row["tolerance"])),
            Cell(str(row["note"])),
        )
    )


def _two(value: float) -> str:
    return NOTHING if pd.isna(value) else f"{value:.2f}".replace("-", "−")

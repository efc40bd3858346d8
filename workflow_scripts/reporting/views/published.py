"""The paper's own numbers in separate tables; our scores are shown beside them only where they are comparable."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from workflow_scripts.experiment import table_names
from workflow_scripts.reporting.parts import Bullets, Folded, Heading, Part, Section, lead, paragraph
from workflow_scripts.reporting.published import analysis_as_printed, audit_in_words, languages_as_printed
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import (
    Cell,
    Column,
    Row,
    Sheet,
    Table,
    arm_cell,
    number_cell,
    number_column,
    plain_table,
    sortable,
    text_column,
)
from workflow_scripts.reporting.tasks import Tasks
from workflow_scripts.reporting.views.differences import AVERAGE, GAP
from workflow_scripts.reporting.wording import NOTHING, method_title, score_text, signed_text

# What the paper's rows of UD-POS count, in words that need both metrics of the task.
CHUNKS = (
    "{task}: the paper’s own rows count chunks as our {main} does (seqeval 1.2.2), those of Hu et al. 2020 and Ruder et"
    " al. 2021 as our {other} does (seqeval 0.0.12)."
)


def section(report: Report) -> Section:
    """Ours beside the paper's where they are comparable, the paper's tables, and whether they agree with each other."""
    identifier, title = "published", "Published numbers"
    tables = published_tables(report)
    if not tables:
        return Section(identifier, title, (paragraph("There are none."),))
    audit = audit_sheet(report)
    compared = beside_sheet(report)
    apart = "" if compared else " They are not comparable with the scores on this page."
    parts: list[Part] = [lead(f"From Tu, Xiong and Zhou (2022), as printed there.{apart}")]
    parts += [compared] if compared else []
    parts += tables
    sentences = audit_in_words(report.audit, report.tasks)
    if sentences:
        parts += [Heading("Do the printed tables agree with each other?"), Bullets(tuple(sentences))]
    if audit.tables[0].bodies:
        parts.append(Folded(audit.tables[0].title, (audit,)))
    return Section(identifier, title, tuple(parts), files=(audit,))


def published_tables(report: Report) -> list[Table]:
    """Tables 1 to 8 as the paper prints them."""
    published, tasks = report.inputs.published, report.tasks
    by_number = published[published["table"] >= 5][["table", "task", "metric"]].drop_duplicates()
    made = [
        _as_printed(
            published,
            tasks,
            1,
            identifier="published-1",
            title="Averages over languages, as published",
            notes=tuple(_counted_otherwise(published, tasks)),
        ),
        _as_printed(published, tasks, 2, identifier="published-2", title="Transfer gaps, as published"),
        _analysis_as_printed(
            published, tasks, 3, identifier="published-3", title="Before and after tuning, as published"
        ),
        _analysis_as_printed(published, tasks, 4, identifier="published-4", title="Translations, as published"),
        *(
            _languages_as_printed(published, tasks, *keys)
            for keys in by_number.sort_values("table", kind="stable").itertuples(index=False)
        ),
    ]
    return [table for table in made if table is not None]


def _counted_otherwise(published: pd.DataFrame, tasks: Tasks) -> Iterator[str]:
    """A note for each task of table 1 by whose metrics others' rows are counted otherwise than the paper's."""
    for task in tasks.in_order(published[published["table"] == 1]["task"]):
        noted = [metric.title for metric in tasks[task].metrics if metric.note]
        if len(noted) == 2:
            yield CHUNKS.format(task=tasks.title(task), main=noted[0], other=noted[1])


def _as_printed(published: pd.DataFrame, tasks: Tasks, number: int, **texts: Any) -> Table | None:
    rows = published[published["table"] == number]
    if rows.empty:
        return None
    columns = tasks.columns(rows)
    return Table(
        columns=(
            Column("Method", "head"),
            *(Column(tasks.title(task), small=(tasks.metric_title(task, metric),)) for task, metric in columns),
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


def _printed(rows: pd.DataFrame, task: str, metric: str) -> Cell:
    found = rows[(rows["task"] == task) & (rows["metric"] == metric)]
    if found.empty:
        return Cell(NOTHING, marks=("missing",))
    return number_cell(found.iloc[0]["value"], spread=found.iloc[0]["std"])


def _analysis_as_printed(published: pd.DataFrame, tasks: Tasks, number: int, **texts: Any) -> Table | None:
    frame = analysis_as_printed(published, number)
    if frame.empty:
        return None
    languages = [column for column in frame.columns if column not in ("task", "method", "metric")]
    several = frame["metric"].nunique() > 1
    bodies = []
    for (task, method), arm in frame.groupby(["task", "method"], sort=False):
        rows: list[Row] = []
        for row in arm.to_dict("records"):
            what = tasks.metric_title(task, row["metric"])
            where = f"trained on {tasks.title(task)}"
            head = arm_cell(method, method_title(method), f"{where} · {what}" if several else where)
            if rows:
                head = Cell(what, marks=("indented",))
            rows.append(Row((head, *(Cell(score_text(row[code]), sort=sortable(row[code])) for code in languages))))
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


def _languages_as_printed(published: pd.DataFrame, tasks: Tasks, number: int, task: str, metric: str) -> Table:
    frame = languages_as_printed(published, task, metric)
    languages = [column for column in frame.columns if column not in ("method", "run")]
    return Table(
        identifier=f"published-{task}-{metric.replace('_', '-')}",
        title=f"{tasks.title(task)}, {tasks.metric_title(task, metric)}, as published",
        paper=f"The paper’s table {number}, as printed",
        columns=(Column("Run", "head"), *map(Column, languages)),
        bodies=tuple(
            tuple(
                Row(
                    (
                        arm_cell(method, method_title(method), f"run {row['run']}"),
                        *(Cell(score_text(row[code]), sort=sortable(row[code])) for code in languages),
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


def beside_sheet(report: Report) -> Sheet | None:
    """Our scores beside the paper's for the comparable encoders and tasks, or None.

    A table for each encoder, task and metric, with languages, average and gap as columns.
    """
    frame = report.beside
    if frame.empty:
        return None
    groups = frame.groupby(["encoder", "task", "metric"], sort=False)
    tables = [_beside(report, number, key, cells) for number, (key, cells) in enumerate(groups, 1)]
    return Sheet(table_names.BESIDE, frame, tuple(tables))


def _beside(report: Report, number: int, key: tuple, frame: pd.DataFrame) -> Table:
    encoder, task, metric = key
    scopes = list(dict.fromkeys(frame["scope"]))
    bodies, notes = [], []
    for (method, length), of_arm in frame.groupby(["method", "prompt_length"], sort=False):
        by_scope = of_arm.set_index("scope").reindex(scopes)
        title = report.names.arm(method, int(length), encoder)
        bodies.append(
            (
                Row(
                    (
                        arm_cell(method, title, "ours"),
                        *(number_cell(row["ours"], spread=row["ours_std"]) for _, row in by_scope.iterrows()),
                    )
                ),
                Row(
                    (
                        Cell("the paper’s", marks=("indented",)),
                        *(number_cell(row["published"], spread=row["published_std"]) for _, row in by_scope.iterrows()),
                    )
                ),
                Row(
                    (
                        Cell("difference", marks=("indented",)),
                        *(number_cell(value, signed_text) for value in by_scope["difference"]),
                    ),
                    kind="difference",
                ),
            )
        )
        doubtful = of_arm[of_arm["note"] != ""]
        notes += [f"{method_title(method)}, {row.scope}: {row.note}." for row in doubtful.itertuples()]
    heading = f"{report.tasks.title(task)}, {report.tasks.metric_title(task, metric)}"
    return Table(
        identifier=f"beside-{number}",
        title=f"Ours beside the paper’s: {heading}{report.names.where(encoder)}",
        caption=(
            "For the paper’s encoder and corpora only; the difference is in percentage points. The deviations are those"
            " of a sample of seeds for our scores and of a population for the paper’s."
        ),
        columns=(
            Column("Method", "head", second="Whose"),
            *(
                Column(scope)
                if scope in (AVERAGE, GAP)
                else Column(scope, hint=report.names.language(scope), language=scope)
                for scope in scopes
            ),
        ),
        bodies=tuple(bodies),
        notes=tuple(notes),
        kind="analysis",
        sorts="bodies",
    )


def audit_sheet(report: Report) -> Sheet:
    """The CSV has every figure that was recomputed, the table those that do not agree."""
    frame, tasks = report.audit, report.tasks
    checked = frame[frame["agrees"].notna()]
    wrong = checked[~checked["agrees"].astype(bool)].sort_values("table", kind="stable")
    table = plain_table(
        wrong,
        (
            text_column("Table", lambda row: str(row["table"]), "head"),
            text_column("Task", lambda row: tasks.title(row["task"])),
            text_column("Method", lambda row: method_title(row["method"])),
            text_column("Metric", lambda row: tasks.metric_title(row["task"], row["metric"])),
            text_column("Figure", _figure),
            number_column("Printed", "printed"),
            number_column("Recomputed", "recomputed", _two),
            number_column("Tolerance", "tolerance", _two),
            text_column("Note", lambda row: row["note"], printed=False),
        ),
        by="table",
        identifier="audit",
        title="Printed figures that do not follow from the paper’s other figures",
        caption=(
            f"{len(wrong)} of {len(checked)} figures of Tu, Xiong and Zhou (2022) that can be recomputed. The tolerance"
            " is the largest difference that rounding alone explains."
        ),
    )
    return Sheet(table_names.AUDIT, frame, (table,))


def _figure(row: dict[str, Any]) -> str:
    return str(row["what"]) + ("" if pd.isna(row["run"]) else f", run {row['run']}")


def _two(value: float) -> str:
    return NOTHING if pd.isna(value) else f"{value:.2f}".replace("-", "−")

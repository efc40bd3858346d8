"""The hyperparameter search on the validation set: prompt lengths and learning rates."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from workflow_scripts.experiment import table_names
from workflow_scripts.reporting.charts import (
    Mark,
    Plot,
    joined,
    linear_axis,
    log_axis,
    point,
    ticks_across,
    ticks_up,
)
from workflow_scripts.reporting.parts import Heading, Part, Plots, Section, lead, paragraph
from workflow_scripts.reporting.report import MODEL, Report
from workflow_scripts.reporting.table import (
    Cell,
    Column,
    Sheet,
    arm_cell,
    chosen_column,
    method_class,
    number_column,
    plain_table,
    text_column,
)
from workflow_scripts.reporting.views.costs import legend
from workflow_scripts.reporting.wording import NOTHING, rate_text, score_text

PAPER = "The paper’s appendix A.1"


def section(report: Report) -> Section:
    """The tables of what was searched, then the charts."""
    validation = report.names.validation
    sheets = (lengths_sheet(report), search_sheet(report))
    parts: list[Part] = [sheet for sheet in sheets if sheet.tables[0].bodies]
    if not parts:
        parts.append(paragraph("Nothing was searched: every arm had one learning rate and one prompt length."))
    plots = length_plots(report)
    if plots:
        with_prompts = set(report.runs[report.runs["prompt_length"] > 0]["method"])
        key = legend([method for method in report.methods if method in with_prompts])
        reading = f"Filled: the average over all test languages. Hollow: {validation}, by which the length is chosen."
        parts += [Heading("Effect of the prompt length"), lead(reading), Plots(tuple(plots), key)]
    plots = rate_plots(report)
    if plots:
        reading = f"Score on {validation} by the main metric, one seed each."
        parts += [Heading("Effect of the learning rate"), lead(reading), Plots(tuple(plots), legend(report.methods))]
    return Section("search", f"Hyperparameter search on {validation}", tuple(parts), "Search", files=sheets)


def lengths_sheet(report: Report) -> Sheet:
    """Every prompt length on validation and on the test sets; the table shows methods with several."""
    frame = report.lengths
    several = frame.groupby(["encoder", "task", "source", "method"])["prompt_length"].transform("size") > 1

    def arm(row: dict[str, Any]) -> Cell:
        title = report.names.arm(row["method"], 0, row["encoder"], row["source"])
        return arm_cell(row["method"], report.tasks.title(row["task"]), title)

    table = plain_table(
        frame[several],
        (
            Column("Task", "head", second="Method", cell=arm),
            number_column("Length", "prompt_length", str),
            number_column("Validation", "validation", spread="validation_std"),
            number_column("Test average", "test", spread="test_std"),
            number_column("Seeds", "seeds", str),
            chosen_column("chosen"),
        ),
        row_kind=lambda row: "winner" if row["chosen"] else "",
        identifier="prompt-lengths",
        title="Prompt length",
        paper=PAPER,
        caption=(
            f"Mean score on {report.names.validation} and average over the test languages, with the standard deviation"
            " over seeds. The best mean on validation decides: no test set influences the choice."
        ),
        kind="stacked",
    )
    return Sheet(table_names.LENGTHS, frame, (table,))


def search_sheet(report: Report) -> Sheet:
    """Every candidate of the learning-rate search, with the winner marked."""

    def arm(row: dict[str, Any]) -> Cell:
        title = report.names.arm(row["method"], row["prompt_length"], row["encoder"], row["source"])
        return arm_cell(row["method"], report.tasks.title(row["task"]), title)

    table = plain_table(
        report.search,
        (
            Column("Task", "head", second="Method", cell=arm),
            number_column("Learning rate", "learning_rate", rate_text),
            *([text_column("Also", _searched)] if (report.search["searched"] != "").any() else []),
            number_column("Validation", "validation", best="selected"),
            number_column("Majority", "majority"),
            Column("Best epoch", cell=_epochs),
            chosen_column("selected"),
            text_column("Remarks", _remark),
        ),
        by=["task", *MODEL],
        row_kind=lambda row: "winner" if row["selected"] else "",
        identifier="learning-rates",
        title="Candidates",
        paper=PAPER,
        caption=(
            f"Score of every candidate on {report.names.validation}, one seed each: of one that left the search early,"
            " its score when it left. Majority is what always answering"
            " the most frequent class scores there."
        ),
        kind="stacked",
    )
    return Sheet(table_names.SEARCH, report.search, (table,))


def _epochs(row: dict[str, Any]) -> Cell:
    if pd.isna(row["kept_epoch"]):
        return Cell(NOTHING)
    return Cell(f"{row['kept_epoch']:.3g} of {row['epochs']:.3g}", sort=float(row["kept_epoch"]))


def _searched(row: dict[str, Any]) -> str:
    return str(row["searched"]).replace("_", " ")


def early_end(row: dict[str, Any]) -> str:
    """Why a run did not take all its steps; empty if it did."""
    remarks = []
    if pd.notna(row["left_search_after"]):
        remarks.append(f"left the search after {row['left_search_after']:.0%} of the steps")
    if row["stopped"]:
        remarks.append(f"stopped after epoch {row['epochs_taken']:.3g}: {row['stopped']}")
    return "; ".join(remarks)


def _remark(row: dict[str, Any]) -> str:
    remarks = [remark] if (remark := early_end(row)) else []
    if row["problem"]:
        remarks.append(str(row["problem"]))
    elif pd.isna(row["left_search_after"]) and pd.notna(row["majority"]) and row["validation"] <= row["majority"]:
        remarks.append("not above the majority class")
    if row["last_epoch_best"]:
        remarks.append("the best epoch is the last")
    if row["at_the_edge"]:
        remarks.append("at the edge of the candidates")
    return "; ".join(remarks)


def length_plots(report: Report) -> list[Plot]:
    """Scores by prompt length for tasks with several: validation, and the average over the test languages."""
    table = report.lengths
    plots = []
    for task in report.tasks.of(table):
        of_task = table[table["task"] == task]
        lines = [
            (f"{name}, {report.names.arm(method, 0, encoder, source)}", method, kind, rows[["prompt_length", column]])
            for (encoder, source, method), rows in of_task.groupby(["encoder", "source", "method"], sort=False)
            if len(rows) > 1
            for column, name, kind in (("test", "average", ""), ("validation", "validation", "hollow"))
        ]
        if lines:
            title = report.tasks.title(task)
            plots.append(_lines(title, "prompt length, logarithmic", lines, lambda value: f"{value:g}"))
    return plots


def rate_plots(report: Report) -> list[Plot]:
    """The validation score by learning rate, for each task with a search."""
    search = report.search.dropna(subset="validation")
    plots = []
    for task in report.tasks.of(search):
        of_task = search[search["task"] == task]
        lines = [
            (
                ", ".join(filter(None, [report.names.arm(method, length, encoder, source), searched])),
                method,
                "",
                rows[["learning_rate", "validation"]],
            )
            for (encoder, source, method, length, searched), rows in of_task.groupby([*MODEL, "searched"], sort=False)
        ]
        if any(len(rows) > 1 for *_, rows in lines):
            metric = report.tasks.metric_title(task, of_task["metric"].iloc[0])
            title = f"{report.tasks.title(task)}, {metric}"
            plots.append(_lines(title, "learning rate, logarithmic", lines, rate_text))
    return plots


def _lines(
    title: str,
    x_title: str,
    lines: Sequence[tuple[str, str, str, pd.DataFrame]],
    text: Callable[[float], str],
) -> Plot:
    """Lines of score over a logarithmic quantity: (name, method, kind, a table of both)."""
    points = pd.concat([rows.set_axis(["x", "y"], axis=1) for *_, rows in lines])
    across, up = log_axis(points["x"]), linear_axis(points["y"])
    used = sorted(set(points["x"].dropna()))
    if len(used) <= 5:  # label the values that were tried
        across = (across[0], tuple(used))
    marks: list[Mark] = []
    segments = []
    for name, method, kind, rows in lines:
        css = f"{method_class(method)} {kind}".strip()
        line = [
            point((across[0], x), (up[0], y), f"{name}: {score_text(y)} at {text(x)}", css)
            for x, y in rows.sort_values(rows.columns[0]).itertuples(index=False)
        ]
        marks += line
        segments += joined(line, css)
    return Plot(
        title=title,
        x_title=x_title,
        x_ticks=ticks_across(across, text),
        y_ticks=ticks_up(up),
        marks=tuple(marks),
        segments=tuple(segments),
        labels=(),
        description=f"{title} by {x_title}. " + "; ".join(mark.title for mark in marks),
    )

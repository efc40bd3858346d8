"""The cost of each model: the score against each cost, and the table of costs."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from workflow_scripts.core.names import OUTSIDE
from workflow_scripts.experiment import table_names
from workflow_scripts.reporting.charts import (
    Label,
    Plot,
    joined,
    linear_axis,
    log_axis,
    point,
    ticks_across,
    ticks_up,
    without_overlap,
)
from workflow_scripts.reporting.parts import Part, Plots, Section, lead
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import (
    Cell,
    Column,
    Sheet,
    arm_cell,
    method_class,
    number_column,
    plain_table,
    text_column,
)
from workflow_scripts.reporting.wording import (
    NOTHING,
    bytes_text,
    count_text,
    duration_text,
    listed,
    method_title,
    method_words,
    score_text,
)


def _megabytes(size: float) -> str:
    return NOTHING if pd.isna(size) else f"{size:,.0f} MB"


COSTS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("seconds", "Training time", duration_text),
    ("peak_memory_mb", "Peak memory", _megabytes),
    ("tuned_parameters", "Tuned parameters", count_text),
    ("stored_bytes", "Stored", bytes_text),
)


def section(report: Report) -> Section:
    """The charts and the table."""
    parts: list[Part] = []
    plots = cost_plots(report)
    if plots:
        reading = (
            "The average over languages, in percent, against what a model costs: up and to the left is better. A line"
            " connects the arms of a task."
        )
        parts += [lead(reading), Plots(tuple(plots), legend(report.methods))]
    return Section("costs", "What it cost", (*parts, cost_table(report)), "Costs")


def legend(methods: list[str]) -> tuple[tuple[str, str], ...]:
    """The colour and name of methods."""
    return tuple((method_class(method), method_title(method)) for method in methods)


def cost_plots(report: Report) -> list[Plot]:
    """The average score against each cost: a point for each arm and task; lines connect the arms of a task.

    Costs differ by orders of magnitude between methods, so their axes are logarithmic.
    """
    table = _with_scores(report)
    plots = []
    for column, title, text in COSTS:
        known = table[table[column] > 0]
        if known.empty:
            continue
        across, up = log_axis(known[column]), linear_axis(known["mean"])
        marks, segments, labels = [], [], []
        for task in report.tasks.of(known):
            of_arms = known[known["task"] == task].sort_values(column).groupby(["encoder", "source"], sort=False)
            for (encoder, source), rows in of_arms:
                of_task = [
                    point(
                        (across[0], row[column]),
                        (up[0], row["mean"]),
                        f"{report.tasks.title(task)},"
                        f" {report.names.arm(row['method'], row['prompt_length'], row['encoder'], row['source'])}:"
                        f" {score_text(row['mean'])} at {text(row[column])}",
                        method_class(row["method"]),
                    )
                    for row in rows.to_dict("records")
                ]
                marks += of_task
                segments += joined(of_task, "link")
                where = [encoder] if report.names.several_encoders else []
                where += [source] if report.names.several_sources else []
                if encoder != OUTSIDE:
                    labels.append(Label(of_task[-1].y, ", ".join([report.tasks.title(task), *where])))
        plots.append(
            Plot(
                title=title,
                x_title=f"{title.lower()}, logarithmic",
                x_ticks=ticks_across(across, _short(column)),
                y_ticks=ticks_up(up),
                marks=tuple(marks),
                segments=tuple(segments),
                labels=without_overlap(labels),
                description=f"Average score against {title.lower()}. " + "; ".join(mark.title for mark in marks),
            )
        )
    return plots


def _with_scores(report: Report) -> pd.DataFrame:
    """The cost of each arm and its average by the main metric."""
    table = report.averages
    main = [report.tasks[row.task].main.name == row.metric for row in table.itertuples()]
    keys = ["task", "encoder", "source", "method", "prompt_length"]
    return report.costs.merge(table.loc[main, [*keys, "mean"]], on=keys).dropna(subset="mean")


def _short(column: str) -> Callable[[float], str]:
    def text(value: float) -> str:
        if column == "seconds":
            return f"{value:g} s" if value < 3600 else f"{value / 3600:.3g} h"
        size = value * 1e6 if column == "peak_memory_mb" else value
        for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
            if size >= scale:
                return f"{size / scale:g} {unit}" + ("" if column == "tuned_parameters" else "B")
        return f"{size:g}"

    return text


def cost_table(report: Report) -> Sheet:
    """The cost of each arm."""
    table = report.costs
    most = table[table["together"] > 1].groupby("method")["together"].max()
    shared = listed([f"{method_words(method)} {count:.0f}" for method, count in most.items()])
    together = f" Several models were trained at once and share throughput and memory: {shared}." if shared else ""

    stated = listed([method_title(name) for name in report.outside])
    elsewhere = f" The costs of {stated} are those that the configuration states." if stated else ""

    def arm(row: dict[str, Any]) -> Cell:
        title = report.names.arm(row["method"], row["prompt_length"], row["encoder"], row["source"])
        return arm_cell(row["method"], report.tasks.title(row["task"]), title)

    shown = plain_table(
        table,
        (
            Column("Task", "head", second="Method", cell=arm),
            number_column("Tuned parameters", "tuned_parameters", count_text),
            number_column("Of the encoder", "tuned_percent", _share),
            *([text_column("Epochs", _epochs)] if (table["epochs_taken"] < table["epochs"]).any() else []),
            number_column("Training", "seconds", duration_text),
            number_column("Search", "search_seconds", duration_text),
            number_column("Examples/s", "examples_per_second", _rate),
            number_column("Peak memory", "peak_memory_mb", _megabytes),
            number_column("Stored", "stored_bytes", bytes_text),
        ),
        identifier="cost",
        title="Parameters, time, memory",
        paper="The paper’s section 4 gives only the tuned share: 0.1\u00a0% to 0.3\u00a0%",
        caption=(
            "Means over the runs that the scores come from; for memory the maximum. Search is the time of all"
            f" candidates together.{together}{elsewhere}"
        ),
        kind="stacked",
    )
    return Sheet(table_names.COST, table, (shown,))


def _epochs(row: dict[str, Any]) -> str:
    """For arms whose trainings stopped early: the mean over them."""
    return f"{row['epochs_taken']:.3g} of {row['epochs']:.3g}"


def _share(percent: float) -> str:
    return NOTHING if pd.isna(percent) else f"{percent:.2f} %" if percent < 10 else f"{percent:.0f} %"


def _rate(rate: float) -> str:
    return NOTHING if pd.isna(rate) else f"{rate:.1f}"

"""Small plots: score against cost, and the effect of prompt length and learning rate on the score."""

from collections.abc import Callable, Sequence

import pandas as pd

from workflow_scripts.evaluation.aggregate import ARM, averages, methods_of, tasks_of
from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.reporting.charts import (
    Axis,
    Label,
    Mark,
    Plot,
    Tick,
    height_of,
    joined,
    linear_axis,
    log_axis,
    without_overlap,
)
from workflow_scripts.reporting.tables import cost, learning_rate_search, prompt_lengths
from workflow_scripts.reporting.views.table import method_class
from workflow_scripts.reporting.wording import (
    Names,
    bytes_text,
    count_text,
    duration_text,
    method_title,
    metric_title,
    rate_text,
    score_text,
)

Scale = tuple[Axis, tuple[float, ...]]


def _megabytes(size: float) -> str:
    return f"{size:,.0f} MB"


COSTS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("seconds", "Training time", duration_text),
    ("peak_memory_mb", "Peak memory", _megabytes),
    ("tuned_parameters", "Tuned parameters", count_text),
    ("stored_bytes", "Stored", bytes_text),
)


def cost_plots(scores: pd.DataFrame, runs: pd.DataFrame, names: Names) -> list[Plot]:
    """The average score against each cost: a point for each arm and task; lines connect the arms of a task.

    Costs differ by orders of magnitude between methods, so their axes are logarithmic.
    """
    table = _with_scores(cost(runs), scores)
    plots = []
    for column, title, text in COSTS:
        known = table[table[column] > 0]
        if known.empty:
            continue
        across, up = log_axis(known[column]), linear_axis(known["mean"])
        marks, segments, labels = [], [], []
        for task in tasks_of(known):
            for encoder, rows in known[known["task"] == task].sort_values(column).groupby("encoder", sort=False):
                of_task = [
                    _mark(
                        (across[0], row[column]),
                        (up[0], row["mean"]),
                        f"{TASKS[task].title}, {names.arm(row['method'], row['prompt_length'], row['encoder'])}:"
                        f" {score_text(row['mean'])} at {text(row[column])}",
                        method_class(row["method"]),
                    )
                    for row in rows.to_dict("records")
                ]
                marks += of_task
                segments += joined(of_task, "link")
                where = f", {encoder}" if names.several_encoders else ""
                labels.append(Label(of_task[-1].y, f"{TASKS[task].title}{where}"))
        plots.append(
            Plot(
                title=title,
                x_title=f"{title.lower()}, logarithmic",
                x_ticks=_ticks(across, _short(column)),
                y_ticks=_upright(up),
                marks=tuple(marks),
                segments=tuple(segments),
                labels=without_overlap(labels),
                description=f"Average score against {title.lower()}. " + "; ".join(mark.title for mark in marks),
            )
        )
    return plots


def _with_scores(costs: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The cost of each arm and its average by the main metric."""
    table = averages(scores.dropna(subset="value"))
    main = [row.metric == TASKS[row.task].metrics[0] for row in table.itertuples()]
    return costs.merge(table.loc[main, ["task", *ARM, "mean"]], on=["task", *ARM]).dropna(subset="mean")


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


def length_plots(scores: pd.DataFrame, runs: pd.DataFrame, names: Names) -> list[Plot]:
    """Scores by prompt length for tasks with several: English validation and the average over test languages."""
    table = prompt_lengths(scores, runs)
    plots = []
    for task in tasks_of(table):
        of_task = table[table["task"] == task]
        lines = [
            (f"{name}, {names.arm(method, 0, encoder)}", method, kind, rows[["prompt_length", column]])
            for (encoder, method), rows in of_task.groupby(["encoder", "method"], sort=False)
            if len(rows) > 1
            for column, name, kind in (("test", "average", ""), ("validation", "validation", "hollow"))
        ]
        if lines:
            plots.append(_lines(TASKS[task].title, "prompt length, logarithmic", lines, lambda value: f"{value:g}"))
    return plots


def rate_plots(runs: pd.DataFrame, names: Names) -> list[Plot]:
    """The English validation score by learning rate, for each task with a search."""
    search = learning_rate_search(runs).dropna(subset="validation")
    plots = []
    for task in tasks_of(search):
        of_task = search[search["task"] == task]
        lines = [
            (names.arm(method, length, encoder), method, "", rows[["learning_rate", "validation"]])
            for (encoder, method, length), rows in of_task.groupby(ARM, sort=False)
        ]
        if any(len(rows) > 1 for *_, rows in lines):
            title = f"{TASKS[task].title}, {metric_title(of_task['metric'].iloc[0])}"
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
            _mark((across[0], x), (up[0], y), f"{name}: {score_text(y)} at {text(x)}", css)
            for x, y in rows.sort_values(rows.columns[0]).itertuples(index=False)
        ]
        marks += line
        segments += joined(line, css)
    return Plot(
        title=title,
        x_title=x_title,
        x_ticks=_ticks(across, text),
        y_ticks=_upright(up),
        marks=tuple(marks),
        segments=tuple(segments),
        labels=(),
        description=f"{title} by {x_title}. " + "; ".join(mark.title for mark in marks),
    )


def _mark(across: tuple[Axis, float], up: tuple[Axis, float], title: str, kind: str) -> Mark:
    return Mark(across[0].place(across[1]), height_of(*up), title, kind)


def _ticks(scale: Scale, text: Callable[[float], str]) -> tuple[Tick, ...]:
    return tuple(Tick(scale[0].place(value), text(value)) for value in scale[1])


def _upright(scale: Scale) -> tuple[Tick, ...]:
    return tuple(Tick(height_of(scale[0], value), f"{value:g}") for value in scale[1])


def legend(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """The colour and name of every method that the runs have."""
    return [(method_class(method), method_title(method)) for method in methods_of(runs)]

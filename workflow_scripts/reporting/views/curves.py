"""Training curves: loss, validation, learning rate and gradient norm of every run, four small charts for each arm."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from workflow_scripts.evaluation.curves import METRIC, VALIDATION_LOSS
from workflow_scripts.reporting.charts import (
    Axis,
    Curve,
    Mark,
    Plot,
    Scale,
    curve_of,
    linear_axis,
    log_axis,
    point,
    ticks_across,
    ticks_up,
)
from workflow_scripts.reporting.inputs import MODEL, RUN
from workflow_scripts.reporting.parts import Folded, Heading, Part, Plots, Section, lead
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import method_class
from workflow_scripts.reporting.views.search import early_end
from workflow_scripts.reporting.wording import listed, rate_text, score_text

HEIGHT = 110  # pixels of a chart
MOST_OPEN = 3  # arms whose charts need no click
ARM = ["task", "encoder", "source", "method", "prompt_length"]


@dataclass(frozen=True)
class Chart:
    """What one chart of an arm shows.

    Attributes:
        title: its title, with the unit.
        quantities: those of the table, each with the CSS class of its lines.
        text: how a value is written.
        logarithmic: whether the vertical axis is.
        searched: whether the search's other candidates are drawn.
        shared: whether all arms of a task have one vertical axis.
    """

    title: str
    quantities: dict[str, str]
    text: Callable[[float], str]
    logarithmic: bool = False
    searched: bool = True
    shared: bool = True


def section(report: Report) -> Section | None:
    """The charts, those of each task behind one click if there are many; None if nothing was logged."""
    frame = report.curves
    if frame.empty:
        return None
    arms = frame[ARM].drop_duplicates()
    reading = (
        "One line for each seed, by optimizer steps; values under the pointer. Loss: solid on the training set, dashed"
        " on the validation set. A circle marks the evaluation whose weights were kept. Long trainings are thinned: a"
        " point of the training loss is a mean, a point of the gradient’s norm (before clipping) a maximum."
    )
    if (frame["stage"] == "search").any():
        reading += " Grey: the search candidates that were not chosen."
    parts: list[Part] = [lead(reading)]
    # Compared as text: numbers read from CSV may differ in the last digit.
    frame = frame.assign(learning_rate=frame["learning_rate"].map(rate_text)).merge(_names(report), on=[*MODEL, *RUN])
    for (task, encoder, source), of_task in frame.groupby(ARM[:3], sort=False):
        title = f"{report.tasks.title(task)}{report.names.where(encoder, source)}"
        shown = tuple(_arms(report, task, of_task))
        parts.append(Folded(title, shown, opened=len(arms) <= MOST_OPEN))
    return Section("curves", "Training curves", tuple(parts), "Training curves")


def _names(report: Report) -> pd.DataFrame:
    """What a run is called, with the reason if it ended early: `seed 13`, `candidate 1e-2 (left the search ...)`."""
    names = []
    for run in report.runs.to_dict("records"):
        candidate = " ".join(filter(None, [f"candidate {rate_text(run['learning_rate'])}", run["searched"]]))
        who, end = f"seed {run['seed']}" if run["stage"] == "seed" else candidate, early_end(run)
        names.append(f"{who} ({end})" if end else who)
    runs = report.runs.assign(learning_rate=report.runs["learning_rate"].map(rate_text))
    return runs[[*MODEL, *RUN]].assign(who=names, chosen=runs["selected"].astype(bool))


def _arms(report: Report, task: str, frame: pd.DataFrame) -> Iterator[Part]:
    """A heading and the charts of each arm of a task."""
    metric = report.tasks[task].main
    charts = (
        Chart("Loss", {"training_loss": "", VALIDATION_LOSS: "hollow"}, _short),
        Chart(f"Validation {metric.title}, %", {METRIC.format(metric.name): ""}, score_text),
        Chart("Learning rate", {"learning_rate": ""}, _rate, searched=False, shared=False),
        Chart("Gradient norm, logarithmic", {"gradient_norm": ""}, _short, logarithmic=True),
    )
    scales = {chart.title: _scale(chart, frame) for chart in charts if chart.shared}
    for (method, length), of_arm in frame.groupby(["method", "prompt_length"], sort=False):
        yield Heading(report.names.arm(method, length))
        plots = []
        for chart in charts:
            rows = of_arm[of_arm["quantity"].isin(list(chart.quantities))]
            if len(rows):
                plots.append(_plot(chart, rows, method_class(method), scales.get(chart.title) or _scale(chart, rows)))
        yield Plots(tuple(plots), kind="curves")


def _scale(chart: Chart, frame: pd.DataFrame) -> Scale:
    """The vertical axis. Only the seeds determine it: a candidate that diverged may be out of range."""
    values = frame[frame["quantity"].isin(list(chart.quantities)) & (frame["stage"] == "seed")]["value"]
    return log_axis(values) if chart.logarithmic else linear_axis(values, most=4)


def _plot(chart: Chart, frame: pd.DataFrame, css: str, up: Scale) -> Plot:
    """All runs of an arm in one chart."""
    drawn = frame[np.isfinite(frame["value"]) & ((frame["value"] > 0) | (not chart.logarithmic))]
    across = _steps_axis(frame["step"].max())
    candidates: list[Curve] = []
    seeds: list[Curve] = []
    marks: list[Mark] = []
    for (quantity, stage, who, chosen), rows in drawn.groupby(["quantity", "stage", "who", "chosen"], sort=False):
        steps, values, style = rows["step"].to_numpy(), rows["value"].to_numpy(), chart.quantities[quantity]
        what = f"{quantity.replace('_', ' ')}: from {chart.text(values[0])} to {chart.text(values[-1])}"
        places = (across[0], steps), (up[0], values)
        if stage == "seed":
            kind = f"{css} {style}".strip()
            seeds.append(curve_of(*places, f"{who}, {what}", kind))
            if len(rows) == 1:  # no line
                marks.append(point((across[0], steps[0]), (up[0], values[0]), seeds[-1].title, kind, HEIGHT))
            marks += _kept(chart, rows, (across[0], up[0]), kind)
        elif chart.searched and not chosen:
            candidates.append(curve_of(*places, f"{who}, {what}", f"hue-none {style}".strip()))
    lines = (*candidates, *_merged(seeds))
    titles = [*(line.title for line in lines), *(mark.title for mark in marks)]
    return Plot(
        title=chart.title,
        x_title="optimizer steps",
        x_ticks=ticks_across(across, _thousands),
        y_ticks=ticks_up(up, chart.text, HEIGHT),
        marks=tuple(marks),
        segments=(),
        labels=(),
        description=f"{chart.title} by optimizer steps. {'; '.join(titles)}",
        height=HEIGHT,
        curves=lines,
        axes=(across[0], up[0]),
    )


def _steps_axis(last: int) -> Scale:
    """An axis that ends with the last step, with round ticks."""
    _, ticks = linear_axis([0, last], most=4)
    return Axis(0, last), tuple(tick for tick in ticks if tick <= last)


def _kept(chart: Chart, rows: pd.DataFrame, axes: tuple[Axis, Axis], css: str) -> Iterator[Mark]:
    """A mark for each evaluation whose weights were kept."""
    for row in rows[rows["kept"].to_numpy()].to_dict("records"):
        where = f"step {row['step']:,}, epoch {row['epoch']:.3g}"
        title = f"{row['who']}, kept: {chart.text(row['value'])} at {where}"
        yield point((axes[0], row["step"]), (axes[1], row["value"]), title, css, HEIGHT)


def _merged(curves: list[Curve]) -> list[Curve]:
    """The curves, each once: all seeds of an arm have the same learning rates."""
    same: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        same.setdefault((curve.points, curve.kind), []).append(curve)
    return [replace(found[0], title=_of_all([curve.title for curve in found])) for found in same.values()]


def _of_all(titles: list[str]) -> str:
    """One title of several equal curves: `seeds 13 and 42, learning rate: ...`."""
    if len(titles) == 1:
        return titles[0]
    whos, whats = zip(*(title.split(", ", 1) for title in titles), strict=True)
    return f"seeds {listed([who.removeprefix('seed ') for who in whos])}, {whats[0]}"


def _short(value: float) -> str:
    """A number with three digits."""
    return f"{value:.3g}"


def _rate(rate: float) -> str:
    return rate_text(rate) if rate else "0"


def _thousands(steps: float) -> str:
    """A number of steps: `500`, `2k`, `2.5k`."""
    return f"{steps:g}" if steps < 1000 else f"{steps / 1000:g}k"

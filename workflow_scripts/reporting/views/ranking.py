"""Which method is best overall: the mean rank of each arm with its intervals, and how often it is first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from workflow_scripts.experiment.table_names import RANKING
from workflow_scripts.reporting.charts import Axis, Tick
from workflow_scripts.reporting.parts import Bullets, Folded, Part, Section, Text, lead
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import (
    Column,
    Sheet,
    arm_cell,
    method_class,
    number_column,
    plain_table,
    text_column,
)
from workflow_scripts.reporting.wording import NOTHING, Names, listed, method_title, plural

CLEAR = 0.95  # an arm is called first from this share of draws on
MOST_TICKS = 12


@dataclass(frozen=True)
class RankRow:
    """An arm: places in percent of the axis; `inner` is the interval on the same tasks, `outer` that on others."""

    label: str
    kind: str
    place: float
    inner: tuple[float, float]
    outer: tuple[float, float]
    text: str
    small: str
    title: str


@dataclass(frozen=True)
class RankChart:
    """One ranking, the best arm first."""

    identifier: str
    title: str
    small: str
    rows: tuple[RankRow, ...]
    ticks: tuple[Tick, ...]
    description: str


@dataclass(frozen=True)
class RankCharts:
    """A chart for each encoder and training source."""

    template: ClassVar[str] = "ranks"
    charts: tuple[RankChart, ...]


def section(report: Report) -> Section | None:
    """The charts, what their intervals do not include, and the table; None if nothing was ranked."""
    ranked = report.inputs.ranks
    if ranked.empty:
        return None
    reading = (
        "In each target language of each task, the arms are ranked by their score: 1 is the best. A point is the mean"
        f" of these ranks over the languages, then over the tasks. {_source(report)} does not count: the question is"
        " transfer. The thick line is the 95 % interval for these tasks and languages, with other test rows and other"
        " seeds; the thin line is that for other, similar tasks and languages. On the right: how often the arm is first"
        " in random draws from such other tasks and languages. A rank says which arm is better, not by how much."
    )
    groups = _groups(ranked)
    parts: list[Part] = [
        Text(tuple(_verdict(report, encoder, source, rows) for (encoder, source), rows in groups)),
        RankCharts(tuple(_chart(report, number, *key, rows) for number, (key, rows) in enumerate(groups, 1))),
        lead(reading),
    ]
    limits = tuple(dict.fromkeys(limit for key, rows in groups for limit in _limits(report, *key, rows)))
    parts += [Bullets(limits)] if limits else []
    parts.append(Folded("Mean ranks as a table", (sheet(report),)))
    return Section("ranking", "Which method is best overall", tuple(parts), "Overall")


def _groups(ranked: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    grouped = ranked.groupby(["encoder", "source"], sort=False)
    return [((str(encoder), str(source)), rows) for (encoder, source), rows in grouped]


def _source(report: Report) -> str:
    name = report.names.reference
    return name[0].upper() + name[1:]


def arm_title(names: Names, row: dict[str, Any]) -> str:
    """The title of a ranked arm; its prompt length may differ between the tasks."""
    if pd.isna(row["prompt_length"]):
        return f"{names.arm(row['method'], 0)}, length by task"
    return names.arm(row["method"], int(row["prompt_length"]))


def rank_text(value: float) -> str:
    """A mean rank with two digits after the point: arms often differ by less than a tenth."""
    return NOTHING if pd.isna(value) else f"{value:.2f}"


def share_text(value: float) -> str:
    """A share of draws in percent; never 0 or 100, which draws cannot show."""
    if pd.isna(value):
        return NOTHING
    percent = 100 * value
    return "> 99\u00a0%" if percent > 99 else "< 1\u00a0%" if percent < 1 else f"{percent:.0f}\u00a0%"


def _interval_text(low: float, high: float) -> str:
    return f"{rank_text(low)} to {rank_text(high)}"


def _verdict(report: Report, encoder: str, source: str, rows: pd.DataFrame) -> str:
    first = rows.iloc[0].to_dict()
    name = arm_title(report.names, first)
    where = report.names.where(encoder, source, " · ").removeprefix(" · ")
    numbers = f"mean rank {rank_text(first['mean_rank'])} of {int(first['arms'])}"
    before = f"{where}: " if where else ""
    elsewhere = "other tasks and languages" if first["tasks"] > 1 else "other languages of this task"
    if first["first"] >= CLEAR:
        return f"{before}{name} is first ({numbers}), in {share_text(first['first'])} of draws with {elsewhere}."
    here = f" On these tasks and languages, with other test rows and seeds, that is {share_text(first['first_here'])}."
    return (
        f"{before}No arm is clearly first. {name} has the best mean rank ({numbers}), and is first in"
        f" {share_text(first['first'])} of draws with {elsewhere}.{here}"
    )


def _chart(report: Report, number: int, encoder: str, source: str, rows: pd.DataFrame) -> RankChart:
    records = rows.to_dict("records")
    count = int(records[0]["arms"])
    axis = Axis(1, count)
    step = -(-(count - 1) // MOST_TICKS) or 1
    made = tuple(_row(report, row, axis) for row in records)
    title = f"Mean rank{report.names.where(encoder, source)}"
    small = f"of {plural(count, 'arm')}, over {plural(int(records[0]['tasks']), 'task')}"
    small += f" and {plural(int(records[0]['languages']), 'target language')}"
    return RankChart(
        identifier=f"ranks-{number}",
        title=title,
        small=small,
        rows=made,
        ticks=tuple(Tick(axis.place(rank), str(rank)) for rank in range(1, count + 1, step)),
        description=f"{title}, {small}. " + "; ".join(row.title for row in made),
    )


def _row(report: Report, row: dict[str, Any], axis: Axis) -> RankRow:
    label = arm_title(report.names, row)
    return RankRow(
        label=label,
        kind=method_class(row["method"]),
        place=axis.place(row["mean_rank"]),
        inner=(axis.place(row["low_here"]), axis.place(row["high_here"])),
        outer=(axis.place(row["low"]), axis.place(row["high"])),
        text=rank_text(row["mean_rank"]),
        small=f"first in {share_text(row['first'])}",
        title=(
            f"{label}: mean rank {rank_text(row['mean_rank'])}; on these tasks and languages"
            f" {_interval_text(row['low_here'], row['high_here'])}, first in {share_text(row['first_here'])}; on others"
            f" {_interval_text(row['low'], row['high'])}, first in {share_text(row['first'])}"
        ),
    )


def _limits(report: Report, encoder: str, source: str, rows: pd.DataFrame) -> Iterator[str]:
    """What a ranking leaves out: one sentence for each reason."""
    first = rows.iloc[0]
    where = report.names.where(encoder, source, ", ").removeprefix(", ")
    before = f"{where}: " if where else ""
    if first["tasks"] == 1:
        yield f"{before}There is one task. Neither line says what would happen on another task."
    elif first["tasks"] < 5:
        yield (f"{before}{int(first['tasks'])} tasks say little about others, so the thin lines are long.")
    if first["languages"] == 1:
        yield f"{before}There is one target language. Neither line says what would happen in another language."
    if first["seeds"] == 1:
        thin = (
            "; the thin lines do, since each task has its own models"
            if first["tasks"] > 1
            else ", nor do the thin ones"
        )
        yield f"{before}At least one arm has only one seed. The thick lines do not account for its other seeds{thin}."
    if left_out := _left_out(report, encoder, source, rows):
        yield f"{before}Not ranked, since they do not have scores on every task: {listed(left_out)}."
    if unranked := [method_title(name) for name in report.outside if name not in set(rows["method"])]:
        yield (
            f"{before}Not ranked: {listed(unranked)}. Predictions made elsewhere are ranked if they cover every task"
            " and target language, and if the model was not tuned on another source of this grid."
        )


def _left_out(report: Report, encoder: str, source: str, rows: pd.DataFrame) -> list[str]:
    scores = report.averages
    here = scores[(scores["encoder"] == encoder) & (scores["source"] == source)]
    ranked = {(row["method"], row["prompt_length"]) for row in rows.to_dict("records")}
    by_task = {method for method, length in ranked if pd.isna(length)}
    arms = dict.fromkeys(zip(here["method"], here["prompt_length"], strict=True))
    return [report.names.arm(*arm) for arm in arms if arm not in ranked and arm[0] not in by_task]


def sheet(report: Report) -> Sheet:
    """All rankings as a table."""
    frame, names = report.inputs.ranks, report.names

    def where(row: dict[str, Any]) -> str:
        return names.where(row["encoder"], row["source"]).removeprefix(", ")

    def interval(low: str, high: str) -> Any:
        return lambda row: _interval_text(row[low], row[high])

    table = plain_table(
        frame,
        (
            Column(
                "Arm",
                "head",
                second="Grid",
                cell=lambda row: arm_cell(row["method"], arm_title(names, row), where(row)),
            ),
            number_column("Mean rank", "mean_rank", rank_text),
            text_column("95 % interval here", interval("low_here", "high_here")),
            number_column("First here", "first_here", share_text),
            text_column("95 % interval elsewhere", interval("low", "high")),
            number_column("First elsewhere", "first", share_text),
            number_column("Tasks", "tasks", lambda count: f"{count:.0f}"),
            number_column("Languages", "languages", lambda count: f"{count:.0f}"),
            number_column("Seeds", "seeds", lambda count: f"{count:.0f}"),
        ),
        by=["encoder", "source"],
        identifier="ranking-table",
        title="Mean ranks",
        caption=(
            "The mean rank of each arm over target languages, then over tasks; 1 is the best. Here: on these tasks and"
            " languages, with other test rows and seeds. Elsewhere: on other, similar tasks and languages. First: the"
            " share of draws in which the arm has the best mean rank. Seeds: the smallest number for an arm on a task."
        ),
        kind="stacked",
    )
    return Sheet(RANKING, frame, (table,))

"""How certain the differences are: the forest charts by task and by language, and the table behind them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from workflow_scripts.evaluation.aggregate import tasks_of
from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.reporting.charts import Axis, Tick, linear_axis
from workflow_scripts.reporting.views.table import Cell, Column, Row, Table, arm_cell, method_class, sortable
from workflow_scripts.reporting.wording import (
    NOTHING,
    Names,
    interval_text,
    method_title,
    method_words,
    metric_title,
    p_text,
    plural,
    signed_text,
    spread_text,
)

AVERAGE, GAP = "average", "gap"  # scopes that are not languages


@dataclass(frozen=True)
class Interval:
    """A row of a forest chart: places in percent; `direction` is better, worse or open.

    Without an interval `low` and `high` are None.
    """

    label: str
    place: float
    low: float | None
    high: float | None
    text: str
    title: str
    direction: str
    kind: str
    small: str = ""
    language: str = ""


@dataclass(frozen=True)
class Forest:
    """Differences with their intervals on one axis; `zero` is the place of no difference."""

    identifier: str
    title: str
    small: str
    method: str
    intervals: tuple[Interval, ...]
    zero: float
    ticks: tuple[Tick, ...]
    worse: str
    better: str
    description: str


def languages(differences: pd.DataFrame) -> pd.DataFrame:
    """The rows whose scope is a language."""
    return differences[~differences["scope"].isin([AVERAGE, GAP])]


def direction(row: dict) -> str:
    """Better or worse where a difference is significant, else open."""
    if not row["significant"]:
        return "open"
    return "better" if row["difference"] > 0 else "worse"


def overview(differences: pd.DataFrame, names: Names) -> list[Forest]:
    """For each method and encoder, the difference of the averages, one row for each task."""
    averages = differences[differences["scope"] == AVERAGE]
    made: list[Forest] = []
    for (encoder, method, baseline), rows in averages.groupby(["encoder", "method", "baseline"], sort=False):
        ordered = [row for task in tasks_of(rows) for row in rows[rows["task"] == task].to_dict("records")]
        axis, ticks = _axis(rows)
        where = f" · {encoder}" if names.several_encoders else ""
        intervals = [
            _interval(row, TASKS[row["task"]].title, "task", axis, metric_title(row["metric"])) for row in ordered
        ]
        made.append(
            _forest(
                f"overview-{len(made) + 1}",
                f"{method_title(method)} minus {method_words(baseline)}{where}",
                "average over all languages, by task",
                (method, baseline),
                intervals,
                (axis, ticks),
            )
        )
    return made


def forests(differences: pd.DataFrame, names: Names) -> list[Forest]:
    """For each task, method and encoder, the average difference, then that of each language, the largest first."""
    made: list[Forest] = []
    rows_of = differences[differences["scope"] != GAP]
    for task in tasks_of(rows_of):
        of_task = rows_of[rows_of["task"] == task]
        for (encoder, method, baseline), rows in of_task.groupby(["encoder", "method", "baseline"], sort=False):
            axis, ticks = _axis(rows)
            by_language = languages(rows).sort_values("difference", ascending=False, kind="stable").to_dict("records")
            average = rows[rows["scope"] == AVERAGE].to_dict("records")
            intervals = [_interval(row, "average", AVERAGE, axis) for row in average]
            intervals += [
                _interval(row, names.language(row["scope"]), "language", axis, row["scope"], row["scope"])
                for row in by_language
            ]
            where = f", {encoder}" if names.several_encoders else ""
            made.append(
                _forest(
                    f"forest-{len(made) + 1}",
                    f"{TASKS[task].title}{where}",
                    f"{method_title(method)} minus {method_words(baseline)}, {metric_title(rows['metric'].iloc[0])}",
                    (method, baseline),
                    intervals,
                    (axis, ticks),
                )
            )
    return made


def _axis(rows: pd.DataFrame) -> tuple[Axis, tuple[float, ...]]:
    return linear_axis([0.0, *rows["difference"], *rows["low"], *rows["high"]])


def _interval(row: dict, label: str, kind: str, axis: Axis, small: str = "", language: str = "") -> Interval:
    known, size = pd.notna(row["low"]) and pd.notna(row["high"]), signed_text(row["difference"])
    said = f"95 % interval {interval_text(row['low'], row['high'])}" if known else "no interval"
    corrected = " after Holm" if kind == "language" else ""
    verdict = {"better": "significant", "worse": "significant", "open": "not significant"}[direction(row)]
    return Interval(
        label=label,
        place=axis.place(row["difference"]),
        low=axis.place(row["low"]) if known else None,
        high=axis.place(row["high"]) if known else None,
        text=size,
        title=f"{label}: {size} points, {said}, {p_text(row['p_holm'])}{corrected}, {verdict}",
        direction=direction(row),
        kind=kind,
        small=small,
        language=language,
    )


def _forest(
    identifier: str,
    title: str,
    small: str,
    methods: tuple[str, str],
    intervals: Sequence[Interval],
    scale: tuple[Axis, Iterable[float]],
) -> Forest:
    axis, values = scale
    method, baseline = (method_title(name) for name in methods)
    return Forest(
        identifier=identifier,
        title=title,
        small=small,
        method=method_class(methods[0]),
        intervals=tuple(intervals),
        zero=axis.place(0),
        ticks=tuple(Tick(axis.place(value), f"{value:g}".replace("-", "−")) for value in values),
        worse=f"← {baseline} better",
        better=f"{method} better →",
        description=f"{title}, {small}. " + "; ".join(interval.title for interval in intervals),
    )


def differences_table(differences: pd.DataFrame, names: Names) -> Table:
    """Every difference with its interval and p-values."""
    bodies = []
    for task in tasks_of(differences):
        rows = differences[differences["task"] == task].to_dict("records")
        bodies.append(tuple(_difference_row(row, names) for row in rows))
    return Table(
        identifier="differences-table",
        title="All differences",
        caption=(
            "Method minus baseline in percentage points, each at the prompt length chosen on English validation."
            " p is the larger of those of the interval and of the paired permutation test; for languages it is"
            " corrected for their number (Holm 1979). Own seeds only: the interval without what other comparisons"
            " contribute. ± over seeds: the standard deviation of the difference between the comparison’s own seeds."
        ),
        columns=(
            Column("Task", "head"),
            Column("Scope", "text"),
            Column("Difference"),
            Column("95 % interval", "text"),
            Column("Own seeds only", "text"),
            Column("± over seeds", "text"),
            Column("p, corrected"),
            Column("Verdict", "text"),
            Column("Units"),
        ),
        bodies=tuple(bodies),
        kind="stacked",
    )


def _difference_row(row: dict, names: Names) -> Row:
    scope = {AVERAGE: "average", GAP: "transfer gap"}.get(row["scope"], names.language(row["scope"]))
    arm = names.arm(row["method"], row["prompt_length"], row["encoder"])
    verdict = direction(row)
    if row["scope"] == GAP:
        verdict = {"better": "larger gap", "worse": "smaller gap"}.get(verdict, verdict)
    known = pd.notna(row["low"])
    return Row(
        (
            arm_cell(row["method"], TASKS[row["task"]].title, arm),
            Cell(scope),
            Cell(signed_text(row["difference"]), sort=sortable(row["difference"])),
            Cell(interval_text(row["low"], row["high"]) if known else NOTHING, sort=sortable(row["low"])),
            Cell(
                interval_text(row["low_plain"], row["high_plain"]) if known else NOTHING,
                sort=sortable(row["low_plain"]),
            ),
            Cell(
                spread_text(row["seed_std"]) or NOTHING,
                small=plural(int(row["seeds"]), "seed"),
                sort=sortable(row["seed_std"]),
                title=f"typical in this grid: ± {row['prior_std']:.1f}" if row["prior_freedom"] > 0 else "",
            ),
            Cell(p_text(row["p_holm"]).removeprefix("p "), sort=sortable(row["p_holm"])),
            Cell("unclear" if verdict == "open" else verdict, marks=() if verdict == "open" else ("chosen",)),
            Cell(f"{row['units']:,.0f}" if pd.notna(row["units"]) else NOTHING, sort=sortable(row["units"])),
        ),
        kind="winner" if row["scope"] in (AVERAGE, GAP) else "",
    )

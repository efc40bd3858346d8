"""How certain the differences are: the forest plots by task and by language, and the table behind them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from workflow_scripts.reporting.charts import Axis, Tick, linear_axis
from workflow_scripts.reporting.parts import Folded, Section, lead, paragraph
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import (
    Cell,
    Column,
    Table,
    arm_cell,
    method_class,
    number_column,
    plain_table,
    sortable,
    text_column,
)
from workflow_scripts.reporting.wording import (
    NOTHING,
    Names,
    interval_text,
    method_title,
    method_words,
    p_text,
    plural,
    signed_text,
)

AVERAGE, GAP = "average", "gap"  # scopes that are not languages
COMPARED = ["encoder", "source", "method", "baseline"]
MOST_SHOWN, ENDS = 40, 10  # with more languages, a chart shows so many at both ends and the others on demand
MOST_ROWS = 2500  # differences that the page has in full, about 4 MB; of more, it has the ends of the charts


@dataclass(frozen=True)
class Interval:
    """A row of a forest plot: positions in percent; `direction` is better, worse or open.

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
    """Differences with their intervals on one axis; `zero` is the place of no difference.

    `intervals` are the first rows, `middle` those that a click opens, `last` the rows below them. `left_out` rows are
    in the file alone.
    """

    identifier: str
    title: str
    small: str
    method: str
    intervals: tuple[Interval, ...]
    middle: tuple[Interval, ...]
    last: tuple[Interval, ...]
    left_out: int
    zero: float
    ticks: tuple[Tick, ...]
    worse: str
    better: str
    description: str


@dataclass(frozen=True)
class Forests:
    """Forest charts side by side; the overview has one column."""

    template: ClassVar[str] = "forests"
    charts: tuple[Forest, ...]
    kind: str = ""


def section(report: Report) -> Section:
    """The difference in each language, as charts and as a table."""
    title = "Differences by language"
    charts = forests(report)
    if not charts:
        nothing = "No difference was tested: this needs two methods on one task, with the same languages and seeds."
        return Section("differences", title, (paragraph(nothing),))
    table = differences_table(report)
    return Section(
        "differences",
        title,
        (
            lead(
                "Where a method is better: the difference in each language with its 95 % interval. A filled point with"
                " * is significant at the 5 % level after Holm’s correction for the number of languages."
            ),
            Forests(tuple(charts)),
            Folded(f"{table.title} as a table", (table,)),
        ),
    )


def by_language(differences: pd.DataFrame) -> pd.DataFrame:
    """The rows whose scope is a language."""
    return differences[~differences["scope"].isin([AVERAGE, GAP])]


def direction(row: dict) -> str:
    """Better or worse where a difference is significant, else open."""
    if not row["significant"]:
        return "open"
    return "better" if row["difference"] > 0 else "worse"


def overview(report: Report) -> Forests:
    """For each method and encoder, the difference of the averages, one row for each task."""
    averages = report.differences[report.differences["scope"] == AVERAGE]
    made: list[Forest] = []
    for (encoder, source, method, baseline), rows in averages.groupby(COMPARED, sort=False):
        ordered = [row for task in report.tasks.of(rows) for row in rows[rows["task"] == task].to_dict("records")]
        axis, ticks = _axis(rows)
        intervals = [
            _interval(
                row,
                report.tasks.title(row["task"]),
                "task",
                axis,
                report.tasks.metric_title(row["task"], row["metric"]),
            )
            for row in ordered
        ]
        made.append(
            _forest(
                f"overview-{len(made) + 1}",
                f"{method_title(method)} minus {method_words(baseline)}{report.names.where(encoder, source, ' · ')}",
                "average over all languages, by task",
                (method, baseline),
                intervals,
                (axis, ticks),
            )
        )
    return Forests(tuple(made), "overview")


def forests(report: Report) -> list[Forest]:
    """For each task, method and encoder, the average difference, then that of each language, the largest first."""
    made: list[Forest] = []
    rows_of = report.differences[report.differences["scope"] != GAP]
    for task in report.tasks.of(rows_of):
        of_task = rows_of[rows_of["task"] == task]
        for (encoder, source, method, baseline), rows in of_task.groupby(COMPARED, sort=False):
            axis, ticks = _axis(rows)
            ordered = by_language(rows).sort_values("difference", ascending=False, kind="stable").to_dict("records")
            average = [row for row in rows.to_dict("records") if row["scope"] == AVERAGE]
            intervals = [_interval(row, "average", AVERAGE, axis) for row in average]
            intervals += [
                _interval(
                    row, report.names.language(row["scope"]), "language", axis, row["scope"], language=row["scope"]
                )
                for row in ordered
            ]
            metric = report.tasks.metric_title(task, rows["metric"].iloc[0])
            made.append(
                _forest(
                    f"forest-{len(made) + 1}",
                    f"{report.tasks.title(task)}{report.names.where(encoder, source)}",
                    f"{method_title(method)} minus {method_words(baseline)}, {metric}",
                    (method, baseline),
                    intervals,
                    (axis, ticks),
                    whole=len(report.differences) <= MOST_ROWS,
                )
            )
    return made


def _axis(rows: pd.DataFrame) -> tuple[Axis, tuple[float, ...]]:
    return linear_axis([0.0, *rows["difference"], *rows["low"], *rows["high"]])


def _interval(row: dict, label: str, kind: str, axis: Axis, small: str = "", language: str = "") -> Interval:
    known, size = pd.notna(row["low"]) and pd.notna(row["high"]), signed_text(row["difference"])
    interval = f"95 % interval {interval_text(row['low'], row['high'])}" if known else "no interval"
    corrected = " after Holm" if kind == "language" else ""
    verdict = {"better": "significant", "worse": "significant", "open": "not significant"}[direction(row)]
    return Interval(
        label=label,
        place=axis.place(row["difference"]),
        low=axis.place(row["low"]) if known else None,
        high=axis.place(row["high"]) if known else None,
        text=size,
        title=f"{label}: {size} points, {interval}, {p_text(row['p_holm'])}{corrected}, {verdict}",
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
    whole: bool = True,
) -> Forest:
    axis, values = scale
    method, baseline = (method_title(name) for name in methods)
    many = len(intervals) > MOST_SHOWN
    first, last = (ENDS + 1, len(intervals) - ENDS) if many else (len(intervals), len(intervals))
    shown, middle = [*intervals[:first], *intervals[last:]], intervals[first:last]
    return Forest(
        identifier=identifier,
        title=title,
        small=small,
        method=method_class(methods[0]),
        intervals=tuple(intervals[:first]),
        middle=tuple(middle) if whole else (),
        left_out=0 if whole else len(middle),
        last=tuple(intervals[last:]),
        zero=axis.place(0),
        ticks=tuple(Tick(axis.place(value), f"{value:g}".replace("-", "−")) for value in values),
        worse=f"← {baseline} better",
        better=f"{method} better →",
        description=f"{title}, {small}. " + "; ".join(interval.title for interval in shown),
    )


def differences_table(report: Report) -> Table:
    """Every difference with its interval and p-values."""
    names, tasks = report.names, report.tasks
    rows = report.differences

    def plain(row: dict[str, Any], low: str, high: str) -> Cell:
        known = pd.notna(row["low"])
        return Cell(interval_text(row[low], row[high]) if known else NOTHING, sort=sortable(row[low]))

    def spread(row: dict[str, Any]) -> Cell:
        known = pd.notna(row["seed_std"])
        typical = f"typical in this grid: ± {row['prior_std']:.1f}" if row["prior_freedom"] > 0 else ""
        return Cell(
            f"± {row['seed_std']:.1f}" if known else NOTHING,
            small=plural(int(row["seeds"]), "seed"),
            sort=sortable(row["seed_std"]),
            title=typical,
        )

    def arm(row: dict[str, Any]) -> Cell:
        title = names.arm(row["method"], row["prompt_length"], row["encoder"], row["source"])
        return arm_cell(row["method"], tasks.title(row["task"]), title)

    order = [row for task in tasks.of(rows) for row in rows.index[rows["task"] == task]]
    ordered, note = rows.loc[order], ""
    if len(rows) > MOST_ROWS:
        of_languages = by_language(ordered)["difference"].abs()
        kept = of_languages.nlargest(MOST_ROWS - (len(rows) - len(of_languages)))
        ordered = ordered[~ordered.index.isin(of_languages.index.difference(kept.index))]
        note = f"The averages, the gaps and the largest of {len(rows):,} differences: differences.csv has all of them."
    return plain_table(
        ordered,
        (
            Column("Task", "head", second="Method", cell=arm),
            text_column("Scope", lambda row: scope_title(row["scope"], names)),
            number_column("Difference", "difference", signed_text),
            Column("95 % interval", "text", cell=lambda row: plain(row, "low", "high")),
            Column("Own seeds only", "text", cell=lambda row: plain(row, "low_plain", "high_plain")),
            Column("± over seeds", "text", cell=spread),
            number_column("p, corrected", "p_holm", lambda p: p_text(p).removeprefix("p ")),
            Column("Verdict", "text", cell=_verdict),
            number_column("Units", "units", lambda units: NOTHING if pd.isna(units) else f"{units:,.0f}"),
        ),
        row_kind=lambda row: "winner" if row["scope"] in (AVERAGE, GAP) else "",
        identifier="differences-table",
        title="All differences",
        caption=(
            "Method minus baseline in percentage points, each at the prompt length chosen on"
            f" {names.validation}. p is the larger of those of the interval and of the paired permutation test; for"
            " languages it is corrected for their number (Holm 1979). Own seeds only: the interval without what other"
            " comparisons contribute. ± over seeds: the standard deviation of the difference between the comparison’s"
            " own seeds."
        ),
        page_notes=(note,) if note else (),
        kind="stacked",
    )


def scope_title(scope: str, names: Names) -> str:
    """The scope of a difference: a language, the average or the gap."""
    return {AVERAGE: "average", GAP: "transfer gap"}.get(scope) or names.language(scope)


def _verdict(row: dict[str, Any]) -> Cell:
    verdict = direction(row)
    if row["scope"] == GAP:
        verdict = {"better": "larger gap", "worse": "smaller gap"}.get(verdict, verdict)
    return Cell("unclear" if verdict == "open" else verdict, marks=() if verdict == "open" else ("chosen",))

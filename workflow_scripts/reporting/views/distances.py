"""What explains transfer: the transfer gap against the distance of a language, its script and its token count."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from workflow_scripts.core.names import source_languages
from workflow_scripts.evaluation.explained import FEWEST_LANGUAGES
from workflow_scripts.experiment.table_names import EXPLAINED
from workflow_scripts.reporting.charts import Mark, Plot, linear_axis, point, ticks_across, ticks_up
from workflow_scripts.reporting.parts import Bullets, Folded, Part, Plots, Section, lead
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
from workflow_scripts.reporting.views.costs import legend
from workflow_scripts.reporting.wording import NOTHING, listed, method_title, method_words, score_text

TITLES = {
    "syntactic": "syntactic distance",
    "genetic": "genealogical distance",
    "other_script": "different script",
    "premium": "tokens for each token of the source language",
    "unknown": "unknown tokens, percent",
}
SHOWN, FOLDED = ("syntactic", "premium"), ("genetic", "unknown")  # a different script is a hollow point
MOST_MARKS = 400  # of a chart; with more, it shows two methods
MOST_READ = 100  # that the description for screen readers lists
NO_BASELINE = ""


def section(report: Report) -> Section | None:
    """Charts, sentences and correlations; None if there are too few languages for any of them."""
    found = report.inputs.explained
    shown, correlated = tuple(plots(report, SHOWN)), found["correlation"].notna().any()
    if not (shown or correlated):
        return None
    source = report.names.reference
    reading = (
        f"Each point is a target language. Vertical axis: its transfer gap, the score in {source} minus that in the"
        " language, in points, averaged over the seeds. Horizontal axis: the syntactic or genealogical distance of the"
        " language (URIEL: 0 is identical, 1 is the maximum), and the number of tokens of a text for each token of the"
        f" same text in {source}. A hollow point has a different script from {source}. Distances correlate with each"
        " other, with the amount of pretraining data and with the quality of translations: a correlation does not"
        " prove a cause."
    )
    sentences = tuple(_sentences(report))
    drawn = {method for gaps in _every_gap(report) for method in _drawn(gaps)}
    key = legend([method for method in report.methods if method in drawn])
    parts: list[Part] = [lead(reading)]
    parts += [Bullets(sentences)] if sentences else []
    parts += [Plots(shown, key)] if shown else []
    if more := tuple(plots(report, FOLDED)):
        parts.append(Folded("Genealogical distance and unknown tokens", (Plots(more, key),)))
    table = sheet(report)
    if correlated:
        parts.append(Folded("Rank correlations as a table", (table,)))
    return Section("distances", "What explains transfer", tuple(parts), "What explains it", files=(table,))


def _sentences(report: Report) -> Iterator[str]:
    """For each method, on which tasks it loses less than the baseline where the language is far, or more."""
    found = report.inputs.explained
    compared = found[(found["measure"] == "syntactic") & (found["baseline"] != NO_BASELINE)]
    for (encoder, source, method, baseline), rows in compared.groupby(
        ["encoder", "source", "method", "baseline"], sort=False
    ):
        known = rows.dropna(subset="low")
        where = report.names.where(encoder, source, ", ")
        pair = f"{method_title(method)} against {method_words(baseline)}{where}"
        if known.empty:
            most = int(rows["languages"].max())
            why = (
                f"no task has the {FEWEST_LANGUAGES} languages that a correlation with the distance needs"
                if most < FEWEST_LANGUAGES
                else "the difference of their gaps is the same in all languages"
            )
            yield f"{pair}: {why}."
            continue
        tasks = {
            "loses less in distant languages": known[known["high"] < 0],
            "loses more in distant languages": known[known["low"] > 0],
            "no statistically significant trend with the distance": known[(known["low"] <= 0) & (known["high"] >= 0)],
        }
        parts = [f"{what} on {_tasks(report, of)}" for what, of in tasks.items() if len(of)]
        few = rows[rows["low"].isna() & (rows["languages"] < FEWEST_LANGUAGES)]
        left_out = f" Too few languages for a correlation: {_tasks(report, few, False)}." if len(few) else ""
        yield f"{pair}: {'; '.join(parts)}.{left_out}"


def _tasks(report: Report, rows: pd.DataFrame, with_value: bool = True) -> str:
    return listed(
        [
            report.tasks.title(row["task"])
            + (f" (ρ {rho_text(row['correlation'])}, 95\u00a0% interval {_interval(row)})" if with_value else "")
            for row in rows.to_dict("records")
        ]
    )


def rho_text(value: float) -> str:
    """A correlation with two digits and its sign."""
    return NOTHING if pd.isna(value) else f"{value:+.2f}".replace("-", "−")


def _interval(row: dict[str, Any]) -> str:
    return NOTHING if pd.isna(row["low"]) else f"{rho_text(row['low'])} to {rho_text(row['high'])}"


def plots(report: Report, measures: tuple[str, ...]) -> Iterator[Plot]:
    """For each task, encoder, source and measure that varies, the gap of each method in each target language."""
    for (encoder, task, source), facts in report.inputs.distances.groupby(["encoder", "task", "source"], sort=False):
        gaps = _gaps(report, str(encoder), str(task), str(source))
        title = f"{report.tasks.title(task)}{report.names.where(encoder, source)}"
        for measure in measures:
            known = facts.dropna(subset=measure).set_index("language")
            left_out = measure in FOLDED and len(_drawn(gaps)) < len(gaps)  # a page of few megabytes
            if gaps and not left_out and known[measure].nunique() > 1:
                yield _plot(report, f"{title}: transfer gap", measure, known, gaps)


def _gaps(report: Report, encoder: str, task: str, source: str) -> dict[str, pd.Series]:
    """The gap in each target language, by method, at the length that shows the method."""
    scores = report.main_scores(task)
    own = source_languages(source)
    if scores is None or not set(own) <= set(scores.languages):
        return {}
    found = {}
    for method in report.methods:
        place = (encoder, source, method, report.arms.get((encoder, task, source, method)))
        if place in scores.means.index:
            values = scores.means.loc[place, list(scores.languages)]
            found[method] = (values[own].mean(skipna=False) - values.drop(own)).dropna()
    return {method: values for method, values in found.items() if len(values)}


def _every_gap(report: Report) -> Iterator[dict[str, pd.Series]]:
    places = report.inputs.distances[["encoder", "task", "source"]].drop_duplicates()
    return (_gaps(report, *place) for place in places.itertuples(index=False))


def _drawn(gaps: dict[str, pd.Series]) -> dict[str, pd.Series]:
    """The methods that a chart shows: all, or of very many points the first two."""
    return dict(list(gaps.items())[:2]) if sum(map(len, gaps.values())) > MOST_MARKS else gaps


def _plot(report: Report, title: str, measure: str, known: pd.DataFrame, gaps: dict[str, pd.Series]) -> Plot:
    points = [
        (method, str(code), float(known[measure][code]), float(gap))
        for method, values in _drawn(gaps).items()
        for code, gap in values.items()
        if code in known.index
    ]
    across, up = linear_axis(x for *_, x, _ in points), linear_axis(gap for *_, gap in points)

    def mark(method: str, code: str, value: float, gap: float) -> Mark:
        kind = f"{method_class(method)}{' hollow' if known['other_script'][code] == 1 else ''}"
        name = f"{report.names.language(code)}, {method_title(method)}: gap {score_text(gap)}, {value:.2g}"
        return point((across[0], value), (up[0], gap), name, kind)

    marks = tuple(mark(*one) for one in points)
    return Plot(
        title=title,
        x_title=TITLES[measure],
        x_ticks=ticks_across(across, lambda value: f"{value:g}"),
        y_ticks=ticks_up(up),
        marks=marks,
        segments=(),
        labels=(),
        description=f"{title} against {TITLES[measure]}"
        + (f": {'; '.join(one.title for one in marks)}" if len(marks) <= MOST_READ else f", {len(marks)} points"),
    )


def sheet(report: Report) -> Sheet:
    """All correlations."""
    frame, names = report.inputs.explained, report.names

    def gap(row: dict[str, Any]) -> str:
        if row["baseline"] == NO_BASELINE:
            return "its gap"
        return f"its gap minus that of {method_words(row['baseline'])}"

    order = [row for task in report.tasks.of(frame) for row in frame.index[frame["task"] == task]]
    table = plain_table(
        frame.loc[order],
        (
            Column(
                "Task",
                "head",
                second="Method",
                cell=lambda row: arm_cell(
                    row["method"],
                    report.tasks.title(row["task"]),
                    names.arm(row["method"], row["prompt_length"], row["encoder"], row["source"]),
                ),
            ),
            text_column("What", gap),
            text_column("Against", lambda row: TITLES[row["measure"]]),
            number_column("Spearman’s ρ", "correlation", rho_text),
            text_column("95 % interval", _interval),
            number_column("Languages", "languages", lambda count: f"{count:.0f}"),
        ),
        identifier="explained-table",
        title="Rank correlations with the transfer gap",
        caption=(
            "Spearman’s rank correlation over the target languages of a task, with its interval (Bonett & Wright 2000)."
            " A positive value: the gap is larger where the measure is. For a difference of gaps, a negative value: the"
            " method loses less than the baseline where the measure is large. Fewer than 8 languages, or a measure that"
            " does not vary, give no correlation. Intervals are not corrected for their number, and take languages for"
            " independent, which related ones are not quite."
        ),
        kind="stacked",
    )
    return Sheet(EXPLAINED, frame, (table,))

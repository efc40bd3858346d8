"""Which training source is best for which test language; shown if models were tuned on several sources."""

from typing import Any

import pandas as pd

from workflow_scripts.core.names import source_languages
from workflow_scripts.experiment.table_names import BEST_SOURCE, SOURCE_BY_TARGET
from workflow_scripts.reporting.families import MOST_COLUMNS, family_bodies
from workflow_scripts.reporting.parts import Folded, Part, Section, lead
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
    shading,
    text_column,
)
from workflow_scripts.reporting.wording import NOTHING, interval_text, method_title, signed_text

TESTED = (
    " The best two sources are chosen by the same scores that are compared, so intervals and tests are corrected for"
    " the number of pairs of sources. Bold: significant at the 5 % level, over all languages."
)


def section(report: Report) -> Section | None:
    """The matrix of each task, encoder and method, and the best source for each language; None with one source."""
    if not report.names.several_sources:
        return None
    sheet = matrices(report)
    best = best_sources(report)
    reading = (
        "Scores by the language that a model was tuned on and the language that it was tested in, by the task’s main"
        " metric, averaged over the seeds. A frame marks a test language that is part of the training source. Bold is"
        " the best source for a language."
    )
    parts: list[Part] = [lead(reading), sheet]
    parts.append(Folded(best.tables[0].title, (best,)) if len(best.frame) > MOST_COLUMNS else best)
    return Section("sources", "From which language to which", tuple(parts), "Sources and targets")


def matrices(report: Report) -> Sheet:
    """A heat map for each task, encoder and method: sources by test languages."""
    frame = report.by_source
    groups = frame.groupby(["task", "encoder", "method"], sort=False)
    tables = [_matrix(report, number, key, rows) for number, (key, rows) in enumerate(groups, 1)]
    return Sheet(SOURCE_BY_TARGET, frame, tuple(tables))


def _matrix(report: Report, number: int, key: tuple, rows: pd.DataFrame) -> Table:
    task, encoder, method = key
    names = report.names
    values = rows.pivot(index="source", columns="language", values="value")
    spreads = rows.pivot(index="source", columns="language", values="std")
    sources = [source for source in names.sources if source in values.index]
    languages = report.tasks[task].in_order(values.columns)
    values, spreads = values.loc[sources, languages], spreads.loc[sources, languages]
    shade = shading(values.min().min(), values.max().max())
    printed = values.round(1)
    best = printed.max().where(printed.max() > printed.min())  # none where all sources are equal

    def cell(source: str, language: str) -> Cell:
        value, spread = values.loc[source, language], spreads.loc[source, language]
        wins = pd.notna(value) and round(value, 1) == best[language]
        own = language in source_languages(source)
        marks = tuple(name for name, holds in (("best", wins), ("own", own)) if holds)
        title = "" if pd.isna(spread) else f"± {spread:.1f} over seeds"
        return number_cell(value, shade=None if pd.isna(value) else shade(value), marks=marks, title=title)

    where = f", {encoder}" if names.several_encoders else ""
    texts: dict[str, Any] = {
        "identifier": f"matrix-{number}",
        "title": f"{report.tasks.title(task)}: {method_title(method)}{where}",
        "caption": f"{report.tasks[task].main.title[0].upper()}{report.tasks[task].main.title[1:]} in percent.",
    }
    if len(languages) > MOST_COLUMNS:
        return Table(
            columns=(
                Column("Tested in", "head"),
                *(Column(names.source(source), small=(source,)) for source in sources),
            ),
            bodies=family_bodies(
                names,
                values.T,
                lambda row, is_mean: [
                    number_cell(row[source], shade=shade(row[source])) if is_mean else cell(source, str(row.name))
                    for source in sources
                ],
            ),
            kind="heat families",
            sorts="bodies",
            collapses=True,
            **texts,
        )
    body = tuple(
        Row(
            (
                arm_cell(method, names.source(source), source),
                *(cell(source, language) for language in languages),
                number_cell(values.loc[source].mean(), marks=("average",)),
            )
        )
        for source in sources
    )
    return Table(
        columns=(
            Column("Tuned on", "head", second="Code"),
            *(Column(code, hint=names.language(code), language=code) for code in languages),
            Column("avg", hint="unweighted average over the languages"),
        ),
        bodies=(body,),
        kind="heat wide" if len(languages) > 20 else "heat",
        **texts,
    )


def best_sources(report: Report) -> Sheet:
    """For each test language, the source with the highest score and its lead over the next one."""
    frame = _best(report)
    tasks, names = report.tasks, report.names

    def first(row: dict[str, Any]) -> Cell:
        return arm_cell(row["method"], tasks.title(row["task"]), names.arm(row["method"], 0, row["encoder"]))

    def best(row: dict[str, Any]) -> str:
        tied = [row["source"], *row["tied"].split()]
        return names.source(tied[0]) if len(tied) == 1 else f"tie: {'; '.join(map(names.source, tied))}"

    def interval(row: dict[str, Any]) -> str:
        return NOTHING if pd.isna(row["low"]) else interval_text(row["low"], row["high"])

    tested = frame["low"].notna().any()
    table = plain_table(
        frame,
        (
            Column("Task", "head", second="Method", cell=first),
            text_column("Tested in", lambda row: f"{names.language(row['language'])} ({row['language']})"),
            text_column("Best source", best),
            number_column("Score", "value", spread="std"),
            text_column("Next source", lambda row: names.source(row["next"])),
            number_column("Its score", "next_value"),
            number_column("Lead", "lead", signed_text, best="significant"),
            *([text_column("95 % interval", interval)] if tested else []),
        ),
        by=["task", "encoder", "method"],
        row_kind=lambda row: "winner" if row["significant"] else "",
        identifier="best-source",
        title="The best source for each language",
        caption=(
            "The source with the highest mean score, and its lead over the next one in percentage points. Sources with"
            " the same score, as printed, tie." + (TESTED if tested else " There are no tests of these leads.")
        ),
        kind="stacked",
    )
    return Sheet(BEST_SOURCE, frame, (table,))


def _best(report: Report) -> pd.DataFrame:
    """One row for each task, encoder, method and language that at least two sources were scored in.

    `tied` is the other sources with the best score, as printed, with spaces between them.
    """
    keys = ["task", "encoder", "method", "language"]
    tested = {
        (row["task"], row["encoder"], row["method"], row["language"], row["source"], row["other"]): row
        for row in report.inputs.source_differences.to_dict("records")
    }
    rows = []
    for key, group in report.by_source.groupby(keys, sort=False):
        if len(group) < 2:
            continue
        ranked = group.sort_values("value", ascending=False, kind="stable")
        first, second = ranked.head(2).to_dict("records")
        tied = ranked["source"].iloc[1:][(ranked["value"].iloc[1:].round(1) == round(first["value"], 1))]
        lead_of = _difference(tested, key, first["source"], second["source"])
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "source": first["source"],
                "tied": " ".join(tied),
                "value": first["value"],
                "std": first["std"],
                "next": second["source"],
                "next_value": second["value"],
                "lead": first["value"] - second["value"],
                **lead_of,
            }
        )
    columns = [*keys, "source", "tied", "value", "std", "next", "next_value", "lead", "low", "high", "significant"]
    return pd.DataFrame(rows, columns=columns)


def _difference(tested: dict[tuple, dict], key: tuple, source: str, other: str) -> dict[str, Any]:
    """The interval of a lead; the difference may be recorded in either direction."""
    if (row := tested.get((*key, source, other))) is not None:
        return {"low": row["low"], "high": row["high"], "significant": bool(row["significant"])}
    if (row := tested.get((*key, other, source))) is not None:
        return {"low": -row["high"], "high": -row["low"], "significant": bool(row["significant"])}
    return {"low": float("nan"), "high": float("nan"), "significant": False}

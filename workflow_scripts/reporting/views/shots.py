"""What a few rows of a target language add: the score by the number of rows; shown if the grid has such models."""

from collections.abc import Iterator, Sequence

import pandas as pd

from workflow_scripts.experiment.table_names import SHOTS
from workflow_scripts.reporting.charts import (
    Axis,
    Mark,
    Plot,
    Scale,
    Segment,
    joined,
    linear_axis,
    point,
    ticks_across,
    ticks_up,
)
from workflow_scripts.reporting.parts import Part, Plots, Section, lead
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import (
    Cell,
    Column,
    Row,
    Sheet,
    arm_cell,
    averages_table,
    method_class,
    number_cell,
)
from workflow_scripts.reporting.tables import AVERAGE
from workflow_scripts.reporting.views.costs import legend
from workflow_scripts.reporting.wording import method_title, plural, score_text

MOST_CHARTS = 6  # target languages that have a chart of their own
KEYS = ["encoder", "task", "source", "method"]


def section(report: Report) -> Section | None:
    """The charts and the table; None if no model was tuned with rows of a target language."""
    frame = report.shots
    if frame.empty:
        return None
    reading = (
        f"Each of these models was tuned on {report.names.reference} and on a few rows of one target language, and then"
        " tested in this language. The seed draws the rows. 0 rows are the scores without any row of the target"
        " language. A point is the mean over the seeds, by the task’s main metric in percent, at the prompt length"
        " that validation chose without such rows."
    )
    methods = [method for method in report.methods if method in set(frame["method"])]
    parts: list[Part] = [lead(reading), Plots(tuple(plots(report)), legend(methods)), sheet(report)]
    return Section("shots", "A few rows of the target language", tuple(parts), "Few-shot")


def plots(report: Report) -> Iterator[Plot]:
    """For each task, encoder and source the mean over the target languages, and each of them where they are few."""
    for (task, encoder, source), rows in report.shots.groupby(["task", "encoder", "source"], sort=False):
        title = f"{report.tasks.title(task)}{report.names.where(encoder, source)}"
        targets = [language for language in dict.fromkeys(rows["language"]) if language != AVERAGE]
        mean = f"mean over {plural(len(targets), 'language')}"
        shown = {AVERAGE: mean} if len(targets) > 1 else {}
        if len(targets) <= MOST_CHARTS:
            shown |= {language: report.names.language(language) for language in targets}
        up = linear_axis(rows[rows["language"].isin(list(shown))]["value"])  # one scale for all charts of a task
        for language, name in shown.items():
            yield _plot(f"{title}: {name}", rows[rows["language"] == language], up)


def _plot(title: str, rows: pd.DataFrame, up: Scale) -> Plot:
    """The score by the number of rows, a line for each method."""
    counts = sorted(set(rows["shots"]))
    # One more than the number of rows, since 0 has no logarithm.
    across = Axis(0.8, 1.25 * (counts[-1] + 1), logarithmic=True)
    marks: list[Mark] = []
    segments: list[Segment] = []
    for method, of_method in rows.groupby("method", sort=False):
        css, name = method_class(str(method)), method_title(str(method))
        line = [
            point((across, shots + 1), (up[0], value), f"{name}: {score_text(value)} at {shots}", css)
            for shots, value in of_method[["shots", "value"]].sort_values("shots").itertuples(index=False)
        ]
        marks += line
        segments += joined(line, css)
    return Plot(
        title=title,
        x_title="rows of the target language, logarithmic",
        x_ticks=ticks_across((across, tuple(count + 1 for count in counts)), lambda place: f"{place - 1:g}"),
        y_ticks=ticks_up(up),
        marks=tuple(marks),
        segments=tuple(segments),
        labels=(),
        description=f"{title}, by the number of rows. " + "; ".join(mark.title for mark in marks),
    )


def sheet(report: Report) -> Sheet:
    """A body for each arm: the mean over the target languages, then each language; a column for each number of rows."""
    frame = report.shots
    counts = sorted(set(frame["shots"]))
    bodies = tuple(_body(report, rows, counts) for _, rows in frame.groupby(KEYS, sort=False))
    table = averages_table(
        identifier="shots-table",
        title="Scores by the number of rows of the target language",
        columns=(Column("Task", "head", second="Method"), *(Column(plural(count, "row")) for count in counts)),
        bodies=bodies,
        caption=(
            "Mean over the seeds of the main metric in percent, with the standard deviation over seeds. The average is"
            " unweighted over the target languages: test languages that have a training set and are not in the source."
        ),
    )
    return Sheet(SHOTS, frame, (table,))


def _body(report: Report, rows: pd.DataFrame, counts: Sequence[int]) -> tuple[Row, ...]:
    encoder, task, source, method = (rows[key].iloc[0] for key in KEYS)
    languages = [language for language in dict.fromkeys(rows["language"]) if language != AVERAGE]
    by_language = {language: own.set_index("shots") for language, own in rows.groupby("language", sort=False)}

    def cells(own: pd.DataFrame) -> list[Cell]:
        values = own[["value", "std"]].reindex(counts)
        return [number_cell(value, spread=spread) for value, spread in values.itertuples(index=False)]

    small = report.names.arm(method, int(rows["prompt_length"].iloc[0]), encoder, source)
    title = report.tasks.title(task)
    if AVERAGE not in by_language:
        (language,) = languages
        head = arm_cell(method, f"{title}, {report.names.language(language)}", small)
        return (Row((head, *cells(by_language[language]))),)
    average = Row((arm_cell(method, title, small), *cells(by_language[AVERAGE])), kind="family")
    return (average, *(_language_row(report, language, cells(by_language[language])) for language in languages))


def _language_row(report: Report, language: str, cells: Sequence[Cell]) -> Row:
    return Row((Cell(report.names.language(language), small=language), *cells), "language", language)

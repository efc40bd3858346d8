"""Calibration: whether the probabilities of predicted answers are also correct in the target languages."""

from collections.abc import Iterator

import pandas as pd

from workflow_scripts.core.names import source_languages
from workflow_scripts.experiment.table_names import CALIBRATION
from workflow_scripts.reporting.inputs import MODEL
from workflow_scripts.reporting.parts import Bullets, Part, Section, lead
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import Cell, Column, Row, Sheet, arm_cell, averages_table, number_cell
from workflow_scripts.reporting.wording import listed, method_title, plural, signed_text

VALUES = ["accuracy", "confidence_uncalibrated", "confidence", "error_uncalibrated", "error"]


def section(report: Report) -> Section | None:
    """What the probabilities say, and the table; None for a grid without probabilities."""
    frame = means(report)
    if frame.empty:
        return None
    names = report.names
    reading = (
        "The probability that a model gives to its predicted answer should be the share of such answers that are"
        f" correct. Each model’s probabilities are calibrated by one temperature, fitted on the {names.validation} set."
        " The expected calibration error is the mean distance between the probability and this share, in percentage"
        " points, over 15 bins of equally many answers. Even perfectly calibrated probabilities have an error of about"
        " 3 points with 1,000 answers and 9 with 100. In tagging each word is an answer. An answer to a question is"
        " correct if it is an exact match."
    )
    parts: list[Part] = [lead(reading)]
    if sentences := tuple(_sentences(report, frame)):
        parts.append(Bullets(sentences))
    return Section("calibration", "Calibration", (*parts, sheet(report, frame)))


def means(report: Report) -> pd.DataFrame:
    """The means over the seeds by arm and language, with `seeds` and the standard deviation `error_std` over them."""
    frame = report.calibration
    grouped = frame.groupby([*MODEL, "language"], sort=False, as_index=False)
    columns = {name: (name, "mean") for name in ("answers", *VALUES)}
    return grouped.agg(**columns, error_std=("error", "std"), seeds=("seed", "size"))


def _is_target(frame: pd.DataFrame) -> pd.Series:
    """Whether the language of each row is none of its model's training languages."""
    pairs = zip(frame["language"], frame["source"], strict=True)
    found = [language not in source_languages(source) for language, source in pairs]
    return pd.Series(found, index=frame.index, dtype=bool)


def _sentences(report: Report, frame: pd.DataFrame) -> Iterator[str]:
    """Whether models are overconfident in other languages: overall, then by method."""
    targets = frame[_is_target(frame)]
    if targets.empty:
        return
    above = {
        when: int((targets[column] > targets["accuracy"]).sum())
        for when, column in (("after", "confidence"), ("before", "confidence_uncalibrated"))
    }
    yield (
        f"After calibration on {report.names.reference} the mean probability is above the accuracy, so that models are"
        f" overconfident, in {above['after']} of the {len(targets)} combinations of a method, a task and a target"
        f" language; before, in {above['before']}."
    )
    for (encoder, source, method), rows in frame.groupby(["encoder", "source", "method"], sort=False):
        tasks = [
            f"{report.tasks.title(task)} {_over(of_task[is_target])}{_at_home(report, of_task[~is_target])}"
            for task, of_task in rows.groupby("task", sort=False)
            if (is_target := _is_target(of_task)).any()
        ]
        if tasks:
            yield (
                f"{method_title(str(method))}{report.names.where(str(encoder), str(source))}: calibrated probability"
                f" minus accuracy in the target languages, in points: {listed(tasks)}."
            )


def _over(rows: pd.DataFrame) -> str:
    """The mean probability minus the accuracy, in points."""
    return signed_text((rows["confidence"] - rows["accuracy"]).mean())


def _at_home(report: Report, rows: pd.DataFrame) -> str:
    """The same in the source language, if that is among the test languages."""
    return f" ({report.names.languages(list(rows['language']))}: {_over(rows)})" if len(rows) else ""


def sheet(report: Report, frame: pd.DataFrame) -> Sheet:
    """A body for each arm: the mean over the target languages, then each language."""
    bodies = tuple(_body(report, rows) for _, rows in frame.groupby(MODEL, sort=False))
    table = averages_table(
        identifier="calibration-table",
        title="Probabilities and their error by language, before and after calibration",
        columns=(
            Column("Task", "head", second="Method"),
            Column("Accuracy"),
            Column("Probability before"),
            Column("Probability"),
            Column("Error before"),
            Column("Error"),
        ),
        bodies=bodies,
        caption=(
            "Accuracy, mean probability of the predicted answers, and expected calibration error, in percent and"
            " percentage points, mean over the seeds; the error after calibration with its standard deviation over"
            " seeds. The first row of an arm is the mean over its target languages. Before: at temperature 1."
        ),
    )
    return Sheet(CALIBRATION, frame, (table,))


def _body(report: Report, rows: pd.DataFrame) -> tuple[Row, ...]:
    encoder, task, source, method, length = (rows[key].iloc[0] for key in MODEL)
    small, title = report.names.arm(method, int(length), encoder, source), report.tasks.title(task)
    by_language = tuple(
        Row(
            (
                Cell(report.names.language(row["language"]), small=row["language"]),
                *(number_cell(row[name]) for name in VALUES[:-1]),
                number_cell(row["error"], spread=row["error_std"]),
            ),
            "language",
            row["language"],
        )
        for row in rows.to_dict("records")
    )
    is_target = _is_target(rows)
    shown = rows[is_target] if is_target.any() else rows
    values = shown[VALUES].mean()
    head = arm_cell(method, title, f"{small}, {plural(len(shown), 'language')}")
    return (Row((head, *map(number_cell, values)), kind="family"), *by_language)

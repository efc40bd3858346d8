"""Which encoder transfers better, with the same method and with the best method of each; shown if there are several."""

from typing import Any

import pandas as pd

from workflow_scripts.experiment.table_names import ENCODERS
from workflow_scripts.reporting.parts import Section, lead
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import (
    Cell,
    Column,
    Sheet,
    Table,
    arm_cell,
    number_column,
    plain_table,
    text_column,
)
from workflow_scripts.reporting.views.differences import AVERAGE
from workflow_scripts.reporting.wording import NOTHING, interval_text, p_text, signed_text


def section(report: Report) -> Section | None:
    """The table of all pairs; None with one encoder."""
    if not report.names.several_encoders:
        return None
    reading = (
        "The same rows were scored in every encoder, so two encoders are compared as two methods are: the difference of"
        " their averages over the languages, with an interval over test examples and seeds."
    )
    return Section("encoders", "Encoders compared", (lead(reading), between_encoders(report)), "Encoders")


def between_encoders(report: Report) -> Sheet:
    """Each pair of encoders on each task: the difference of their averages."""
    frame = report.inputs.encoder_differences
    return Sheet(ENCODERS, frame, (_table(report, frame[frame["scope"] == AVERAGE]),))


def _table(report: Report, frame: pd.DataFrame) -> Table:
    tasks, names = report.tasks, report.names

    def first(row: dict[str, Any]) -> Cell:
        return arm_cell(row["method"], tasks.title(row["task"]), names.where(source=row["source"]).removeprefix(", "))

    def side(which: str) -> Any:
        def text(row: dict[str, Any]) -> str:
            arm = names.arm(row[f"{which}method"], int(row[f"{which}prompt_length"]))
            return f"{row[f'{which}encoder']}: {arm}"

        return text

    def interval(row: dict[str, Any]) -> str:
        return NOTHING if pd.isna(row["low"]) else interval_text(row["low"], row["high"])

    return plain_table(
        frame,
        (
            Column("Task", "head", cell=first),
            text_column("Encoder and method", side("")),
            text_column("Minus", side("other_")),
            number_column("Difference", "difference", signed_text, best="significant"),
            text_column("95 % interval", interval),
            text_column("p", lambda row: p_text(row["p_holm"])),
            text_column("Best of each", lambda row: "yes" if row["chosen"] else ""),
        ),
        by=["task", "source"],
        identifier="encoders-table",
        title="Pairs of encoders",
        caption=(
            "Difference of the averages over the languages, in percentage points. “Best of each”: the method of each"
            " encoder with the highest validation score. Intervals and p-values are corrected for the number of pairs"
            " of a task. Bold: significant at the 5 % level."
        ),
        kind="stacked",
    )

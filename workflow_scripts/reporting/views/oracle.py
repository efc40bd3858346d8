"""What a perfect choice of the weights would have gained in each language; shown if the grid was run with `oracle`."""

import pandas as pd

from workflow_scripts.experiment.table_names import ORACLE
from workflow_scripts.reporting.inputs import MODEL
from workflow_scripts.reporting.parts import Part, Section, lead
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import Cell, Column, Row, Sheet, arm_cell, averages_table, number_cell


def section(report: Report) -> Section | None:
    """The table; None without the oracle's scores."""
    frame = gains(report)
    if frame.empty:
        return None
    reading = (
        "Weights are chosen on the validation set of the training language. Here every evaluation of a training was"
        " also scored on the validation set of each other language, and the best one for this language is compared"
        " with the one that was kept (an oracle). The gain is an upper limit of what a better choice could give: the"
        " maximum of several noisy scores is too high. No model, score or test of this report uses it."
    )
    parts: list[Part] = [lead(reading), sheet(report, frame)]
    return Section("oracle", "What a perfect choice of the weights would gain", tuple(parts), "Oracle")


def gains(report: Report) -> pd.DataFrame:
    """The means over the seeds by arm and language: `kept`, `best`, `gain`, and `gain_std` over the seeds."""
    frame = report.inputs.oracle
    frame = frame[report.is_headline(frame)]
    frame = frame.assign(gain=frame["best"] - frame["kept"])
    grouped = frame.groupby([*MODEL, "metric", "language"], sort=False, as_index=False)
    return grouped.agg(
        kept=("kept", "mean"),
        best=("best", "mean"),
        gain=("gain", "mean"),
        gain_std=("gain", "std"),
        seeds=("seed", "size"),
    )


def sheet(report: Report, frame: pd.DataFrame) -> Sheet:
    """A body for each arm: the mean over the languages, then each language."""
    bodies = tuple(_body(report, rows) for _, rows in frame.groupby(MODEL, sort=False))
    table = averages_table(
        identifier="oracle-table",
        title="Validation scores in other languages: the kept weights and the best ones",
        columns=(Column("Task", "head", second="Method"), Column("Kept"), Column("Best"), Column("Gain")),
        bodies=bodies,
        caption=(
            "Main metric in percent on the validation set of each language, mean over the seeds; the gain with its"
            " standard deviation over seeds. Best: of all evaluations of a training, chosen for each language and seed."
        ),
    )
    return Sheet(ORACLE, frame, (table,))


def _body(report: Report, rows: pd.DataFrame) -> tuple[Row, ...]:
    encoder, task, source, method, length = (rows[key].iloc[0] for key in MODEL)
    small, title = report.names.arm(method, int(length), encoder, source), report.tasks.title(task)
    means = rows[["kept", "best", "gain"]].mean()
    average = Row((arm_cell(method, title, small), *map(number_cell, means)), kind="family")
    return (
        average,
        *(
            Row(
                (
                    Cell(report.names.language(row.language), small=row.language),
                    number_cell(row.kept),
                    number_cell(row.best),
                    number_cell(row.gain, spread=row.gain_std),
                ),
                "language",
                row.language,
            )
            for row in rows.itertuples()
        ),
    )

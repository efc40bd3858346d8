"""The hyperparameter search on the English validation set, and the cost of training."""

import pandas as pd

from workflow_scripts.evaluation.aggregate import ARM, tasks_of, validation_by_prompt_length
from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.reporting.tables import cost, learning_rate_search
from workflow_scripts.reporting.views.table import Cell, Column, Row, Table, arm_cell, sortable
from workflow_scripts.reporting.wording import (
    NOTHING,
    Names,
    bytes_text,
    count_text,
    duration_text,
    listed,
    method_words,
    rate_text,
    score_text,
)


def lengths_table(runs: pd.DataFrame, names: Names) -> Table:
    """The choice of the prompt length, for methods with several."""
    lengths = validation_by_prompt_length(runs)
    keys = ["encoder", "task", "method"]
    lengths = lengths[lengths.groupby(keys)["prompt_length"].transform("size") > 1]
    bodies = [
        tuple(
            Row(
                (
                    arm_cell(row["method"], TASKS[task].title, names.arm(row["method"], 0, row["encoder"])),
                    Cell(str(row["prompt_length"]), sort=row["prompt_length"]),
                    Cell(score_text(row["validation"]), sort=sortable(row["validation"])),
                    Cell(str(row["seeds"]), sort=row["seeds"]),
                    Cell("chosen" if row["best"] else "", marks=("chosen",) if row["best"] else ()),
                ),
                kind="winner" if row["best"] else "",
            )
            for row in lengths[lengths["task"] == task].to_dict("records")
        )
        for task in tasks_of(lengths)
    ]
    return Table(
        identifier="prompt-lengths",
        title="Prompt length",
        paper="The paper’s appendix A.1",
        caption="Mean score on the English validation set over the seeds. No other language influences the choice.",
        columns=(
            Column("Task", "head"),
            Column("Length"),
            Column("Validation"),
            Column("Seeds"),
            Column("", "text"),
        ),
        bodies=tuple(bodies),
        kind="stacked",
    )


def search_table(runs: pd.DataFrame, names: Names) -> Table:
    """Every candidate of the learning-rate search, with the winner marked."""
    search = learning_rate_search(runs)
    bodies = []
    for (task, encoder, method, length), candidates in search.groupby(["task", *ARM], sort=False):
        bodies.append(
            tuple(
                Row(
                    (
                        arm_cell(method, TASKS[task].title, names.arm(method, length, encoder)),
                        Cell(rate_text(row["learning_rate"]), sort=sortable(row["learning_rate"])),
                        Cell(
                            score_text(row["validation"]),
                            sort=sortable(row["validation"]),
                            marks=("best",) if row["selected"] else (),
                        ),
                        Cell(score_text(row["majority"]), sort=sortable(row["majority"])),
                        Cell(_epochs(row), sort=sortable(row["best_epoch"])),
                        Cell("chosen" if row["selected"] else "", marks=("chosen",) if row["selected"] else ()),
                        Cell(_search_remark(row)),
                    ),
                    kind="winner" if row["selected"] else "",
                )
                for row in candidates.to_dict("records")
            )
        )
    return Table(
        identifier="learning-rates",
        title="Learning rate",
        paper="The paper’s appendix A.1",
        caption=(
            "Score of every candidate on the English validation set, one seed each. Majority is what always answering"
            " the most frequent class scores there."
        ),
        columns=(
            Column("Task", "head"),
            Column("Learning rate"),
            Column("Validation"),
            Column("Majority"),
            Column("Best epoch"),
            Column("", "text"),
            Column("Remarks", "text"),
        ),
        bodies=tuple(bodies),
        kind="stacked",
    )


def _epochs(row: dict) -> str:
    return NOTHING if pd.isna(row["best_epoch"]) else f"{row['best_epoch']:.0f} of {row['epochs']:.0f}"


def _search_remark(row: dict) -> str:
    remarks = []
    if row["problem"]:
        remarks.append(str(row["problem"]))
    elif pd.notna(row["majority"]) and row["validation"] <= row["majority"]:
        remarks.append("not above the majority class")
    if row["last_epoch_best"]:
        remarks.append("the best epoch is the last")
    if row["at_the_edge"]:
        remarks.append("at the edge of the candidates")
    return "; ".join(remarks)


def cost_table(runs: pd.DataFrame, names: Names) -> Table:
    """The cost of each arm."""
    table = cost(runs)
    bodies = []
    for task in tasks_of(table):
        rows = []
        for row in table[table["task"] == task].to_dict("records"):
            rows.append(
                Row(
                    (
                        arm_cell(
                            row["method"],
                            TASKS[task].title,
                            names.arm(row["method"], row["prompt_length"], row["encoder"]),
                        ),
                        Cell(count_text(row["tuned_parameters"]), sort=sortable(row["tuned_parameters"])),
                        Cell(_share(row["tuned_percent"]), sort=sortable(row["tuned_percent"])),
                        Cell(duration_text(row["seconds"]), sort=sortable(row["seconds"])),
                        Cell(duration_text(row["search_seconds"]), sort=sortable(row["search_seconds"])),
                        Cell(_rate(row["examples_per_second"]), sort=sortable(row["examples_per_second"])),
                        Cell(_megabytes(row["peak_memory_mb"]), sort=sortable(row["peak_memory_mb"])),
                        Cell(bytes_text(row["stored_bytes"]), sort=sortable(row["stored_bytes"])),
                    )
                )
            )
        bodies.append(tuple(rows))
    most = table[table["together"] > 1].groupby("method")["together"].max()
    shared = listed([f"{method_words(method)} {count:.0f}" for method, count in most.items()])
    together = f" Several models were trained at once and share throughput and memory: {shared}." if shared else ""
    return Table(
        identifier="cost",
        title="Parameters, time, memory",
        paper="The paper’s section 4 gives only the tuned share: 0.1\u00a0% to 0.3\u00a0%",
        caption=(
            "Means over the runs that the scores come from; for memory the maximum. Search is the time of all"
            f" candidates together.{together}"
        ),
        columns=(
            Column("Task", "head"),
            Column("Tuned parameters"),
            Column("Of the encoder"),
            Column("Training"),
            Column("Search"),
            Column("Examples/s"),
            Column("Peak memory"),
            Column("Stored"),
        ),
        bodies=tuple(bodies),
        kind="stacked",
    )


def _share(percent: float) -> str:
    return NOTHING if pd.isna(percent) else f"{percent:.2f} %" if percent < 10 else f"{percent:.0f} %"


def _rate(rate: float) -> str:
    return NOTHING if pd.isna(rate) else f"{rate:.1f}"


def _megabytes(size: float) -> str:
    return NOTHING if pd.isna(size) else f"{size:,.0f} MB"

"""The report's answer as plain text, for a terminal: the headline, and table 1 with the differences."""

import textwrap
from collections.abc import Iterator

import pandas as pd

from workflow_scripts.evaluation.aggregate import tasks_of
from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.experiment.visible import visible
from workflow_scripts.reporting.inputs import Inputs
from workflow_scripts.reporting.tables import headline_averages
from workflow_scripts.reporting.verdicts import headline
from workflow_scripts.reporting.views.differences import AVERAGE, direction
from workflow_scripts.reporting.wording import (
    Names,
    interval_text,
    metric_title,
    plural,
    score_text,
    signed_text,
    spread_text,
)

WIDTH = 100  # characters of the headline's lines
Line = tuple[str, ...]
HEADER: Line = ("Task", "Method", "Average", "Difference", "95 % interval")


def summary_text(inputs: Inputs, names: Names) -> str:
    """The headline and table 1 of a report, as lines of text that end with a line feed.

    The table has a row for each task, metric and method, at the prompt length chosen for it. The difference is from the
    baseline, for the task's main metric.
    """
    rows = list(_rows(inputs, names))
    lines = [
        *(line for sentence in headline(inputs.differences, names) for line in textwrap.wrap(sentence, WIDTH)),
        "",
        "Average score over the test languages in percent: mean ± standard deviation over the seeds.",
        "",
        *_aligned([HEADER, *rows]),
        "",
        "Difference: percentage points above (+) or below (−) fine-tuning.",
        "*: chance alone would rarely produce such a difference (significant at the 5 % level).",
    ]
    if not inputs.provenance["benchmark"]["comparable_with_the_paper"]:
        lines.append(f"{inputs.provenance['benchmark']['name']}: not comparable with published numbers.")
    return "".join(f"{visible(line)}\n" for line in lines).replace("\u00a0", " ")


def _rows(inputs: Inputs, names: Names) -> Iterator[Line]:
    table = headline_averages(inputs.scores, inputs.runs)
    table = table[table["headline"]]
    averages = inputs.differences[inputs.differences["scope"] == AVERAGE]
    tested = {(row["encoder"], row["task"], row["metric"], row["method"]): row for row in averages.to_dict("records")}
    for task in tasks_of(table):
        for metric in TASKS[task].metrics:
            here = table[(table["task"] == task) & (table["metric"] == metric)]
            title = f"{TASKS[task].title}, {metric_title(metric)}"
            for row in here.to_dict("records"):
                difference = tested.get((row["encoder"], task, metric, row["method"]))
                yield (title, *_row(row, difference, names))
                title = ""


def _row(row: dict, difference: dict | None, names: Names) -> Line:
    average = f"{score_text(row['mean'])} {spread_text(row['std'])}".rstrip()
    if not row["complete"]:
        average += f" (only {plural(row['languages'], 'language')})"
    arm = names.arm(row["method"], row["prompt_length"], row["encoder"])
    if difference is None:
        return (arm, average, "", "")
    known = pd.notna(difference["low"]) and pd.notna(difference["high"])
    star = "" if direction(difference) == "open" else " *"
    interval = interval_text(difference["low"], difference["high"]) if known else "not known"
    return (arm, average, signed_text(difference["difference"]) + star, interval)


def _aligned(rows: list[Line]) -> Iterator[str]:
    """The rows with every column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

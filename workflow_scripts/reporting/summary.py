"""The report's answer as plain text, for a terminal: the headline, and table 1 with the differences."""

import textwrap
from collections.abc import Iterator

import pandas as pd

from workflow_scripts.core.names import OUTSIDE
from workflow_scripts.core.visible import visible
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.verdicts import headline
from workflow_scripts.reporting.views.differences import AVERAGE, direction
from workflow_scripts.reporting.wording import (
    interval_text,
    listed,
    method_words,
    plural,
    score_text,
    signed_text,
    spread_text,
)

WIDTH = 100  # characters of the headline's lines
Line = tuple[str, ...]
HEADER: Line = ("Task", "Method", "Average", "Difference", "95 % interval")


def summary_text(report: Report) -> str:
    """The headline and table 1 of a report, as lines of text that end with a line feed.

    The table has a row for each task, metric and method, at the prompt length chosen for it. The difference is from the
    baseline, for the task's main metric. Without any difference, its columns are left out.
    """
    rows = [HEADER, *_rows(report)]
    tested = any(row[3] for row in rows[1:])
    lines = [
        *(line for sentence in headline(report) for line in textwrap.wrap(sentence, WIDTH)),
        "",
        "Average score over the test languages in percent: mean ± standard deviation over the seeds.",
        "",
        *_aligned(rows if tested else [row[:3] for row in rows]),
        "",
    ]
    if tested:
        lines += [
            f"Difference: percentage points above (+) or below (−) {_baselines(report)}.",
            "*: chance alone would rarely produce such a difference (significant at the 5 % level).",
        ]
    if not report.benchmark["comparable_with_the_paper"]:
        lines.append(f"{report.benchmark['name']}: not comparable with published numbers.")
    return "".join(f"{visible(line)}\n" for line in lines).replace("\u00a0", " ")


def _baselines(report: Report) -> str:
    """The baselines in words, with their encoders if these have different ones."""
    found = report.differences[["baseline", "encoder"]].drop_duplicates()
    of_method = found.groupby("baseline", sort=False)["encoder"].agg(list).to_dict()
    if len(of_method) == 1:
        return method_words(next(iter(of_method)))
    return listed([f"{method_words(method)} ({', '.join(encoders)})" for method, encoders in of_method.items()])


def _rows(report: Report) -> Iterator[Line]:
    table = report.averages[report.averages["headline"]]
    differences = report.differences[report.differences["scope"] == AVERAGE]
    keys = ("encoder", "task", "source", "metric", "method")
    tested = {tuple(row[key] for key in keys): row for row in differences.to_dict("records")}
    for task, metric in report.tasks.columns(table):
        title = f"{report.tasks.title(task)}, {report.tasks.metric_title(task, metric)}"
        for row in table[(table["task"] == task) & (table["metric"] == metric)].to_dict("records"):
            yield (title, *_row(report, row, tested.get(tuple(row[key] for key in keys)) or _only(tested, row)))
            title = ""


def _only(tested: dict[tuple, dict], row: dict) -> dict | None:
    """The difference of predictions made elsewhere, which have no encoder, if they were compared with one baseline."""
    wanted = row["task"], row["metric"], row["method"]
    of_arm = [found for (_, task, _, *rest), found in tested.items() if (task, *rest) == wanted]
    return of_arm[0] if row["encoder"] == OUTSIDE and len(of_arm) == 1 else None


def _row(report: Report, row: dict, difference: dict | None) -> Line:
    average = f"{score_text(row['mean'])} {spread_text(row['std'])}".rstrip()
    if not row["complete"]:
        average += f" (only {plural(row['languages'], 'language')})"
    arm = report.names.arm(row["method"], row["prompt_length"], row["encoder"], row["source"])
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

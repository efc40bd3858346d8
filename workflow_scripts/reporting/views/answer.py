"""The answer: the headline, the differences by task, and where, at what cost and why."""

from dataclasses import dataclass
from typing import ClassVar

from workflow_scripts.reporting.parts import Part, Section, Text
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.verdicts import Answer, answers, borrowed_strength, headline
from workflow_scripts.reporting.views.differences import overview
from workflow_scripts.reporting.views.problems import concerns


@dataclass(frozen=True)
class Alert:
    """A note that problems affect the answer, with a link to them."""

    template: ClassVar[str] = "alert"
    count: int


@dataclass(frozen=True)
class Answers:
    """Questions with their answers."""

    template: ClassVar[str] = "answers"
    answers: tuple[Answer, ...]


def section(report: Report) -> Section:
    """The first section of the page."""
    charts = overview(report)
    parts: list[Part] = [Text(tuple(headline(report)), "headline")]
    troubled = len(concerns(report))
    if troubled:
        parts.append(Alert(troubled))
    if charts.charts:
        reading = (
            f"“Better” is a higher average over all test languages, {report.names.reference} included, as in table 1. A"
            " point is the difference in percentage points. The line is its 95 % interval: another test set and other"
            " seeds would give another difference, and the interval shows how far away it could plausibly be (rows that"
            " share a text count as one unit). A filled point with * is significant at the 5 % level by the interval"
            " and by a paired permutation test: chance alone would rarely produce such a difference."
        )
        strength = borrowed_strength(report.differences)
        parts += [charts, Text((reading, *([strength] if strength else [])), "small")]
    parts.append(Answers(tuple(answers(report))))
    return Section("answer", "The answer", tuple(parts))

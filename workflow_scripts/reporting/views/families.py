"""Scores and transfer gaps by family, by script and by whether the encoder was pretrained on a language."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from workflow_scripts.core.names import OUTSIDE, source_languages
from workflow_scripts.reporting.charts import Tick, linear_axis
from workflow_scripts.reporting.families import Grouping, by_family, by_script
from workflow_scripts.reporting.parts import Heading, Section, lead
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import method_class
from workflow_scripts.reporting.views.findings import Mark
from workflow_scripts.reporting.wording import method_title, plural, score_text


@dataclass(frozen=True)
class DotRow:
    """One group of languages, with a point for each method."""

    label: str
    small: str
    title: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Dots:
    """A chart of points on one axis, a row for each group."""

    title: str
    small: str
    rows: tuple[DotRow, ...]
    ticks: tuple[Tick, ...]
    description: str


@dataclass(frozen=True)
class DotCharts:
    """Such charts side by side, with the colours of the methods."""

    template: ClassVar[str] = "dots"
    charts: tuple[Dots, ...]
    key: tuple[tuple[str, str], ...]


def section(report: Report) -> Section | None:
    """The charts of every grouping that has at least two groups; None without one."""
    made = [(title, charts) for title, group in _groupings(report) if (charts := list(_charts(report, group)))]
    if not made:
        return None
    methods = {method for _, _, _, method in report.arms}
    key = tuple((method_class(method), method_title(method)) for method in report.methods if method in methods)
    parts = [part for title, charts in made for part in (Heading(title), DotCharts(tuple(charts), key))]
    reading = (
        "Each point is the mean of a group’s test languages by the task’s main metric, averaged over the seeds. The"
        f" transfer gap is the score in {report.names.reference} minus that mean. Training languages are left out of"
        " their group. Groups differ in size: the mean of one language says little about a family."
    )
    return Section("families", "Families and scripts", (lead(reading), *parts))


GroupOf = Callable[[str, list[str]], Grouping]  # from an encoder and languages to groups


def _groupings(report: Report) -> Iterator[tuple[str, GroupOf]]:
    yield "By family", lambda _, languages: by_family(report.names, languages)
    yield "By script", lambda _, languages: by_script(report.names, languages)
    if any(pretrained_on(report, encoder) for encoder in report.encoders):
        yield "By pretraining", lambda encoder, languages: _by_pretraining(report, encoder, languages)


def pretrained_on(report: Report, encoder: str) -> list[str]:
    """The languages that the configuration says an encoder was pretrained on; empty if it does not say."""
    encoders = (report.inputs.provenance.get("configuration") or {}).get("encoders") or {}
    section = encoders.get(encoder)
    return list(section.get("pretrained_on") or []) if isinstance(section, Mapping) else []


def _by_pretraining(report: Report, encoder: str, languages: list[str]) -> Grouping:
    known = {report.names.language(code) for code in pretrained_on(report, encoder)}
    inside = [code for code in languages if report.names.language(code) in known]
    groups = {"in the pretraining": inside, "not in it": [code for code in languages if code not in inside]}
    return {title: codes for title, codes in groups.items() if codes} if inside else {}


def _charts(report: Report, group: GroupOf) -> Iterator[Dots]:
    for task in report.by_language:
        scores = report.main_scores(task)
        if scores is None:
            continue
        headline = {(encoder, source): [] for encoder, source, *_ in scores.means.index}  # type: ignore[var-annotated]
        for encoder, source, method, length in scores.means.index:
            if report.arms.get((encoder, task, source, method)) == length:
                headline[encoder, source].append((method, scores.means.loc[(encoder, source, method, length)]))
        elsewhere = [arm for (encoder, _), arms in headline.items() if encoder == OUTSIDE for arm in arms]
        for (encoder, source), arms in headline.items():
            if encoder == OUTSIDE:
                continue
            reference = source_languages(source)
            groups = group(encoder, [code for code in scores.languages if code not in reference])
            if len(groups) < 2 or not arms:
                continue
            title = f"{report.tasks.title(task)}{report.names.where(encoder, source)}"
            metric = report.tasks[task].main.title
            yield _chart(title, f"{metric} in percent", groups, [*arms, *elsewhere])
            known = [code for code in reference if code in scores.languages]
            if known:
                gaps = [(method, values[known].mean() - values) for method, values in arms]
                yield _chart(title, "transfer gap in points, smaller is better", groups, gaps)


def _chart(title: str, small: str, groups: Grouping, arms: list[tuple[str, pd.Series]]) -> Dots:
    """A chart of the mean of each group; arms: methods with their numbers by language."""
    found = {
        name: [(method, number) for method, values in arms if pd.notna(number := values[list(codes)].mean())]
        for name, codes in groups.items()
    }
    axis, ticks = linear_axis(number for values in found.values() for _, number in values)
    rows = tuple(
        DotRow(
            label=name,
            small=str(len(groups[name])),
            title=f"{name}, {plural(len(groups[name]), 'language')}",
            marks=tuple(
                Mark(axis.place(number), f"{name}: {method_title(method)} {score_text(number)}", method_class(method))
                for method, number in values
            ),
        )
        for name, values in found.items()
    )
    return Dots(
        title=title,
        small=small,
        rows=rows,
        ticks=tuple(Tick(axis.place(tick), f"{tick:g}".replace("-", "−")) for tick in ticks),
        description=f"{title}, {small}. " + "; ".join(mark.title for row in rows for mark in row.marks),
    )

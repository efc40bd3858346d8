"""The finding of each task: its sentence, both arms on one axis, and its caveats."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pandas as pd

from workflow_scripts.core.names import OUTSIDE, source_languages
from workflow_scripts.evaluation.aggregate import Comparison, Side
from workflow_scripts.reporting.parts import Section, Text, lead
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import method_class
from workflow_scripts.reporting.verdicts import Verdict, verdicts
from workflow_scripts.reporting.wording import listed, method_title, method_words, plural, score_text, signed_text

ENOUGH_SEEDS = 5  # as many as the paper runs (tables 5 to 8)


@dataclass(frozen=True)
class Mark:
    """A point of a strip chart; `place` is its distance from the left end in percent."""

    place: float
    title: str
    kind: str


@dataclass(frozen=True)
class Lane:
    """One arm's line of a strip chart."""

    method: str
    label: str
    marks: tuple[Mark, ...]
    start: float
    end: float


@dataclass(frozen=True)
class Finding:
    """The headline of one task, with its chart and its caveats."""

    title: str
    metric: str
    sentence: str
    cautions: tuple[str, ...]
    verdicts: tuple[Verdict, ...] = ()
    lanes: tuple[Lane, ...] = ()
    ticks: tuple[tuple[float, str], ...] = ()
    description: str = ""


@dataclass(frozen=True)
class Findings:
    """The findings of all tasks."""

    template: ClassVar[str] = "findings"
    findings: tuple[Finding, ...]


def section(report: Report) -> Section:
    """The findings with how to read their charts."""
    reference = report.names.reference
    return Section(
        "findings",
        "Findings by task",
        (
            lead(
                f"Each point is a test language, averaged over the seeds. The ring is {reference}, the bar the average"
                " over all languages. The farther the ring is from the points, the more is lost in the transfer from"
                f" {reference}."
            ),
            Findings(tuple(findings(report))),
            Text(("Differences and gaps are computed from unrounded scores.",), "small"),
        ),
    )


def findings(report: Report) -> list[Finding]:
    """The finding of every encoder, source and task, in the order of tasks, also for tasks without a comparison."""
    present = dict.fromkeys(zip(*(report.scores[key] for key in ("encoder", "source", "task")), strict=True))
    return [
        replace(
            _finding(report, task, source, report.comparisons[encoder, task, source], bool(tested))
            if (encoder, task, source) in report.comparisons
            else _no_comparison(report, encoder, task, source, bool(tested)),
            verdicts=tested,
        )
        for encoder in sorted({encoder for encoder, _, _ in present} - {OUTSIDE})
        for task in report.tasks.of(report.scores)
        for source in report.names.sources
        if (encoder, source, task) in present
        for tested in [tuple(verdicts(report, encoder, task, source))]
    ]


def _no_comparison(report: Report, encoder: str, task: str, source: str, tested: bool) -> Finding:
    """The finding of a task without prompt tuning beside fine-tuning: what each method averages."""
    title, main = report.tasks.title(task), report.tasks[task].main
    table = report.averages
    here = (table["encoder"] == encoder) & (table["task"] == task) & (table["source"] == source)
    arms = table[here & (table["metric"] == main.name) & table["headline"]].to_dict("records")
    methods = {arm["method"] for arm in arms}
    if methods >= {"fine_tuning", "prompt_tuning"}:
        sentence = (
            f"On {title} there is nothing to compare: fine-tuning and prompt tuning share no language in all of their"
            " seeds, or there is no validation score to choose the prompt length by."
        )
    elif len(arms) > 1:
        sentence = f"On {title}, {listed([_average(arm) for arm in arms])}."
        sentence += "" if tested else " No difference was tested: they share no language in all of their seeds."
    else:
        averages = "".join(f", which {_average(arm).removeprefix(method_words(arm['method'])).strip()}" for arm in arms)
        only = listed([method_words(arm["method"]) for arm in arms]) or "nothing"
        sentence = f"On {title} there is nothing to compare: only {only} was run{averages}."
    return Finding(
        title=f"{title}{report.names.where(encoder, source)}", metric=main.title, sentence=sentence, cautions=()
    )


def _average(arm: Mapping[str, Any]) -> str:
    length = f" (length {arm['prompt_length']})" if arm["prompt_length"] else ""
    languages = plural(arm["languages"], "language")
    return f"{method_words(arm['method'])}{length} averages {score_text(arm['mean'])} over {languages}"


def scores_sentence(report: Report, comparison: Comparison, source: str) -> str:
    """The scores of one task in one sentence."""
    prompt, fine = comparison.prompt_tuning, comparison.fine_tuning
    gap = (
        f"; transfer gap {score_text(prompt.gap)} against {score_text(fine.gap)}"
        if prompt.gap is not None and fine.gap is not None
        else f"; no transfer gap, which needs {report.names.source(source)} and another language"
    )
    return (
        f"On {report.tasks.title(comparison.task)}, prompt tuning (length {prompt.prompt_length}) averages"
        f" {score_text(prompt.average)} over {plural(len(comparison.languages), 'language')}, fine-tuning"
        f" {score_text(fine.average)}: {signed_text(comparison.difference)}{gap}."
    )


def certainty(comparison: Comparison, tested: bool) -> str:
    """The standard deviation of the averages over seeds; without a test, how little so few seeds can show."""
    prompt, fine = comparison.prompt_tuning, comparison.fine_tuning
    fewest = min(prompt.seeds, fine.seeds)
    seeds = (
        plural(fewest, "seed")
        if prompt.seeds == fine.seeds
        else f"{plural(prompt.seeds, 'seed')} of prompt tuning and {fine.seeds} of fine-tuning"
    )
    if fewest == 1:
        return f"{seeds} cannot distinguish a difference between methods from the effect of the seed."
    widest = max(prompt.std, fine.std)
    spread = f"the averages vary by ± {prompt.std:.1f} (prompt tuning) and ± {fine.std:.1f} (fine-tuning) between seeds"
    if abs(comparison.difference) < widest:
        spread += ", more than the difference"
    if fewest < ENOUGH_SEEDS and not tested:
        return f"{seeds} give little certainty: {spread}."
    return f"Over {seeds}, {spread}."


def _finding(report: Report, task: str, source: str, comparison: Comparison, tested: bool) -> Finding:
    cautions = [certainty(comparison, tested)]
    if comparison.left_out:
        missing = report.names.languages(comparison.left_out)
        cautions.append(f"Compared without {missing}: not every seed of both methods has a score there.")
    cautions += _trouble(report, source, comparison)
    lanes, ticks = strip_chart(report, source, comparison)
    return Finding(
        title=f"{report.tasks.title(task)}{report.names.where(comparison.encoder, source)}",
        metric=report.tasks.metric_title(task, comparison.metric),
        sentence=scores_sentence(report, comparison, source),
        cautions=tuple(cautions),
        lanes=lanes,
        ticks=ticks,
        description=f"{report.tasks.title(task)} by language: "
        + "; ".join(f"{lane.label}: " + ", ".join(mark.title for mark in lane.marks) for lane in lanes),
    )


def _trouble(report: Report, source: str, comparison: Comparison) -> Iterator[str]:
    troubled = report.problems[report.problems["final"]]
    for side in (comparison.prompt_tuning, comparison.fine_tuning):
        of_side = troubled[
            (troubled["encoder"] == comparison.encoder)
            & (troubled["task"] == comparison.task)
            & (troubled["source"] == source)
            & (troubled["method"] == side.method)
            & (troubled["prompt_length"] == side.prompt_length)
        ]
        if not of_side.empty:
            runs = f"{len(of_side)} of its {plural(max(side.seeds, len(of_side)), 'run')}"
            yield f"{method_title(side.method)} has a problem in {runs} (see Problems): the comparison may be invalid."


def strip_chart(
    report: Report, source: str, comparison: Comparison
) -> tuple[tuple[Lane, ...], tuple[tuple[float, str], ...]]:
    """Both arms of a comparison on one axis: a point for each language, a ring for the source, a bar for the average.

    The distance from the ring to the other points shows the transfer gap.
    """
    scores = report.main_scores(comparison.task)
    assert scores is not None  # there is a comparison, so there are scores
    sides = (comparison.prompt_tuning, comparison.fine_tuning)
    means = [_language_means(scores.means, comparison.encoder, source, side, comparison.languages) for side in sides]
    low = 10 * int(min(mean.min() for mean in means) // 10)
    high = min(100, 10 * int(max(mean.max() for mean in means) // 10 + 1))
    low = min(low, high - 10)

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    lanes = tuple(
        Lane(
            method=method_class(side.method),
            label=report.names.arm(side.method, side.prompt_length),
            start=place(mean.min()),
            end=place(mean.max()),
            marks=tuple(_marks(report, source, mean, side.average, place)),
        )
        for side, mean in zip(sides, means, strict=True)
    )
    step = 10 if high - low <= 50 else 20
    return lanes, tuple((place(value), str(value)) for value in range(low, high + 1, step))


def _marks(
    report: Report, source: str, means: pd.Series, average: float, place: Callable[[float], float]
) -> Iterator[Mark]:
    reference = [code for code in source_languages(source) if code in means.index]
    # The reference is drawn last, on top of the other marks.
    for code in means.index.drop(reference):
        yield Mark(place(means[code]), f"{report.names.language(code)} {score_text(means[code])}", "language")
    yield Mark(place(average), f"average {score_text(average)}", "average")
    for code in reference:
        yield Mark(place(means[code]), f"{report.names.language(code)} {score_text(means[code])}", "reference")


def _language_means(means: pd.DataFrame, encoder: str, source: str, side: Side, languages: Sequence[str]) -> pd.Series:
    return means.loc[(encoder, source, side.method, side.prompt_length), list(languages)]

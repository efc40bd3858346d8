"""The finding of each task with its chart and caveats, and the problems of the whole experiment."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from workflow_scripts.evaluation.aggregate import (
    SOURCE_LANGUAGE,
    Comparison,
    Side,
    comparisons,
    main_table,
    missing_cells,
    tasks_of,
)
from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.reporting.tables import problems
from workflow_scripts.reporting.verdicts import Verdict, verdicts
from workflow_scripts.reporting.wording import (
    Names,
    listed,
    method_title,
    method_words,
    metric_title,
    plural,
    rate_text,
    score_text,
    signed_text,
)

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
class Concern:
    """A problem, by the run, arm or task that has it."""

    where: str
    what: str


def findings(scores: pd.DataFrame, runs: pd.DataFrame, differences: pd.DataFrame, names: Names) -> list[Finding]:
    """The finding of every encoder and task, in the catalogue's order, also for tasks without a comparison."""
    troubled = problems(runs)
    troubled = troubled[troubled["final"]]
    compared = {(one.encoder, one.task): one for one in comparisons(scores, runs)}
    every = [(encoder, task) for encoder in sorted(set(scores["encoder"])) for task in tasks_of(scores)]
    present = set(zip(scores["encoder"], scores["task"], strict=True))
    return [
        replace(
            _finding(compared[key], scores, troubled, bool(tested), names)
            if key in compared
            else _no_comparison(*key, scores, bool(tested), names),
            verdicts=tested,
        )
        for key in every
        if key in present
        for tested in [tuple(verdicts(differences, *key, names))]
    ]


def _task_title(task: str, encoder: str, names: Names) -> str:
    return f"{TASKS[task].title}, {encoder}" if names.several_encoders else TASKS[task].title


def _no_comparison(encoder: str, task: str, scores: pd.DataFrame, tested: bool, names: Names) -> Finding:
    methods = set(scores[(scores["encoder"] == encoder) & (scores["task"] == task)]["method"])
    both = methods >= {"fine_tuning", "prompt_tuning"}
    reason = (
        "fine-tuning and prompt tuning share no language in all of their seeds, or there is no validation score to"
        " choose the prompt length by"
        if both
        else f"only {listed(sorted(map(method_words, methods), key=str.casefold))}"
        f" {'was' if len(methods) == 1 else 'were'} run"
    )
    what = "prompt tuning cannot be compared with fine-tuning" if tested else "there is nothing to compare"
    return Finding(
        title=_task_title(task, encoder, names),
        metric=metric_title(TASKS[task].metrics[0]),
        sentence=f"On {TASKS[task].title} {what}: {reason}.",
        cautions=(),
    )


def scores_sentence(comparison: Comparison) -> str:
    """The scores of one task in one sentence."""
    prompt, fine = comparison.prompt_tuning, comparison.fine_tuning
    gap = (
        f"; transfer gap {score_text(prompt.gap)} against {score_text(fine.gap)}"
        if prompt.gap is not None and fine.gap is not None
        else "; no transfer gap, which needs English and another language"
    )
    return (
        f"On {TASKS[comparison.task].title}, prompt tuning (length {prompt.prompt_length}) averages"
        f" {score_text(prompt.average)} over {plural(len(comparison.languages), 'language')}, fine-tuning"
        f" {score_text(fine.average)}: {signed_text(comparison.difference)}{gap}."
    )


def certainty(comparison: Comparison, tested: bool) -> str:
    """The standard deviation of the averages over seeds; without a test, how much so few seeds can show."""
    prompt, fine = comparison.prompt_tuning, comparison.fine_tuning
    fewest = min(prompt.seeds, fine.seeds)
    seeds = (
        plural(fewest, "seed")
        if prompt.seeds == fine.seeds
        else f"{plural(prompt.seeds, 'seed')} of prompt tuning and {fine.seeds} of fine-tuning"
    )
    if fewest == 1:
        return f"{seeds} cannot tell a difference between methods from the effect of the seed."
    widest = max(prompt.std, fine.std)
    spread = f"the averages vary by ± {prompt.std:.1f} (prompt tuning) and ± {fine.std:.1f} (fine-tuning) between seeds"
    if abs(comparison.difference) < widest:
        spread += ", more than the difference"
    if fewest < ENOUGH_SEEDS and not tested:
        return f"{seeds} give little certainty: {spread}."
    return f"Over {seeds}, {spread}."


def _finding(
    comparison: Comparison, scores: pd.DataFrame, troubled: pd.DataFrame, tested: bool, names: Names
) -> Finding:
    cautions = [certainty(comparison, tested)]
    if comparison.left_out:
        missing = listed([names.language(code) for code in comparison.left_out])
        cautions.append(f"Compared without {missing}: not every seed of both methods has a score there.")
    cautions += _trouble(comparison, troubled)
    lanes, ticks = strip_chart(comparison, scores, names)
    return Finding(
        title=_task_title(comparison.task, comparison.encoder, names),
        metric=metric_title(comparison.metric),
        sentence=scores_sentence(comparison),
        cautions=tuple(cautions),
        lanes=lanes,
        ticks=ticks,
        description=f"{TASKS[comparison.task].title} by language: "
        + "; ".join(f"{lane.label}: " + ", ".join(mark.title for mark in lane.marks) for lane in lanes),
    )


def _trouble(comparison: Comparison, troubled: pd.DataFrame) -> Iterator[str]:
    for side in (comparison.prompt_tuning, comparison.fine_tuning):
        of_side = troubled[
            (troubled["encoder"] == comparison.encoder)
            & (troubled["task"] == comparison.task)
            & (troubled["method"] == side.method)
            & (troubled["prompt_length"] == side.prompt_length)
        ]
        if not of_side.empty:
            runs = f"{len(of_side)} of its {plural(max(side.seeds, len(of_side)), 'run')}"
            yield f"{method_title(side.method)} has a problem in {runs} (see Problems): the comparison may be invalid."


def strip_chart(
    comparison: Comparison, scores: pd.DataFrame, names: Names
) -> tuple[tuple[Lane, ...], tuple[tuple[float, str], ...]]:
    """Both arms of a comparison on one axis: a point for each language, a ring for English, a bar for the average.

    The distance from English to the others shows the transfer gap.
    """
    _, table = main_table(scores[scores["encoder"] == comparison.encoder], comparison.task)
    assert table is not None  # there is a comparison, so there is a table
    sides = (comparison.prompt_tuning, comparison.fine_tuning)
    means = [_language_means(table, side, comparison.languages) for side in sides]
    low = 10 * int(min(mean.min() for mean in means) // 10)
    high = min(100, 10 * int(max(mean.max() for mean in means) // 10 + 1))
    low = min(low, high - 10)

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    lanes = tuple(
        Lane(
            method=side.method,
            label=names.arm(side.method, side.prompt_length),
            start=place(mean.min()),
            end=place(mean.max()),
            marks=tuple(_marks(mean, side.average, place, names)),
        )
        for side, mean in zip(sides, means, strict=True)
    )
    step = 10 if high - low <= 50 else 20
    return lanes, tuple((place(value), str(value)) for value in range(low, high + 1, step))


def _marks(means: pd.Series, average: float, place: Callable[[float], float], names: Names) -> Iterator[Mark]:
    # English is drawn last, on top of the other marks.
    for code in means.index.drop(SOURCE_LANGUAGE, errors="ignore"):
        yield Mark(place(means[code]), f"{names.language(code)} {score_text(means[code])}", "language")
    yield Mark(place(average), f"average {score_text(average)}", "average")
    if SOURCE_LANGUAGE in means.index:
        english = means[SOURCE_LANGUAGE]
        yield Mark(place(english), f"{names.language(SOURCE_LANGUAGE)} {score_text(english)}", "english")


def _language_means(table: pd.DataFrame, side: Side, languages: Sequence[str]) -> pd.Series:
    models = table[(table["method"] == side.method) & (table["prompt_length"] == side.prompt_length)]
    return models[list(languages)].mean()


def concerns(runs: pd.DataFrame, names: Names) -> tuple[list[Concern], list[Concern]]:
    """The runs with problems: first those that the scores come from, then the losing candidates of the search."""
    troubled = problems(runs)
    both: tuple[list[Concern], list[Concern]] = ([], [])
    for run in troubled.to_dict("records"):
        where = (
            f"{TASKS[run['task']].title} · {names.arm(run['method'], run['prompt_length'], run['encoder'])}"
            f" · seed {run['seed']} · learning rate {rate_text(run['learning_rate'])}"
        )
        both[0 if run["final"] else 1].append(Concern(where, run["problem"]))
    return both


def choices_on_test(configuration: dict[str, Any]) -> list[Concern]:
    """The tasks whose models were chosen on the English test set (`validation: test`)."""
    what = "models were chosen on the reported English test set, so its score and the transfer gap are too high"
    return [
        Concern(TASKS[task].title, what)
        for task, section in configuration.get("tasks", {}).items()
        if section.get("validation") == "test"
    ]


def choices_by_earlier_metrics(count: int) -> list[Concern]:
    """The models whose epoch or learning rate was chosen before an edit of the metrics."""
    if not count:
        return []
    what = (
        "chosen on English validation by an earlier version of the metrics; `snakemake --forcerun search train`"
        " trains and chooses again"
    )
    return [Concern(plural(count, "model"), what)]


def made_by_earlier_code(count: int) -> list[Concern]:
    """The outputs that Snakemake kept, by its options, although the code of their step has changed since."""
    if not count:
        return []
    what = "made by an earlier version of the code; Snakemake was started with --rerun-triggers and kept them"
    return [Concern(plural(count, "output"), what)]


def gaps_in_the_grid(scores: pd.DataFrame, runs: pd.DataFrame, names: Names) -> list[Concern]:
    """The scores that an arm lacks and other arms of its task have: averages over different languages mislead."""
    missing = missing_cells(scores, runs)
    found = []
    for (encoder, task, method, length, languages), cells in missing.groupby(
        ["encoder", "task", "method", "prompt_length", "languages"], sort=False
    ):
        seeds = listed([str(seed) for seed in cells["seed"]])
        numbered = f"{'seed' if len(cells) == 1 else 'seeds'} {seeds}"
        where = f"{TASKS[task].title} · {names.arm(method, length, encoder)} · {numbered}"
        what = f"no score for {listed([names.language(code) for code in languages])}" if languages else "no scores"
        found.append(Concern(where, what))
    return found

"""The answers in words: which method transfers better, by how much, how certain that is, where, at what cost and why.

Each sentence is derived from a table, and says so where the table gives no answer.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from workflow_scripts.core.names import OUTSIDE
from workflow_scripts.evaluation.aggregate import baseline_of, methods_of
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import method_class
from workflow_scripts.reporting.views.differences import AVERAGE, GAP, by_language, direction
from workflow_scripts.reporting.wording import (
    Names,
    bytes_text,
    interval_text,
    method_title,
    method_words,
    p_text,
    plural,
    score_text,
    signed_text,
)


@dataclass(frozen=True)
class Verdict:
    """The test results for one method on one task: its average, and its transfer gap if there is one."""

    method: str
    direction: str
    sentence: str
    gap: str
    basis: str


@dataclass(frozen=True)
class Answer:
    """One question at the top of the page with its answers, one for each method."""

    question: str
    sentences: tuple[str, ...]


def verdicts(report: Report, encoder: str, task: str, source: str) -> list[Verdict]:
    """A verdict for each method that was compared with a baseline on the task, both tuned on the source."""
    rows = report.differences
    rows = rows[(rows["encoder"] == encoder) & (rows["task"] == task) & (rows["source"] == source)]
    found = []
    for (method, baseline), of_method in rows.groupby(["method", "baseline"], sort=False):
        average = of_method[of_method["scope"] == AVERAGE].to_dict("records")
        gap = of_method[of_method["scope"] == GAP].to_dict("records")
        if average:
            found.append(
                Verdict(
                    method=method_class(method),
                    direction=direction(average[0]),
                    sentence=average_sentence(average[0]),
                    gap=gap_sentence(gap[0]) if gap else "There are no transfer gaps to compare.",
                    basis=_basis(average[0], report.names, baseline),
                )
            )
    return found


def average_sentence(row: dict) -> str:
    """`Prompt tuning transfers better by 3.1 points (95 % interval 1.0 to 5.2, p 0.004).`"""
    title = method_title(row["method"])
    if direction(row) == "open":
        return f"The difference between {_pair(row)} is not statistically significant: {_open(row)}"
    more = direction(row) == "better"
    return f"{title} transfers {'better' if more else 'worse'} by {_size(row)}."


def gap_sentence(row: dict) -> str:
    """`Its transfer gap is smaller by 2.0 points (95 % interval 0.4 to 3.6, p 0.01).` A smaller gap is better."""
    if direction(row) == "open":
        return f"The difference in transfer gap is not statistically significant: {_open(row)}"
    return f"Its transfer gap is {'larger' if row['difference'] > 0 else 'smaller'} by {_size(row)}."


def _pair(row: dict) -> str:
    return f"{method_words(row['method'])} and {method_words(row['baseline'])}"


def _size(row: dict) -> str:
    """A significant difference without its sign, which the words around it give."""
    sign = 1 if row["difference"] > 0 else -1
    ends = sorted((sign * row["low"], sign * row["high"]))
    size = score_text(abs(row["difference"]))
    return f"{size} points (95\u00a0% interval {interval_text(*ends)}, {p_text(row['p_holm'])})"


def _open(row: dict) -> str:
    if pd.isna(row["low"]) or pd.isna(row["high"]):
        return f"{signed_text(row['difference'])} points; no interval can be estimated."
    size = f"{signed_text(row['difference'])} points"
    interval = f"95\u00a0% interval {interval_text(row['low'], row['high'])}"
    if row["low"] <= 0 <= row["high"]:
        return f"{size} ({interval}, {p_text(row['p_holm'])})."
    return f"{size} ({interval}); the permutation test does not exclude chance ({p_text(row['p_holm'])})."


def _basis(row: dict, names: Names, baseline: str) -> str:
    arm = names.arm(row["method"], row["prompt_length"])
    counted = f"{arm} against {method_words(baseline)}, {plural(int(row['seeds']), 'seed')}"
    if pd.notna(row["units"]):
        counted += f", {row['units']:,.0f} test units"
    if row["seeds"] == 1:
        counted += ". With one seed the interval accounts for the test examples only, not for other seeds"
    elif row["prior_freedom"] > 0:
        counted += (
            f". From seed to seed the difference varies by ± {row['seed_std']:.1f} points on this task and typically by"
            f" ± {row['prior_std']:.1f} in this grid; the interval combines both. From this task’s own seeds alone it"
            f" would be {interval_text(row['low_plain'], row['high_plain'])}"
        )
    return f"{counted}."


def borrowed_strength(differences: pd.DataFrame) -> str:
    """How much the intervals of the averages rely on other comparisons, for readers who are no statisticians.

    Empty where nothing was compared, or only models of one seed.
    """
    averages = differences[(differences["scope"] == AVERAGE) & (differences["seeds"] > 1) & differences["low"].notna()]
    if averages.empty:
        return ""
    borrowing = averages[averages["prior_freedom"] > 0]
    if borrowing.empty:
        return (
            "Each interval is estimated from the seeds of its own comparison. With three comparisons or more, it would"
            " also use what the comparisons have in common."
        )
    first, few = borrowing.iloc[0], sorted({int(seeds) for seeds in borrowing["seeds"]})
    seeds = plural(few[0], "seed") if len(few) == 1 else f"{few[0]} to {few[-1]} seeds"
    return (
        f"How sure the intervals are: {seeds} alone say little about how much a difference varies from seed to seed."
        f" The intervals therefore borrow strength: they also use what the {len(borrowing)} comparisons of this grid"
        f" have in common. There, a difference typically varies by ± {first['prior_std']:.1f} points from seed to seed"
        f" (prior standard deviation). This counts as much as {first['prior_freedom']:.1f} more seeds would (prior"
        " degrees of freedom). The table of all differences also has each interval from a comparison’s own seeds only."
    )


PLACE = ["encoder", "task", "source"]
NOTHING_BESIDE = "of two methods on one task"


def headline(report: Report) -> list[str]:
    """The headline of the whole grid: a sentence for each method, over all tasks, encoders and sources.

    With several encoders also one for each pair of them, by the best method of each.
    """
    averages = report.differences[report.differences["scope"] == AVERAGE]
    names = report.names
    many = "comparisons" if names.several_encoders or names.several_sources else "tasks"
    sentences = [
        _headline(method_title(method), method_words(baseline), rows.to_dict("records"), many)
        for (method, baseline), rows in averages.groupby(["method", "baseline"], sort=False)
    ]
    between = report.inputs.encoder_differences
    between = between[(between["scope"] == AVERAGE) & between["chosen"].astype(bool)]
    many = "comparisons" if names.several_sources else "tasks"
    sentences += [
        _headline(f"{encoder} with its best method", f"{other} with its best", rows.to_dict("records"), many)
        for (encoder, other), rows in between.groupby(["encoder", "other_encoder"], sort=False)
    ]
    return sentences or ["There is no answer: no two methods were compared by a test."]


def _headline(title: str, other: str, rows: list[dict], many: str) -> str:
    counts, total = Counter(direction(row) for row in rows), len(rows)
    if counts["open"] == total:
        where = f"the one {many[:-1]}" if total == 1 else f"any of {total} {many}"
        return f"{title} and {other}: the difference is not statistically significant on {where}{_possible(rows)}."
    parts = []
    if counts["better"]:
        parts.append(f"better than {other} on {_of(counts['better'], total, many)}{_range(rows, 'better')}")
    if counts["worse"] and parts:
        parts.append(f"worse on {counts['worse']}{_range(rows, 'worse')}")
    elif counts["worse"]:
        parts.append(f"worse than {other} on {_of(counts['worse'], total, many)}{_range(rows, 'worse')}")
    rest = (
        f" On the other {counts['open'] if counts['open'] > 1 else 'one'}, the difference is not statistically"
        " significant."
        if counts["open"]
        else ""
    )
    return f"{title} transfers {' and '.join(parts)}.{rest}"


def _possible(rows: list[dict]) -> str:
    """How large the differences may still be that no test has shown."""
    ends = [abs(row[end]) for row in rows for end in ("low", "high") if pd.notna(row[end])]
    return f"; differences of up to {score_text(max(ends))} points remain possible" if ends else ""


def _of(count: int, total: int, many: str) -> str:
    if count == total:
        return f"the one {many[:-1]}" if total == 1 else f"both {many}" if total == 2 else f"all {total} {many}"
    return f"{count} of {total} {many}"


def _range(rows: list[dict], wanted: str) -> str:
    sizes = sorted(abs(row["difference"]) for row in rows if direction(row) == wanted)
    low, high = score_text(sizes[0]), score_text(sizes[-1])
    return f" (by {low} points)" if low == high else f" (by {low} to {high} points)"


def answers(report: Report) -> list[Answer]:
    """The answers at the top of the page below the headline: where, at what cost, why."""
    return [
        Answer("Where?", tuple(_where(report)) or ("Unknown: no difference by language was tested.",)),
        Answer("At what cost?", tuple(_costs(report)) or (f"Unknown: there are no runs {NOTHING_BESIDE}.",)),
        Answer("Why?", tuple(_why(report)) or (f"Unknown: no representations were analysed {NOTHING_BESIDE}.",)),
    ]


def _where(report: Report) -> Iterator[str]:
    names = report.names
    further = [
        what for what, holds in (("encoder", names.several_encoders), ("source", names.several_sources)) if holds
    ]
    pairs = f"comparisons by {', '.join([*further, 'task'])} and language" if further else "pairs of task and language"
    for (method, baseline), group in by_language(report.differences).groupby(["method", "baseline"], sort=False):
        rows = group.to_dict("records")
        counts = Counter(direction(row) for row in rows)
        title, other = method_title(method), method_words(baseline)
        if counts["open"] == len(rows):
            yield f"{title} and {other}: the difference is not statistically significant in any of {len(rows)} {pairs}."
            continue
        sentence = (
            f"{title} is significantly better than {other} in {counts['better']} of {len(rows)} {pairs}, worse in"
            f" {counts['worse']}"
        )
        tested = [row for row in rows if row["significant"]]
        if tested:
            most = max(tested, key=lambda row: abs(row["difference"]))
            sentence += (
                f"; the largest difference is {signed_text(most['difference'])} points in"
                f" {names.language(most['scope'])} on {report.tasks.title(most['task'])}"
                f"{names.where(most['encoder'], most['source'])}"
            )
        yield sentence + "."


def _pairs(report: Report, table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame, pd.DataFrame]]:
    """A method, its baseline, and the rows of each where both have some: those of the arms that show the methods."""
    shown = table[report.is_headline(table) & (table["encoder"] != OUTSIDE)]
    groups = [(rows, baseline_of(methods_of(rows))) for _, rows in shown.groupby(PLACE, sort=False)]
    for method, baseline in dict.fromkeys((method, first) for rows, first in groups for method in rows["method"]):
        places = [rows for rows, first in groups if first == baseline and method in set(rows["method"])]
        if method != baseline:
            both = pd.concat(places)
            yield method, baseline, both[both["method"] == method], both[both["method"] == baseline]


def _costs(report: Report) -> Iterator[str]:
    for method, baseline, ours, theirs in _pairs(report, report.costs):
        both = ours.merge(theirs, on=PLACE, suffixes=("", "_baseline"))
        ratio = {
            name: float((both[name] / both[f"{name}_baseline"]).median())
            for name in ("tuned_parameters", "seconds", "peak_memory_mb")
        }
        if ratio["tuned_parameters"] == 0:
            yield f"{method_title(method)} trains nothing and stores nothing."
            continue
        if (both["tuned_parameters_baseline"] == 0).any():
            continue
        stored, baseline_stored = (both[name].median() for name in ("stored_bytes", "stored_bytes_baseline"))
        yield (
            f"{method_title(method)} tunes {_percent(100 * ratio['tuned_parameters'])} of the parameters that"
            f" {method_words(baseline)} tunes, stores {bytes_text(stored)} instead of {bytes_text(baseline_stored)},"
            f" takes {_times(ratio['seconds'])} the time to train and {_times(ratio['peak_memory_mb'])} the memory"
            " (medians over tasks)."
        )


def _percent(value: float) -> str:
    return "an unknown share" if pd.isna(value) else f"{value:.2g}\u00a0%" if value < 10 else f"{value:.0f}\u00a0%"


def _times(value: float) -> str:
    return (
        "an unknown multiple of" if pd.isna(value) else f"{value:.1f} times" if value >= 0.95 else f"{value:.2g} times"
    )


WHY = (  # measure, its sentence, the words for more, less and as much, unit
    (
        "before_after",
        "the representations stay {word} those of the untuned encoder: cosine similarity",
        ("closer to", "less close to", "as close to"),
        "\u00a0%",
    ),
    (
        "relative_difference",
        "translations are distinguished {word} from other pairs of texts: by",
        ("more clearly", "less clearly", "as clearly"),
        "\u00a0%",
    ),
    (
        "boundary_angle",
        "the decision boundaries of the languages are rotated {word} from that of {reference}:",
        ("farther", "less far", "as far"),
        "°",
    ),
    (
        "linear_accuracy",
        "a linear classifier fitted on {reference} representations is {word} on the other languages:",
        ("better", "worse", "as good"),
        "\u00a0%",
    ),
)


def _word(words: tuple[str, str, str], value: float, other: float) -> str:
    """The word for more, less or as much, by the values as printed."""
    return words[2] if f"{value:.0f}" == f"{other:.0f}" else words[0] if value > other else words[1]


def _why(report: Report) -> Iterator[str]:
    """What tuning does to representations: each method against the baseline on the same tasks, without the reference.

    The analyses compare each language with the one that comes first among the analysed texts.
    """
    alignment = report.inputs.alignment
    reference = report.analysis_reference
    tuned = alignment[~alignment["method"].isin(["untuned"]) & (alignment["language"] != reference)]
    for method, baseline, of_method, of_baseline in _pairs(report, tuned):
        ours, theirs = (rows.groupby("measure")["value"].mean() for rows in (of_method, of_baseline))
        parts = [
            phrase.format(word=_word(words, ours[measure], theirs[measure]), reference=report.names.language(reference))
            + f" {ours[measure]:.0f}{unit} against {theirs[measure]:.0f}{unit}"
            for measure, phrase, words, unit in WHY
            if measure in ours and measure in theirs
        ]
        if parts:
            yield (
                f"{method_title(method)} compared with {method_words(baseline)}, on average over the other languages:"
                f" {'; '.join(parts)}. This accompanies the scores; it does not prove a cause."
            )

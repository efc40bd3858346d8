"""Predictions of single rows, where the methods disagree, beside the gold labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from workflow_scripts.experiment.grid import parse_arm
from workflow_scripts.reporting.parts import Section, lead, paragraph
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import method_class
from workflow_scripts.reporting.wording import Names, listed, method_words, plural

# For each language, and for each task and encoder, to keep the page small; results/examples.json has all of them.
MOST_OF_LANGUAGE, MOST_OF_TASK = 5, 200
SEPARATOR = ", "  # between the words of a tagged sentence on which the methods disagree


@dataclass(frozen=True)
class Word:
    """A part of an answer; `wrong`: it differs from the gold answer; `after`: the text up to the next part."""

    text: str
    wrong: bool = False
    after: str = ""


@dataclass(frozen=True)
class Prediction:
    """The answer of one arm."""

    method: str
    arm: str
    words: tuple[Word, ...]
    right: bool


@dataclass(frozen=True)
class Example:
    """A row with its gold answers and the answer of each arm. `answer_language` is empty if answers are labels."""

    identifier: str
    seed: str
    inputs: tuple[tuple[str, str], ...]
    gold: str
    predictions: tuple[Prediction, ...]
    language: str
    direction: str
    answer_language: str


@dataclass(frozen=True)
class LanguageExamples:
    """The examples of one language."""

    code: str
    title: str
    native: str
    direction: str
    examples: tuple[Example, ...]
    left_out: int
    counts: str


@dataclass(frozen=True)
class TaskExamples:
    """The examples of one task."""

    template: ClassVar[str] = "examples"
    title: str
    small: str
    languages: tuple[LanguageExamples, ...]


def section(report: Report) -> Section:
    """The examples by task."""
    identifier, title, short = "examples", "Examples of predictions", "Examples"
    found = examples_by_task(report)
    if not found:
        nothing = paragraph("There are none: no two methods were compared, or they agree on every row.")
        return Section(identifier, title, (nothing,), short)
    reading = (
        "Test rows on which the methods disagree, with the gold answer. They were selected for the disagreement: the"
        " tables show how often each method is right."
    )
    return Section(identifier, title, (lead(reading), *found), short)


def examples_by_task(report: Report) -> list[TaskExamples]:
    """The examples by task, encoder and source, with tasks and languages in the order of tables."""
    grouped: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for example in report.inputs.examples:
        grouped.setdefault((example["task"], example["encoder"], example["source"]), []).append(example)
    return [
        TaskExamples(
            f"{report.tasks.title(task)}{report.names.where(encoder, source)}",
            plural(len(rows), "example"),
            tuple(_languages(report, task, rows)),
        )
        for task in report.tasks.in_order(task for task, _, _ in grouped)
        for (of_task, encoder, source), rows in sorted(grouped.items())
        if of_task == task
    ]


def _languages(report: Report, task: str, rows: list[dict[str, Any]]) -> Iterator[LanguageExamples]:
    by_language: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_language.setdefault(row["language"], []).append(row)
    shown = max(1, min(MOST_OF_LANGUAGE, MOST_OF_TASK // len(by_language)))
    for code in report.tasks[task].in_order(by_language):
        facts, of_language = report.names.facts(code), by_language[code]
        yield LanguageExamples(
            code=code,
            title=report.names.language(code),
            native=facts.native,
            direction=facts.direction,
            examples=tuple(_example(row, facts.direction, report.names) for row in of_language[:shown]),
            left_out=max(0, len(of_language) - shown),
            counts=_counts(of_language),
        )


def _example(row: dict[str, Any], direction: str, names: Names) -> Example:
    gold = [str(answer) for answer in row["gold"]]
    return Example(
        identifier=str(row["id"]),
        seed=str(row["seed"]),
        inputs=tuple((str(name), str(text)) for name, text in row["inputs"].items()),
        gold=" / ".join(gold),
        predictions=tuple(
            _prediction(row, arm, gold, str(answer), names) for arm, answer in row["predictions"].items()
        ),
        language=row["language"],
        direction=direction,
        answer_language="" if row["answers"] == "labels" else row["language"],
    )


def _prediction(row: dict[str, Any], name: str, gold: list[str], answer: str, names: Names) -> Prediction:
    arm = parse_arm(row["encoder"], row["task"], row["source"], name)
    words = [Word(answer)]
    if row["answers"] == "words":
        given, wanted = answer.split(SEPARATOR), gold[0].split(SEPARATOR)
        if len(given) == len(wanted):
            commas = [SEPARATOR] * (len(given) - 1) + [""]
            pairs = zip(given, wanted, commas, strict=True)
            words = [Word(tagged, tagged != true, comma) for tagged, true, comma in pairs]
    return Prediction(
        method=method_class(arm.method),
        arm=names.arm(arm.method, arm.prompt_length),
        words=tuple(words),
        right=name in row["right"],
    )


def _counts(rows: list[dict[str, Any]]) -> str:
    """The number of rows of a language that the methods disagree on, and on how many each method alone is best."""
    counts = dict(rows[0].get("disagreements") or {})
    if not counts:
        return ""
    total = counts.pop("rows")
    best = []
    for name, count in counts.items():
        arm = parse_arm("", "", "", name)
        length = f" (length {arm.prompt_length})" if arm.prompt_length else ""
        best.append(f"{method_words(arm.method)}{length} on {count:,}")
    return f"The methods disagree on {plural(total, 'test row')}. The single best is {listed(best)}."

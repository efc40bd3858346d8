"""Predictions of single rows, where the methods disagree, beside the gold labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.experiment.grid import parse_arm
from workflow_scripts.reporting.views.table import method_class
from workflow_scripts.reporting.wording import Names, listed, method_words, plural

SHOWN = 5  # for each language, to keep the page small; results/examples.json has all of them
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

    title: str
    small: str
    languages: tuple[LanguageExamples, ...]


def examples_by_task(examples: list[dict[str, Any]], names: Names) -> list[TaskExamples]:
    """The examples by task and encoder, as the catalogue orders tasks and languages."""
    made = []
    for task in [task for task in TASKS if any(example["task"] == task for example in examples)]:
        of_task = [example for example in examples if example["task"] == task]
        for encoder in sorted({example["encoder"] for example in of_task}):
            rows = [example for example in of_task if example["encoder"] == encoder]
            where = f", {encoder}" if names.several_encoders else ""
            made.append(
                TaskExamples(
                    f"{TASKS[task].title}{where}", plural(len(rows), "example"), tuple(_languages(task, rows, names))
                )
            )
    return made


def _languages(task: str, rows: list[dict[str, Any]], names: Names) -> Iterator[LanguageExamples]:
    order = TASKS[task].languages
    found = {row["language"] for row in rows}
    for code in [code for code in order if code in found] + sorted(found - set(order)):
        known = names.languages.get(code, names.fallback)
        of_language = [row for row in rows if row["language"] == code]
        yield LanguageExamples(
            code=code,
            title=names.language(code),
            native=known["native"],
            direction=known["direction"],
            examples=tuple(_example(task, row, known["direction"], names) for row in of_language[:SHOWN]),
            left_out=max(0, len(of_language) - SHOWN),
            counts=_counts(of_language),
        )


def _example(task: str, row: dict[str, Any], direction: str, names: Names) -> Example:
    kind = TASKS[task].kind
    gold = [str(answer) for answer in row["gold"]]
    return Example(
        identifier=str(row["id"]),
        seed=str(row["seed"]),
        inputs=tuple((str(name), str(text)) for name, text in row["inputs"].items()),
        gold=" / ".join(gold),
        predictions=tuple(
            _prediction(kind, row, arm, gold, str(answer), names) for arm, answer in row["predictions"].items()
        ),
        language=row["language"],
        direction=direction,
        answer_language="" if kind == "classification" else row["language"],
    )


def _prediction(kind: str, row: dict[str, Any], name: str, gold: list[str], answer: str, names: Names) -> Prediction:
    arm = parse_arm(row["encoder"], row["task"], name)
    words = [Word(answer)]
    if kind == "tagging":
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
        arm = parse_arm("", "", name)
        length = f" (length {arm.prompt_length})" if arm.prompt_length else ""
        best.append(f"{method_words(arm.method)}{length} on {count:,}")
    return f"The methods disagree on {plural(total, 'test row')}. The single best is {listed(best)}."

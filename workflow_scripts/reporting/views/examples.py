"""Predictions of single rows, where the methods disagree, beside the gold labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from workflow_scripts.evaluation.metrics import exact_match
from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.experiment.grid import parse_arm
from workflow_scripts.reporting.views.table import method_class
from workflow_scripts.reporting.wording import Names, plural

SHOWN = 5  # of a language: the page stays light, and results/examples.json has them all


@dataclass(frozen=True)
class Word:
    """A part of an answer; `wrong` where it is not as in the gold one."""

    text: str
    wrong: bool = False


@dataclass(frozen=True)
class Prediction:
    """What one arm answered; `verdict` is `right`, `wrong`, or how many tags are right."""

    method: str
    arm: str
    words: tuple[Word, ...]
    right: bool
    verdict: str


@dataclass(frozen=True)
class Example:
    """A row with its gold answers and each arm's. `answer_language` is empty where answers are labels."""

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
        )


def _example(task: str, row: dict[str, Any], direction: str, names: Names) -> Example:
    kind = TASKS[task].kind
    gold = [str(answer) for answer in row["gold"]]
    return Example(
        identifier=str(row["id"]),
        seed=str(row["seed"]),
        inputs=tuple((str(name), str(text)) for name, text in row["inputs"].items()),
        gold=" ".join(gold) if kind == "tagging" else " / ".join(dict.fromkeys(gold)),
        predictions=tuple(
            _prediction(kind, row["encoder"], arm, gold, str(answer), names)
            for arm, answer in row["predictions"].items()
        ),
        language=row["language"],
        direction=direction,
        answer_language=row["language"] if kind == "question_answering" else "",
    )


def _prediction(kind: str, encoder: str, name: str, gold: list[str], answer: str, names: Names) -> Prediction:
    arm = parse_arm(encoder, "", name)
    words = (Word(answer),)
    if kind == "tagging":
        wanted, given = " ".join(gold).split(), answer.split()
        words = tuple(Word(tag or "–", tag != true) for tag, true in zip_longest(given, wanted))
        count = sum(not word.wrong for word in words)
        right, verdict = count == len(words), f"{count} of {plural(len(words), 'tag')} right"
    else:
        # Answers are compared as the scores compare them: SQuAD's way, which ignores case and punctuation.
        right = bool(exact_match(gold, answer)) if kind == "question_answering" else answer in gold
        verdict = "right" if right else "wrong"
    return Prediction(method_class(arm.method), names.arm(arm.method, arm.prompt_length), words, right, verdict)

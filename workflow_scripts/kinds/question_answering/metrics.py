"""Scores of extractive question answering: F1 of words and exact match, as in SQuAD 1.1's official script.

Answers are compared after a normalisation, SQuAD's or MLQA's: the task's key `normalisation`.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.kinds.protocol import Row, Sums
from workflow_scripts.kinds.question_answering import mlqa
from workflow_scripts.kinds.settings import ScoringSettings

ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
REMOVABLE = frozenset(string.punctuation + "anthe")
SQUAD, MLQA = "squad", "mlqa"  # values of `normalisation`


def score(rows: Sequence[Row], predictions: Sequence[Any], scoring: ScoringSettings) -> dict[str, float]:
    """The means of `f1` and `exact_match` over all questions."""
    return answer_scores([row["answers"]["text"] for row in rows], predictions, _of_rows(rows, scoring))


def correct(rows: Sequence[Row], predictions: Sequence[Any], scoring: ScoringSettings) -> list[list[bool]]:
    """Whether each answer is an exact match."""
    questions = zip(rows, predictions, _of_rows(rows, scoring), strict=True)
    return [[exact_match(row["answers"]["text"], answer, normalise) == 100] for row, answer, normalise in questions]


def baseline(rows: Sequence[Row], scoring: ScoringSettings) -> float:
    """0: the questions share no answer."""
    return 0.0


def contributions(rows: Sequence[Row], predictions: Sequence[Any], scoring: ScoringSettings) -> dict[str, Sums]:
    """The scores of each question, and one for each question."""
    gold = [row["answers"]["text"] for row in rows]
    normalisations = _of_rows(rows, scoring)
    return {
        name: [(metric(*each) / 100, 1.0) for each in zip(gold, predictions, normalisations, strict=True)]
        for name, metric in (("f1", f1), ("exact_match", exact_match))
    }


def normalise_answer(text: str) -> str:
    """The answer as SQuAD 1.1's official script compares it: lower case, without ASCII punctuation and a, an, the.

    XTREME applies these English rules to every language. Full-width punctuation is kept, a text without spaces is one
    word, and every separate `a`, `an` or `the` is removed even if it is not an article, such as Spanish `a`, German
    `an`, or an `a` followed by a combining accent.
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(WITHOUT_PUNCTUATION)).split())


@dataclass(frozen=True)
class Normalisation:
    """How answers are normalised before they are compared.

    Attributes:
        language: the language of MLQA's rules; None for SQuAD 1.1's rules, which are the same in all languages.
    """

    language: str | None = None

    def __call__(self, text: str) -> str:
        """The normalised answer, its words separated by single spaces."""
        return normalise_answer(text) if self.language is None else mlqa.normalise_answer(text, self.language)

    def may_remove(self, character: str) -> bool:
        """Whether normalisation removes this character from some lower-case texts; it removes no others."""
        if self.language is None:
            return character.isspace() or character in REMOVABLE
        return mlqa.may_remove(character, self.language)


SQUADS = Normalisation()


def _of_rows(rows: Sequence[Row], scoring: ScoringSettings) -> list[Normalisation]:
    """That of each row. The rows of a union of training languages name their own language."""
    return [normalisation(scoring, row.get("language")) for row in rows]


def normalisation(scoring: ScoringSettings, language: str | None = None) -> Normalisation:
    """The normalisation of a task's answers, by default squad.

    language: that of the answers, if it is another one.

    Raises UserError for another normalisation, or a language that MLQA does not have.
    """
    name = scoring.normalisation or SQUAD
    if name not in (SQUAD, MLQA):
        raise UserError(f"normalisation: {name!r} is not one of {SQUAD}, {MLQA}")
    return Normalisation(mlqa.code_of(language or scoring.language) if name == MLQA else None)


def exact_match(gold: Sequence[str], predicted: str, normalise: Normalisation = SQUADS) -> float:
    """100 if the prediction equals one of the gold answers after normalisation, else 0 (SQuAD 1.1)."""
    return 100.0 * (normalise(predicted) in map(normalise, gold))


def f1(gold: Sequence[str], predicted: str, normalise: Normalisation = SQUADS) -> float:
    """F1 of the words that the prediction shares with its best gold answer, in percent (SQuAD 1.1)."""
    words = normalise(predicted).split()
    return max(_word_f1(normalise(answer).split(), words) for answer in gold)


def answer_scores(
    gold: Sequence[Sequence[str]], predicted: Sequence[str], normalise: Sequence[Normalisation] | None = None
) -> dict[str, float]:
    """Mean `f1` and `exact_match` over all questions.

    Args:
        gold: the gold answers of each question.
        predicted: the answer to each question.
        normalise: of each question; SQuAD's by default.
    """
    questions = list(zip(gold, predicted, normalise or [SQUADS] * len(gold), strict=True))
    return {
        name: sum(metric(*question) for question in questions) / len(questions)
        for name, metric in (("f1", f1), ("exact_match", exact_match))
    }


def _word_f1(gold: Sequence[str], predicted: Sequence[str]) -> float:
    shared = (Counter(gold) & Counter(predicted)).total()
    if shared == 0:
        # Also if both are empty (the answer "The"): the official script gives F1 0 and exact match 100 then.
        return 0.0
    precision, recall = shared / len(predicted), shared / len(gold)
    return 100.0 * 2 * precision * recall / (precision + recall)

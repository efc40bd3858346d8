"""Scores of extractive question answering: F1 of words and exact match, as in SQuAD 1.1's official script."""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workflow_scripts.kinds.protocol import Row, Sums

ARTICLES = re.compile(r"\b(a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def score(rows: Sequence[Row], predictions: Sequence[Any], options: Mapping[str, Any]) -> dict[str, float]:
    """The means of `f1` and `exact_match` over all questions."""
    return answer_scores([row["answers"]["text"] for row in rows], predictions)


def baseline(rows: Sequence[Row], options: Mapping[str, Any]) -> float:
    """0: the questions share no answer."""
    return 0.0


def contributions(rows: Sequence[Row], predictions: Sequence[Any], options: Mapping[str, Any]) -> dict[str, Sums]:
    """The scores of each question, and one for each question."""
    gold = [row["answers"]["text"] for row in rows]
    return {
        name: [(metric(answers, guess) / 100, 1.0) for answers, guess in zip(gold, predictions, strict=True)]
        for name, metric in (("f1", f1), ("exact_match", exact_match))
    }


def normalise_answer(text: str) -> str:
    """The answer as SQuAD 1.1's official script compares it: lower case, without ASCII punctuation and a, an, the.

    XTREME applies these English rules to every language. Full-width punctuation is kept, a text without spaces is one
    word, and every separate `a`, `an` or `the` is removed even if it is not an article, such as Spanish `a`, German
    `an`, or an `a` followed by a combining accent.
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(WITHOUT_PUNCTUATION)).split())


def exact_match(gold: Sequence[str], predicted: str) -> float:
    """100 if the prediction equals one of the gold answers after normalisation, else 0 (SQuAD 1.1)."""
    return 100.0 * (normalise_answer(predicted) in map(normalise_answer, gold))


def f1(gold: Sequence[str], predicted: str) -> float:
    """F1 of the words that the prediction shares with its best gold answer, in percent (SQuAD 1.1)."""
    return max(_word_f1(answer, predicted) for answer in gold)


def answer_scores(gold: Sequence[Sequence[str]], predicted: Sequence[str]) -> dict[str, float]:
    """Mean `f1` and `exact_match` over all questions; `gold`: the gold answers of each question."""

    def mean(metric: Callable[[Sequence[str], str], float]) -> float:
        return sum(metric(answers, guess) for answers, guess in zip(gold, predicted, strict=True)) / len(gold)

    return {"f1": mean(f1), "exact_match": mean(exact_match)}


def _word_f1(gold: str, predicted: str) -> float:
    gold_words = normalise_answer(gold).split()
    predicted_words = normalise_answer(predicted).split()
    shared = (Counter(gold_words) & Counter(predicted_words)).total()
    if shared == 0:
        # Also if both are empty (the answer "The"): the official script gives F1 0 and exact match 100 then.
        return 0.0
    precision, recall = shared / len(predicted_words), shared / len(gold_words)
    return 100.0 * 2 * precision * recall / (precision + recall)

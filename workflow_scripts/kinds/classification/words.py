"""Classification by label words: each label is a word or a phrase after, or within, the template's text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from workflow_scripts.core.settings import given
from workflow_scripts.kinds.protocol import Columns, Counts, Row
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.kinds.tokens import Tokens
from workflow_scripts.kinds.words import (
    HEAD_DROPOUT,
    LEVEL,
    READ,
    TARGETS,
    TOGETHER,
    Question,
    answer_probabilities,
    best_answers,
    counted,
    loss,
    outputs,
    tokenise_questions,
)

__all__ = [
    "HEAD_DROPOUT",
    "LEVEL",
    "READ",
    "TARGETS",
    "TOGETHER",
    "counted",
    "decode",
    "loss",
    "outputs",
    "probabilities",
    "tokenise",
]


def tokenise(rows: Sequence[Row], tokenizer: Any, settings: TokeniseSettings) -> tuple[Columns, Counts]:
    """See `words.tokenise_questions`."""
    words = given(settings.words, "words").answers
    answers = [words.get(label, label) for label in settings.labels]
    questions = [
        Question(
            {name: row[name] for name in ("text", "text_pair") if row[name] is not None},
            answers,
            settings.labels.index(row["label"]),
        )
        for row in rows
    ]
    return tokenise_questions(rows, questions, tokenizer, settings)


def decode(logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str]) -> dict[str, str]:
    """The label of the best answer. logits: one array (scored tokens,) a feature."""
    return {rows[row]["id"]: labels[answer] for row, answer in best_answers(logits, tokens).items()}


def probabilities(
    logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str], temperature: float
) -> dict[str, dict[str, float]]:
    """The probability of each label among the labels. logits: one array (scored tokens,) a feature."""
    found = answer_probabilities(logits, tokens, temperature)
    return {rows[row]["id"]: dict(zip(labels, of_row, strict=True)) for row, of_row in found.items()}

"""Multiple choice by likelihood: each choice is the answer in the template's text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

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
    questions = [
        Question({"text": row["text"], "question": row["question"] or ""}, row["choices"], row["label"]) for row in rows
    ]
    return tokenise_questions(rows, questions, tokenizer, settings)


def decode(logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str]) -> dict[str, int]:
    """The place of the best choice, from 0. logits: one array (scored tokens,) a feature."""
    return {rows[row]["id"]: answer for row, answer in best_answers(logits, tokens).items()}


def probabilities(
    logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str], temperature: float
) -> dict[str, list[float]]:
    """The probability of each choice among the choices. logits: one array (scored tokens,) a feature."""
    return {rows[row]["id"]: of_row for row, of_row in answer_probabilities(logits, tokens, temperature).items()}

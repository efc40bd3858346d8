"""One number for each choice, predicted from one vector of the text with that choice (`sentence_vector`).

The numbers of a row's choices are compared, as in transformers' models for multiple choice. Adds the columns `choice`
(int32: the place of the choice, from 0) and `correct` (int32: 1 for the correct choice, else 0).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow_scripts.core.errors import UserError
from workflow_scripts.kinds.probability import softmax
from workflow_scripts.kinds.protocol import Columns, Counts, Row
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.kinds.tokens import Tokens

if TYPE_CHECKING:
    import torch

LEVEL = "sequence"
HEAD_DROPOUT = True
TARGETS: dict[str, int | None] = {"choice": None, "correct": None}
TOGETHER = True


def outputs(labels: Sequence[str]) -> int:
    """One number, regardless of the number of choices."""
    return 1


def tokenise(rows: Sequence[Row], tokenizer: Any, settings: TokeniseSettings) -> tuple[Columns, Counts]:
    """Each choice becomes one feature: the text, paired with the question and the choice.

    Beyond `max_length` tokens the text is cut at its end, and a choice only if with its question it fills the whole
    input. Counts `cut_choices` (such choices) and `empty_texts` (rows with a text, or a choice with its question, of
    which the tokenizer makes no token). Raises UserError if `max_length` leaves no room for a choice.
    """
    room = settings.max_length - tokenizer.num_special_tokens_to_add(pair=True)
    if room < 1:
        raise UserError(f"max_length {settings.max_length} leaves no room for a choice: raise it")
    places = [(number, place) for number, row in enumerate(rows) for place in range(len(row["choices"]))]
    texts = [rows[number]["text"] for number, _ in places]
    seconds = [_with_question(rows[number], place) for number, place in places]
    text_lengths = [len(ids) for ids in tokenizer([row["text"] for row in rows], add_special_tokens=False)["input_ids"]]
    lengths = [len(ids) for ids in tokenizer(seconds, add_special_tokens=False)["input_ids"]]
    # `only_first` refuses to cut a text down to nothing.
    fitting = [feature for feature, length in enumerate(lengths) if length < room]
    full = [feature for feature, length in enumerate(lengths) if length >= room]
    encoded: Columns = {}
    for chosen, truncation in ((fitting, "only_first"), (full, "only_second")):
        if not chosen:
            continue
        made = tokenizer(
            [texts[feature] if chosen is fitting else "" for feature in chosen],
            [seconds[feature] for feature in chosen],
            truncation=truncation,
            max_length=settings.max_length,
            return_attention_mask=False,
        )
        for name, values in made.items():
            column = encoded.setdefault(name, [[]] * len(places))
            for feature, value in zip(chosen, values, strict=True):
                column[feature] = value
    tokenless = {number for number, length in enumerate(text_lengths) if not length}
    tokenless |= {number for (number, _), length in zip(places, lengths, strict=True) if not length}
    columns = {
        "row": [number for number, _ in places],
        **encoded,
        "choice": [place for _, place in places],
        "correct": [int(place == rows[number]["label"]) for number, place in places],
    }
    return columns, {"cut_choices": sum(length > room for length in lengths), "empty_texts": len(tokenless)}


def _with_question(row: Row, place: int) -> str:
    """The second text of a feature."""
    choice: str = row["choices"][place]
    return choice if row["question"] is None else f"{row['question']} {choice}"


def loss(logits: "torch.Tensor", batch: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """Cross-entropy over the choices of each row. logits: (batch, 1), the choices of a row next to each other.

    Rows may have different numbers of choices. No tensor's shape depends on a value, so that a GPU can record the step.
    """
    import torch

    values = logits.float().squeeze(-1)
    rows = (batch["choice"] == 0).cumsum(0)
    of_one_row = rows[:, None] == rows[None, :]
    log_sums = values.expand_as(of_one_row).masked_fill(~of_one_row, -torch.inf).logsumexp(1)
    correct = batch["correct"]
    return ((log_sums - values) * correct).sum() / correct.sum()


def counted(batch: dict[str, "torch.Tensor"]) -> int:
    """How many targets the mean loss of a batch is over: its rows."""
    return int(batch["correct"].sum())


def decode(logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str]) -> dict[str, int]:
    """The place of the choice with the highest number, the first of equals. logits: one array (1,) a feature."""
    values = _by_row(logits, tokens, rows)
    return {row["id"]: int(of_row.argmax()) for row, of_row in zip(rows, values, strict=True)}


def probabilities(
    logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row], labels: Sequence[str], temperature: float
) -> dict[str, list[float]]:
    """The probability of each choice. logits: one array (1,) a feature."""
    values = _by_row(logits, tokens, rows)
    return {row["id"]: softmax(of_row, temperature).tolist() for row, of_row in zip(rows, values, strict=True)}


def _by_row(logits: Sequence[np.ndarray], tokens: Tokens, rows: Sequence[Row]) -> list[np.ndarray]:
    """The numbers of the choices of each row, (choices,)."""
    values = [np.full(len(row["choices"]), -np.inf) for row in rows]
    for row, place, (value,) in zip(tokens.plain("row"), tokens.plain("choice"), logits, strict=True):
        values[row][place] = value
    return values

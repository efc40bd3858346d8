"""A finished run as a function from rows to answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.core.errors import UserError
from workflow_scripts.encoders.record import read_encoder
from workflow_scripts.kinds import model_part, part
from workflow_scripts.kinds.probability import confidence
from workflow_scripts.kinds.protocol import Columns, Row
from workflow_scripts.kinds.reader import for_reader
from workflow_scripts.kinds.tokenizer import load_tokenizer
from workflow_scripts.kinds.tokens import Tokens, in_memory
from workflow_scripts.serving.rows import RowReader
from workflow_scripts.tuning.finished import open_run
from workflow_scripts.tuning.model import load_run
from workflow_scripts.tuning.predict import generated_texts, logits

DIGITS = 6  # of a probability


@dataclass(frozen=True)
class Answer:
    """A model's answer for a row.

    Attributes:
        prediction: a label, the place of a choice (from 0), a list of tags, a score, or the text of an answer.
        probability: of the prediction; None for a score, a generated text, and a list of tags.
        probabilities: by label, of each choice, or of each word's tag; else None.
        place: the position of the answer in the row's texts: (column, first character, the one after the last); else
            None.
    """

    prediction: Any
    probability: float | None = None
    probabilities: dict[str, float] | list[float] | None = None
    place: tuple[str, int, int] | None = None


class Predictor:
    """A run's model, which answers rows.

    Args:
        folder: the run's.
        resources: the grid's folder of encoders and corpora.
        device: where the model computes.
        precision: "bfloat16" or "float32"; None is the run's, for which `auto` is measured.

    Attributes:
        run: the finished run.
        settings: of the training, with the precision in use.
        reader: makes rows of records.
        temperature: what logits are divided by for probabilities.

    Raises UserError if a file of the run is missing, damaged or does not belong to it.
    """

    def __init__(self, folder: Path, resources: Path, device: torch.device, precision: str | None = None) -> None:
        self.run = open_run(folder, resources)
        encoder = read_encoder(self.run.encoder / "encoder.json")
        self._tokenising = for_reader(self.run.tokenising.changed(split="test"), encoder)
        self._tokenizer = load_tokenizer(self.run.encoder)
        self.reader = RowReader(self.run)
        changes = {} if precision is None else {"precision": precision}
        self._model, self.settings = load_run(self.run.encoder, folder, device, None, **changes)
        self._kind = part(self.settings.kind, model_part(self.settings.answers))
        self._device = device
        self.temperature = float(self.run.record.get("temperature") or 1.0)

    def answers(self, rows: Sequence[Row]) -> list[Answer | UserError]:
        """The answer of each row, or why there is none. Rows come from `reader`, each with a unique `id`."""
        found: dict[str, Answer | UserError] = {}
        columns = self._columns(list(rows), found)
        if columns:
            found |= self._of_tokens(in_memory(columns), [row for row in rows if row["id"] not in found])
        return [found[row["id"]] for row in rows]

    def _columns(self, rows: list[Row], refused: dict[str, Answer | UserError]) -> Columns:
        """The model inputs of the rows. Rows for which the tokenizer makes no token are left out, as `refused`."""
        kept = [row for row in rows if row["id"] not in refused]
        if not kept:
            return {}
        try:
            columns: Columns = self._kind.tokenise(kept, self._tokenizer, self._tokenising)[0]
        except UserError as error:
            if len(kept) == 1:
                refused[kept[0]["id"]] = error
                return {}
            for row in kept:
                self._columns([row], refused)
            if not any(row["id"] in refused for row in kept):
                raise
            return self._columns(rows, refused)
        blank = {
            kept[number]["id"] for number, ids in zip(columns["row"], columns["input_ids"], strict=True) if not ids
        }
        if blank:
            refused |= dict.fromkeys(blank, UserError("the tokenizer makes no token of the row"))
            return self._columns(rows, refused)
        return columns

    def _of_tokens(self, tokens: Tokens, rows: list[Row]) -> dict[str, Answer | UserError]:
        labels = self.settings.labels
        if self._model.writer:
            texts = generated_texts(self._model, tokens, self.settings, self._device)
            return {name: Answer(text) for name, text in self._kind.decode(texts, tokens, rows, labels).items()}
        values = logits(self._model, tokens, self.settings.precision, self._device)
        predictions = self._kind.decode(values, tokens, rows, labels)
        of_row = places = {}
        if hasattr(self._kind, "probabilities"):
            of_row = self._kind.probabilities(values, tokens, rows, labels, self.temperature)
        if hasattr(self._kind, "places"):
            places = self._kind.places(values, tokens, rows)
        return {
            name: _answer(prediction, of_row.get(name), places.get(name)) for name, prediction in predictions.items()
        }


def _answer(prediction: Any, found: Any, place: tuple[str, int, int] | None) -> Answer:
    """An answer from what the functions of its kind return."""
    if found is None:
        return Answer(prediction, place=place)
    sure = confidence(found, prediction)
    if isinstance(found, dict):
        found = {name: round(value, DIGITS) for name, value in found.items()}
    elif isinstance(found, list):
        found = [round(value, DIGITS) for value in found]
    else:
        found = None
    return Answer(prediction, None if isinstance(sure, list) else round(sure, DIGITS), found, place)

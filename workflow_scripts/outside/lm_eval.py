"""Sample logs of lm-evaluation-harness: `samples_TASK_DATE.jsonl`, which `--log_samples` writes.

A line is an object of one document and filter. The fields that are read:

    doc             the document, which has the id of the row under a key of its own
    doc_id          the place of the document in its dataset, counted from 0
    target          the correct answer, for multiple choice its place or its text
    arguments       of multiple choice, `gen_args_0` and so on: the text of each answer is their `arg_1`
    filter          the name of the filter
    filtered_resps  of multiple choice a pair [log-likelihood, whether it is greedy] for each answer, else the generated
                    text; the harness writes numbers as text

The chosen answer is the one with the highest log-likelihood, as in the harness's metric `acc`. Where the harness scores
its choices against a target, that target must be the gold answer of our row: so other rows, or another order of the
answers, are noticed.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.formats import FormatOptions, Record, column, records
from workflow_scripts.kinds import part
from workflow_scripts.kinds.predictions import place_of
from workflow_scripts.kinds.protocol import Row
from workflow_scripts.outside.answers import Answer, identity
from workflow_scripts.outside.settings import ImportSettings


def answers(file: Path, settings: ImportSettings) -> Iterator[Answer]:
    """Each answer with the place of its record. Raises UserError for a file that is not such a log."""
    filters: dict[str, None] = {}
    for record, where in records(file, FormatOptions("json_lines")):
        if not isinstance(record.get("filtered_resps"), list) or not record["filtered_resps"]:
            raise UserError(f"{where}: no list `filtered_resps`; is this a sample log of lm-evaluation-harness?")
        filters.setdefault(str(record.get("filter")))
        if settings.filter is not None and str(record.get("filter")) != settings.filter:
            continue
        if settings.filter is None and len(filters) > 1:
            raise UserError(f"{where}: the file has answers of several filters ({', '.join(filters)}): set `filter`")
        yield Answer(_identity(record, settings.id, where), where, _Reader(record, settings).prediction)
    if settings.filter is not None and settings.filter not in filters:
        raise UserError(f"{file} has no answers of the filter {settings.filter!r}, but of {', '.join(filters)}")


def _identity(record: Record, name: str, where: str) -> str:
    """The id: a key of the document, or of the record, such as `doc_id`."""
    document = record.get("doc")
    inside = isinstance(document, Mapping) and (name.partition(".")[0] in document or name not in record)
    return identity(column(document if inside and isinstance(document, Mapping) else record, name, where), where)


class _Reader:
    """Reads the answer of one record."""

    def __init__(self, record: Record, settings: ImportSettings) -> None:
        self.responses: list[Any] = record["filtered_resps"]
        self.target = str(record.get("target")).strip()
        self.arguments = record.get("arguments")
        self.settings = settings
        self.kind = part(settings.kind, "predictions")

    def prediction(self, row: Row) -> Any:
        """The prediction for the row. Raises UserError."""
        if all(isinstance(response, list) for response in self.responses):
            return self._chosen(row)
        if len(self.responses) > 1:
            raise UserError(f"{len(self.responses)} answers: use a filter of the harness that keeps one")
        text = str(self.responses[0]).strip()
        value = self.settings.values.get(text, text)
        read = getattr(self.kind, "prediction_of", None)
        return value if read is None else read(value, row, self.settings.labels)

    def _chosen(self, row: Row) -> Any:
        """The answer with the highest log-likelihood."""
        try:
            values = [float(response[0]) for response in self.responses]
        except (IndexError, TypeError, ValueError, OverflowError):
            values = [math.nan]
        if any(map(math.isnan, values)):
            raise UserError("`filtered_resps` holds no log-likelihoods")
        prediction = self._of_place(values.index(max(values)), row)
        target = self._target(len(values))
        if target is not None:
            gold = self._of_place(target, row)
            if part(self.settings.kind, "examples").goodness(row, gold) < 100:
                raise UserError(
                    f"the harness's target {target} is {gold!r}, which is not the gold answer of the row {row['id']!r}:"
                    " these are other rows, or the answers have another order (map each under `values`)"
                )
        return prediction

    def _target(self, choices: int) -> int | None:
        """The index of the correct answer; None if the log does not say."""
        place = place_of(self.target, choices)
        if place is not None or not isinstance(self.arguments, Mapping):
            return place
        arguments = [self.arguments.get(f"gen_args_{number}") for number in range(choices)]
        texts = [one.get("arg_1") if isinstance(one, Mapping) else None for one in arguments]
        places = [number for number, text in enumerate(texts) if isinstance(text, str) and text.strip() == self.target]
        return places[0] if len(places) == 1 else None

    def _of_place(self, place: int, row: Row) -> Any:
        """The prediction for an answer's place; `values` may name it."""
        if str(place) in self.settings.values:
            return self.kind.prediction_of(self.settings.values[str(place)], row, self.settings.labels)
        choice_of = getattr(self.kind, "choice_of", None)
        if choice_of is None:
            raise UserError(f"choices by log-likelihood cannot be used for the kind {self.settings.kind}")
        return choice_of(place, len(self.responses), row, self.settings.labels)

"""The JSON format of SQuAD 1.1, which XQuAD, MLQA and TyDiQA-GoldP also use: one record per question."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.formats import FormatOptions, Record
from workflow_scripts.corpora.formats.json_document import objects
from workflow_scripts.corpora.formats.text import with_whole_characters

TYPES: dict[type, str] = {list: "list", str: "text", int: "number"}

Value = TypeVar("Value")


def records(path: Path, options: FormatOptions, where: str) -> Iterator[tuple[Record, str]]:
    """Each question: `id`, `context`, `question`, `answers` (lists `text` and `answer_start`), and `title`.

    The columns are those of SQuAD's parquet files. `title` is the article's, or None. `answers` may be empty. The place
    is `dev.json, question 56be4db0acb8001400a502ec`.

    Raises UserError, naming file and article or question, where the file is not in this format.
    """
    return with_whole_characters(_questions(path, where), where)


def _questions(path: Path, where: str) -> Iterator[tuple[Record, str]]:
    for number, (article, _) in enumerate(objects(path, where), 1):
        place = f"{where}, article {number}"
        for paragraph in _field(article, "paragraphs", list, place):
            context = _field(paragraph, "context", str, place)
            for question in _field(paragraph, "qas", list, place):
                identity = str(_field(question, "id", object, place))
                here = f"{where}, question {identity}"
                answers = _field(question, "answers", list, here)
                record = {
                    "id": identity,
                    "title": article.get("title"),
                    "context": context,
                    "question": _field(question, "question", str, here),
                    "answers": {
                        "text": [_field(answer, "text", str, here) for answer in answers],
                        "answer_start": [_field(answer, "answer_start", int, here) for answer in answers],
                    },
                }
                yield record, here


def _field(record: Any, name: str, kind: type[Value], where: str) -> Value:
    if not isinstance(record, dict) or name not in record:
        raise UserError(f"{where}: not in the format of SQuAD 1.1, {name!r} is missing: set another `format`")
    value = record[name]
    if not isinstance(value, kind):
        raise UserError(f"{where}: not in the format of SQuAD 1.1, {name!r} is not a {TYPES[kind]}")
    return value

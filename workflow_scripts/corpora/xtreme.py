"""Corpora in a folder laid out as XTREME's download scripts lay it out (github.com/google-research/xtreme).

One folder a task, files as in `LAYOUT`. XTREME's scripts strip the labels and answers from the test sets, which this
workflow scores itself: put the labelled files of the original releases in their place, in the same format.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from workflow_scripts.corpora.schema import Row
from workflow_scripts.corpora.shared import (
    STRIPPED,
    checked,
    field_of,
    gold_answers,
    questions_of_split,
    with_whole_characters,
    without_halves,
    without_placeholders,
)
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.files import sha256

# By task and split. A name without {language} is English.
LAYOUT = {
    "xnli": {
        "train": "xnli/train-{language}.tsv",
        "validation": "xnli/dev-{language}.tsv",
        "test": "xnli/test-{language}.tsv",
    },
    "pawsx": {
        "train": "pawsx/train-{language}.tsv",
        "validation": "pawsx/dev-{language}.tsv",
        "test": "pawsx/test-{language}.tsv",
    },
    "udpos": {
        "train": "udpos/train-{language}.tsv",
        "validation": "udpos/dev-{language}.tsv",
        "test": "udpos/test-{language}.tsv",
    },
    "xquad": {
        "train": "squad/train-v1.1.json",
        "validation": "squad/dev-v1.1.json",
        "test": "xquad/xquad.{language}.json",
    },
    "tydiqa": {
        # There is no third file: training and validation share one, see `shared.is_held_out`.
        "train": "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.{language}.train.json",
        "validation": "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.{language}.train.json",
        "test": "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.{language}.dev.json",
    },
}

MULTINLI_SPELLING = {"contradictory": "contradiction"}  # In XNLI's machine-translated MultiNLI.


def rows(settings: Mapping[str, Any]) -> list[Row]:
    """Read one split of one task in one language.

    Settings:
        path: the folder, which XTREME's scripts call `download`.
        task: a key of `LAYOUT`.
        kind, labels: of the task, as `catalogue.TASKS` has them.
        language: an ISO 639-1 code, as in the file names.
        split: `train`, `validation` or `test`.
        limit: the most rows to return, or None. Of train a random sample in file order, always the same, and within
            that of any greater limit; of validation and test the first rows, so that parallel sets stay parallel.
        whole: True if train keeps the rows that are otherwise held out for validation; optional.

    Ids are the row's number (sentence pairs), the language and the sentence's number (tagging, whose texts are no
    translations) or the question's id, each from the whole file, so that they are the same in all languages of a
    parallel corpus, whatever is dropped or limited.

    Raises UserError, naming file and line or question, if the file is missing, empty or not in its format, or if the
    task cannot use a row of it.
    """
    task, kind, split = settings["task"], settings["kind"], settings["split"]
    path = _path(Path(settings["path"]), task, settings["language"], split)
    if kind == "classification":
        read = _classifications(path)
        if task == "pawsx" and split == "train":
            read = without_placeholders(read, str(path))
    elif kind == "tagging":
        read = _tagged_sentences(path, settings["language"])
    else:
        questions = with_whole_characters(_squad_questions(path), path.name)
        read = questions_of_split(questions, task, split, settings.get("whole", False))
    return checked(read, settings, str(path))


def origin(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Where the rows of `rows` come from: the file and its hash. What licence it has, the folder does not say."""
    path = _path(Path(settings["path"]), settings["task"], settings["language"], settings["split"])
    file = path.relative_to(settings["path"]).as_posix()
    return {
        "name": "XTREME folder",
        "files": [{"file": file, "revision": None, "sha256": sha256(path)}],
        "licences": {file: "as its own release states"},
    }


def languages(folder: Path, task: str) -> list[str]:
    """Codes of the languages that `folder` holds a test set of, sorted."""
    before, after = LAYOUT[task]["test"].split("{language}")
    name = re.compile(re.escape(before) + "([a-z]+)" + re.escape(after))
    files = (path.relative_to(folder).as_posix() for path in folder.glob(f"{before}*{after}"))
    return sorted(match[1] for file in files if (match := name.fullmatch(file)))


def _path(folder: Path, task: str, language: str, split: str) -> Path:
    pattern = LAYOUT[task][split]
    if "{language}" not in pattern and language != "en":
        raise UserError(f"{task} has no {split} split in {language!r}: {folder / pattern} is English")
    path = folder / pattern.format(language=language)
    if not path.is_file():
        there = ", ".join(languages(folder, task)) or "none"
        raise UserError(f"{path} is missing ({task}, {language}, {split}); languages with a {task} test set: {there}")
    return path


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # With or without a byte order mark.
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 at byte {error.start}: fetch it again") from error
    if not text.strip():
        raise UserError(f"{path} is empty: fetch it again")
    return text


def _lines(path: Path) -> Iterator[tuple[str, int]]:
    """Each line with its number.

    Split at line feeds alone, since `str.splitlines` would also split inside a text. So a carriage return before the
    line feed stays at the end of the last column: a label or tag, which is stripped.
    """
    for number, line in enumerate(_text(path).removesuffix("\n").split("\n"), 1):
        yield line, number


def _columns(line: str, names: tuple[str, ...], where: str) -> list[str]:
    columns = line.split("\t")
    if len(columns) == len(names) - 1:
        raise UserError(f"{where}: no {names[-1]} after {', '.join(names[:-1])} ({STRIPPED})")
    if len(columns) != len(names):
        raise UserError(f"{where}: {len(columns)} columns between tabs, expected {len(names)} ({', '.join(names)})")
    return columns


def _unquoted(field: str) -> str:
    """The text as it was before XTREME's scripts wrote it with Python's `csv.writer`.

    That puts quotes around a field which has quotes, and doubles those inside. A reader of csv would also take bare
    quotes for its own, and these files have them too, so only what must come from `csv.writer` is undone: `"` at both
    ends, and inside at least one quote and all of them doubled.
    """
    inside = field[1:-1]
    if len(field) > 1 and field[0] == field[-1] == '"' and '"' in inside and '"' not in inside.replace('""', ""):
        return inside.replace('""', '"')
    return field


def _classifications(path: Path) -> Iterator[tuple[Row, str]]:
    for line, number in _lines(path):
        where = f"{path}, line {number}"
        text, text_pair, label = _columns(line, ("text", "text", "label"), where)
        label = MULTINLI_SPELLING.get(label.strip(), label.strip())
        yield {"id": str(number), "text": _unquoted(text), "text_pair": _unquoted(text_pair), "label": label}, where


def _tagged_sentences(path: Path, language: str) -> Iterator[tuple[Row, str]]:
    parts = groupby(_lines(path), key=lambda numbered: bool(numbered[0].strip()))
    sentences = (list(part) for has_words, part in parts if has_words)
    for sentence_number, sentence in enumerate(sentences, 1):
        words = [_columns(line, ("token", "tag"), f"{path}, line {number}") for line, number in sentence]
        where = f"{path}, lines {sentence[0][1]} to {sentence[-1][1]}"
        tokens, tags = [token for token, _ in words], [tag.strip() for _, tag in words]
        yield {"id": f"{language}-{sentence_number}", "tokens": tokens, "tags": tags}, where


def _squad_questions(path: Path) -> Iterator[tuple[Row, str, str]]:
    """Each question of a file in SQuAD 1.1's JSON: its row, where it is, and its article.

    The article is the title. XTREME's TyDiQA files have none: there each question is an article of one paragraph, and
    the paragraph's text is used instead of the title.
    """
    try:
        document = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not JSON ({error.msg}): fetch it again") from error
    for article in field_of(document, "data", list, str(path)):
        for paragraph in field_of(article, "paragraphs", list, str(path)):
            context = field_of(paragraph, "context", str, str(path))
            for question in field_of(paragraph, "qas", list, str(path)):
                question_id = str(field_of(question, "id", object, str(path)))
                where = f"{path}, question {without_halves(question_id)}"
                row = {
                    "id": question_id,
                    "context": context,
                    "question": field_of(question, "question", str, where),
                    "answers": gold_answers(context, field_of(question, "answers", list, where), where),
                }
                yield row, where, article.get("title") or context

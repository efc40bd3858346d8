"""Rows of the five tasks of XTREME for tests of kinds: from the mini benchmark, and from real files.

Real files are read here in the simplest way, independently of the package's readers.
"""

import csv
import json
from itertools import groupby
from pathlib import Path
from typing import Any

from workflow_scripts.corpora import mini
from workflow_scripts.kinds import part

KINDS = {
    "xnli": "classification",
    "pawsx": "classification",
    "udpos": "tagging",
    "xquad": "question_answering",
    "tydiqa": "question_answering",
}
LABELS = {
    "xnli": ["entailment", "neutral", "contradiction"],
    "pawsx": ["0", "1"],
    "udpos": "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split(),
    "xquad": [],
    "tydiqa": [],
}
UPOS = LABELS["udpos"]
TEST_FILES = {
    "xnli": "xnli/test-{}.tsv",
    "pawsx": "pawsx/test-{}.tsv",
    "udpos": "udpos/test-{}.tsv",
    "xquad": "xquad/xquad.{}.json",
    "tydiqa": "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.{}.dev.json",
}


def rows_of(task: str, language: str, limit: int | None = None) -> list[dict[str, Any]]:
    """Test rows of the mini benchmark."""
    return with_groups(mini.generated(task, language, "test")[:limit], KINDS[task])


def with_groups(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The rows with the `group` that their kind gives them."""
    return [{**row, "group": part(kind, "rows").group(row)} for row in rows]


def real_languages(folder: Path, task: str) -> list[str]:
    """The languages that a folder in the layout of XTREME's scripts has a test set of, sorted."""
    before, after = TEST_FILES[task].split("{}")
    files = (path.relative_to(folder).as_posix() for path in folder.glob(TEST_FILES[task].format("*")))
    return sorted(file.removeprefix(before).removesuffix(after) for file in files)


def real_rows(folder: Path, task: str, language: str, limit: int | None = None) -> list[dict[str, Any]]:
    """Test rows of such a folder: in a kind's format and valid."""
    file, rows = folder / TEST_FILES[task].format(language), part(KINDS[task], "rows")
    read = {"classification": read_pairs, "tagging": read_sentences, "question_answering": read_questions}
    found = []
    for identity, record in read[KINDS[task]](file)[:limit]:
        row = {"id": identity, **rows.from_record(record, f"{file.name}, {identity}")}
        assert rows.problem(row, LABELS[task]) == "", identity
        found.append({**row, "group": rows.group(row)})
    assert len({row["id"] for row in found}) == len(found) > 0
    return found


def read_pairs(file: Path) -> list[tuple[str, dict[str, Any]]]:
    """Two texts and a label in a line."""
    with file.open(encoding="utf-8", newline="") as lines:
        columns = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        names = ("text", "text_pair", "label")
        return [(str(number), dict(zip(names, values, strict=True))) for number, values in enumerate(columns)]


def read_sentences(file: Path) -> list[tuple[str, dict[str, Any]]]:
    """A word and its tag in a line, sentences apart by blank lines."""
    lines = file.read_text(encoding="utf-8").split("\n")
    blocks = [[line.split("\t") for line in block] for full, block in groupby(lines, key=bool) if full]
    return [
        (str(number), {"tokens": [word for word, _ in block], "tags": [tag for _, tag in block]})
        for number, block in enumerate(blocks)
    ]


def read_questions(file: Path) -> list[tuple[str, dict[str, Any]]]:
    """SQuAD's JSON."""
    return [
        (question["id"], {"context": paragraph["context"], **question})
        for article in json.loads(file.read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]

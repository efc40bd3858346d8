"""The mini benchmark: a small substitute for the five tasks, generated from templates, for a quick start offline.

It has English sentences to train on, and test sets with the same content in seven languages. The words are in
`data/<split>/<language>.yaml`; the content and the labels are in `data/<split>/plan.yaml`, once for all languages. No
template and no filler of the test sets occurs in training, nor in validation.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.description import Corpus
from workflow_scripts.corpora.mini.pairs import inference_rows, paraphrase_rows
from workflow_scripts.corpora.mini.questions import question_rows
from workflow_scripts.corpora.mini.tagging import tagging_rows
from workflow_scripts.corpora.mini.wording import Wording, load_wording
from workflow_scripts.corpora.rows import PlacedRow
from workflow_scripts.kinds.protocol import Row

__all__ = ["LANGUAGES", "SIZES", "generated", "origin", "rows"]

LANGUAGES = ("en", "de", "es", "fr", "ja", "ko", "zh")
SIZES = {"train": 2400, "validation": 300, "test": 300}

_MAKERS: dict[str, Callable[[Wording, str, int], list[Row]]] = {
    "xnli": inference_rows,
    "pawsx": paraphrase_rows,
    "udpos": tagging_rows,
    "xquad": question_rows,
    "tydiqa": question_rows,
}


def rows(corpus: Corpus, pinned: Mapping[str, Any] | None, downloads: Path) -> Iterator[PlacedRow]:
    """The rows of a corpus: the same ones on every call, on every machine.

    The test sets are parallel: row `i` has the same id, content and label in all languages. Raises UserError for a
    corpus, language or split that the mini benchmark does not have; training and validation are English only.
    """
    name = corpus.reading.corpus or corpus.task
    # The first rows of training are a sample already: their order is random.
    for row in generated(name, corpus.language, corpus.split)[: corpus.limit]:
        yield PlacedRow(row, f"mini benchmark, {name}, {corpus.language}, {corpus.split}, row {row['id']}", row)


def generated(corpus: str, language: str, split: str) -> list[Row]:
    """All rows of a corpus, without their groups; see `rows`."""
    if corpus not in _MAKERS:
        raise UserError(f"the mini benchmark has no corpus {corpus!r}: choose from {', '.join(_MAKERS)}")
    if split not in SIZES:
        raise UserError(f"the mini benchmark has no split {split!r}: choose from {', '.join(SIZES)}")
    allowed = LANGUAGES if split == "test" else ("en",)
    if language not in allowed:
        raise UserError(f"the mini benchmark has no {split} set in {language!r}: choose from {', '.join(allowed)}")
    return _MAKERS[corpus](load_wording(split, language), corpus, SIZES[split])


def origin(corpus: Corpus, pinned: Mapping[str, Any] | None, downloads: Path) -> dict[str, Any]:
    """Where the rows of `rows` come from: this project, and nothing else."""
    return {"name": "mini benchmark", "files": [], "licences": {"mini benchmark": "Apache-2.0"}}

"""The corpora: their numbers of rows, unusual texts, and checksums."""

from collections.abc import Iterable, Iterator
from typing import Any

from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.reporting.views.table import Cell, Column, Row, Table
from workflow_scripts.reporting.wording import NOTHING, Names, listed

SPLITS = ("train", "validation", "test")
# The counts in the record of a token folder, and how such texts are handled.
ODDITIES = {
    "cut_words": "Words with more subwords than fit into max_length, truncated and still scored",
    "empty_words": "Words for which the tokenizer has no subword, treated as unknown words and still scored",
    "cut_questions": "Questions that left no room for their context, truncated at the end",
    "empty_texts": "Rows with a text without any token, kept",
    "absent_answers": "Questions without a gold answer in their context, kept in test sets and left out of training",
}


def corpora_table(corpora: list[dict[str, Any]], names: Names, tokens: Iterable[dict[str, Any]] = ()) -> Table:
    """How many rows each task has, by language and split; `tokens`, the records of token folders, give notes."""
    splits = [split for split in SPLITS if any(corpus["split"] == split for corpus in corpora)]
    splits += sorted({corpus["split"] for corpus in corpora} - set(splits))
    rows = {(corpus["task"], corpus["language"], corpus["split"]): corpus["rows"] for corpus in corpora}
    tasks = [task for task in TASKS if any(corpus["task"] == task for corpus in corpora)]
    bodies = []
    for task in tasks:
        order = TASKS[task].languages
        found = {corpus["language"] for corpus in corpora if corpus["task"] == task}
        languages = [code for code in order if code in found] + sorted(found - set(order))
        body = []
        for code in languages:
            known = names.languages.get(code, names.fallback)
            counts = [rows.get((task, code, split)) for split in splits]
            body.append(
                Row(
                    (
                        Cell(TASKS[task].title, sort=TASKS[task].title),
                        Cell(f"{names.language(code)} ({code})" if known["name"] else code),
                        Cell(known["native"], language=code if known["native"] else "", direction=known["direction"]),
                        *(
                            Cell(NOTHING, marks=("missing",)) if count is None else Cell(f"{count:,}", sort=count)
                            for count in counts
                        ),
                    )
                )
            )
        bodies.append(tuple(body))
    return Table(
        identifier="corpora",
        title="Rows by task, language and split",
        columns=(
            Column("Task", "head"),
            Column("Language", "text"),
            Column("Native name", "text"),
            *(Column(split) for split in splits),
        ),
        bodies=tuple(bodies),
        notes=tuple(_odd_texts(list(tokens), names)),
    )


def _odd_texts(tokens: list[dict[str, Any]], names: Names) -> Iterator[str]:
    """A sentence for each kind of unusual text: how many there are, and where."""
    for kind, what in ODDITIES.items():
        places = [f"{record[kind]:,} in {_place(record, names)}" for record in tokens if record.get(kind)]
        if places:
            yield f"{what}: {listed(places)}."


def _place(record: dict[str, Any], names: Names) -> str:
    parts = [TASKS[record["task"]].title, names.language(record["language"]), record["split"]]
    return " ".join(parts) + (f" ({record['encoder']})" if names.several_encoders else "")


def checksums_table(corpora: list[dict[str, Any]], names: Names) -> Table:
    """The checksum of every corpus file."""
    return Table(
        identifier="checksums",
        title="Checksums of the corpora (SHA-256)",
        columns=(Column("Corpus", "head"), Column("SHA-256", "text")),
        bodies=(
            tuple(
                Row(
                    (
                        Cell(f"{corpus['task']} / {corpus['language']} / {corpus['split']}"),
                        Cell(str(corpus.get("sha256") or NOTHING), marks=("code",)),
                    )
                )
                for corpus in corpora
            ),
        ),
    )

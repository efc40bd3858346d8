"""The corpora: their numbers of rows, unusual texts, and checksums."""

from collections.abc import Iterable, Iterator
from typing import Any

from workflow_scripts.reporting.parts import Folded, Part, Section, said
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import Cell, Column, Row, Table, number_cell
from workflow_scripts.reporting.wording import NOTHING, listed

MOST_ROWS = 120  # a longer table of rows is opened by a click
MOST_PLACES = 12  # that a note lists
SPLITS = ("train", "validation", "test")
# The counts in the record of a token folder, and how such texts are handled.
ODDITIES = {
    "cut_words": "Words with more subwords than fit into max_length, truncated and still scored",
    "empty_words": "Words for which the tokenizer has no subword, treated as unknown words and still scored",
    "cut_questions": "Questions that left no room for their context, truncated at the end",
    "empty_texts": "Rows with a text without any token, kept",
    "absent_answers": "Questions without a gold answer in their context, kept in test sets and left out of training",
}


def section(report: Report) -> Section:
    """The rows of each corpus, and the checksums."""
    rows, checksums = corpora_table(report), checksums_table(report)
    many = sum(map(len, rows.bodies)) > MOST_ROWS
    parts: tuple[Part, ...] = (
        said(f"{report.benchmark['name']}. {report.benchmark['description']}"),
        Folded(rows.title, (rows,)) if many else rows,
        Folded(checksums.title, (checksums,)),
    )
    return Section("data", "Corpora", parts)


def corpora_table(report: Report) -> Table:
    """How many rows each task has, by language and split; the records of token folders give notes."""
    corpora = report.inputs.provenance.get("corpora") or []
    found = {corpus["split"] for corpus in corpora}
    splits = [split for split in SPLITS if split in found] + sorted(found - set(SPLITS))
    rows = {(corpus["task"], corpus["language"], corpus["split"]): corpus["rows"] for corpus in corpora}
    bodies = []
    for task in report.tasks.in_order(corpus["task"] for corpus in corpora):
        title = report.tasks.title(task)
        languages = {corpus["language"] for corpus in corpora if corpus["task"] == task}
        body = []
        for code in report.tasks[task].in_order(languages):
            facts = report.names.facts(code)
            name = f"{facts.name} ({code})" if facts.name != code else code
            native = Cell(facts.native, language=code if facts.native else "", direction=facts.direction)
            counts = (number_cell(rows.get((task, code, split)), lambda count: f"{count:,}") for split in splits)
            body.append(Row((Cell(title, sort=title), Cell(name), native, *counts)))
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
        notes=tuple(_odd_texts(report, report.inputs.provenance.get("tokens") or [])),
    )


def _odd_texts(report: Report, tokens: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A sentence for each kind of unusual text: how many there are, and where."""
    for kind, what in ODDITIES.items():
        places = [f"{record[kind]:,} in {_place(report, record)}" for record in tokens if record.get(kind)]
        if len(places) > MOST_PLACES:
            places[MOST_PLACES - 1 :] = [f"{len(places) - MOST_PLACES + 1} more corpora"]
        if places:
            yield f"{what}: {listed(places)}."


def _place(report: Report, record: dict[str, Any]) -> str:
    parts = [report.tasks.title(record["task"]), report.names.language(record["language"]), record["split"]]
    return " ".join(parts) + (f" ({record['encoder']})" if report.names.several_encoders else "")


def checksums_table(report: Report) -> Table:
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
                for corpus in report.inputs.provenance.get("corpora") or []
            ),
        ),
    )

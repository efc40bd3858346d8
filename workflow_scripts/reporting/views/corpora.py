"""The corpora: their licences, row counts, changed and unusual rows, and checksums."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from workflow_scripts.reporting.parts import Folded, Part, Section, paragraph
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import Cell, Column, Row, Table, number_cell
from workflow_scripts.reporting.wording import NOTHING, listed

MOST_ROWS = 120  # a longer table of rows is opened by a click
MOST_PLACES = 12  # that a note lists
SPLITS = ("train", "validation", "test")
# The counts in the record of a token folder, and how such texts are handled.
ODDITIES = {
    "cut_words": "Words with more subwords than fit into max_length, truncated but still scored",
    "empty_words": "Words for which the tokenizer has no subword, treated as unknown words but still scored",
    "cut_questions": "Questions that left no room for their context, truncated at the end",
    "empty_texts": "Rows with a text without any token, kept",
    "cut_texts": "Rows that left no room for an answer in words, with the longest text truncated at the end",
    "cut_answers": "Answers of more than new_tokens tokens, truncated",
    "absent_answers": "Questions without a gold answer in their context, kept in test sets and left out of training",
}

# The counts in the origin of a corpus (`corpora.rows.complete`), and what became of such rows.
CHANGES = {
    "repaired tags": "Tags that were not valid IOB2, repaired",
    "rows with repaired tags": "Rows with such tags",
    "dropped rows": "Rows that the task file excludes from training",
    "rows that occur twice": "Repeated rows, used once",
    "unusual rows": "Unusual rows, kept",
}
COMMERCIAL = {True: "permitted", False: "not permitted", None: "not known"}


def section(report: Report) -> Section:
    """The licences, the rows of each corpus, and the checksums."""
    licences, rows, checksums = licences_table(report), corpora_table(report), checksums_table(report)
    many = sum(map(len, rows.bodies)) > MOST_ROWS
    parts: tuple[Part, ...] = (
        paragraph(f"{report.benchmark['name']}. {report.benchmark['description']}"),
        *((licences,) if licences.bodies else ()),
        Folded(rows.title, (rows,)) if many else rows,
        Folded(checksums.title, (checksums,)),
    )
    return Section("data", "Corpora", parts)


def licences_table(report: Report) -> Table:
    """Licence, commercial use and citation of each task whose rows are not generated."""
    bodies = []
    for name in report.tasks.in_order(set(report.scores["task"]) | set(report.runs["task"])):
        task = report.tasks[name]
        if task.definition is None or task.generated:
            continue
        definition = task.definition
        cells = (
            Cell(task.title, sort=task.title),
            Cell(definition.licence or "not stated"),
            Cell(COMMERCIAL[definition.commercial]),
            Cell(definition.citation or "not stated", small=definition.url or ""),
        )
        bodies.append((Row(cells),))
    return Table(
        identifier="licences",
        title="Licences and citations",
        columns=(
            Column("Task", "head"),
            Column("Licence", "text"),
            Column("Commercial use", "text"),
            Column("Cite", "text"),
        ),
        bodies=tuple(bodies),
        caption="As stated in the task files.",
    )


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
        notes=(
            *_counted(report, CHANGES, (_with_counts(corpus) for corpus in corpora)),
            *_counted(report, ODDITIES, report.inputs.provenance.get("tokens") or []),
        ),
    )


def _with_counts(corpus: Mapping[str, Any]) -> dict[str, Any]:
    return {**corpus, **((corpus.get("origin") or {}).get("counts") or {})}


def _counted(report: Report, kinds: Mapping[str, str], records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A sentence for each kind of count that a record has: how many there are, and where."""
    known = list(records)
    for kind, what in kinds.items():
        places = [f"{record[kind]:,} in {_place(report, record)}" for record in known if record.get(kind)]
        if len(places) > MOST_PLACES:
            places[MOST_PLACES - 1 :] = [f"{len(places) - MOST_PLACES + 1} more corpora"]
        if places:
            yield f"{what}: {listed(places)}."


def _place(report: Report, record: Mapping[str, Any]) -> str:
    parts = [report.tasks.title(record["task"]), report.names.language(record["language"]), record["split"]]
    return " ".join(parts) + (
        f" ({record['encoder']})" if report.names.several_encoders and "encoder" in record else ""
    )


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

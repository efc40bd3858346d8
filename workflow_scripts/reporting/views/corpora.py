"""The corpora: how many rows they have, and their checksums."""

from typing import Any

from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.reporting.views.table import Cell, Column, Row, Table
from workflow_scripts.reporting.wording import NOTHING, Names

SPLITS = ("train", "validation", "test")


def corpora_table(corpora: list[dict[str, Any]], names: Names) -> Table:
    """How many rows each task has, by language and split."""
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
            Column("Its own name", "text"),
            *(Column(split) for split in splits),
        ),
        bodies=tuple(bodies),
    )


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

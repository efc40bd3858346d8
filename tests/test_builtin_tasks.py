"""The task files in `tasks/`: each can be used, names exactly what it reads, and says what its licence permits."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from workflow_scripts.experiment import tasks
from workflow_scripts.kinds import part

NAMES = tasks.names_of_builtin_tasks()
COMMIT = re.compile(r"\b[0-9a-f]{40}\b")
TREEBANKS = Path(__file__).parents[1] / "workflow_scripts/corpora/universal_dependencies/files.tsv"


def sources_of(name: str) -> list[tuple[str, object]]:
    return list(tasks.builtin(name).sources.items())


@pytest.mark.parametrize("name", NAMES)
def test_every_split_of_every_source_is_described(name: str) -> None:
    definition = tasks.builtin(name)
    for source, described in sources_of(name):
        trained = described.train_languages or definition.train_in()
        for split, languages in {"train": trained, "validation": trained, "test": definition.languages}.items():
            for language in languages:
                entry = described.splits[split]
                if getattr(entry, "task", None):
                    assert language in tasks.builtin(entry.task).train_in()
                    continue
                corpus = tasks.resolve(name, definition, source, language, split)
                where = corpus.reading.url or corpus.reading.path or corpus.reading.corpus
                assert where or corpus.type == "universal_dependencies"
                assert not where or not re.search(r"[{}]", corpus.filled(where))


@pytest.mark.parametrize("name", NAMES)
def test_columns_are_those_of_the_kind(name: str) -> None:
    definition = tasks.builtin(name)
    fields = set(part(definition.kind, "rows").FIELDS) | {"id"}
    for source, described in sources_of(name):
        if described.type in ("files", "url", "hub"):
            assert set(described.columns) <= fields, source
            assert set(described.values) <= set(described.columns), source
            assert set(described.drop) <= set(described.columns), source


@pytest.mark.parametrize("name", NAMES)
def test_what_is_downloaded_is_fixed_by_a_commit(name: str) -> None:
    definition = tasks.builtin(name)
    for source, described in sources_of(name):
        if described.type not in ("url", "hub"):
            continue
        for split in ("train", "validation", "test"):
            if getattr(described.splits[split], "task", None):
                continue
            language = definition.train_in()[0] if split != "test" else definition.languages[0]
            corpus = tasks.resolve(name, definition, source, language, split)
            fixed = corpus.reading.revision if corpus.type == "hub" else corpus.filled(corpus.reading.url or "")
            assert COMMIT.search(fixed or ""), (source, split)


@pytest.mark.parametrize("name", NAMES)
def test_languages_are_listed_once_and_rows_are_of_those_languages(name: str) -> None:
    definition = tasks.builtin(name)
    assert [language for language, number in Counter(definition.languages).items() if number > 1] == []
    for split, known in definition.rows.items():
        if isinstance(known, dict):
            assert set(known) <= set(definition.languages if split == "test" else definition.train_in()), split


@pytest.mark.parametrize("name", NAMES)
def test_a_licence_that_excludes_commercial_use_is_marked(name: str) -> None:
    definition = tasks.builtin(name)
    assert definition.citation
    assert definition.url
    if definition.licence and "NC" in definition.licence:
        assert definition.commercial is False
    # Training on another task's rows is also subject to its licence.
    for _, described in sources_of(name):
        for entry in described.splits.values():
            if getattr(entry, "task", None) and tasks.builtin(entry.task).commercial is False:
                assert definition.commercial is False


def test_the_rows_of_udpos_are_those_of_its_treebanks() -> None:
    counted: Counter[tuple[str, str]] = Counter()
    with TREEBANKS.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            split = {"dev": "validation"}.get(row["split"], row["split"])
            counted[split, row["language"]] += int(row["sentences"])
    stated = tasks.builtin("udpos").rows
    assert {(split, language): rows for split in stated for language, rows in stated[split].items()} == {
        (split, language): counted[split, language] for split in stated for language in stated[split]
    }
    assert set(stated["test"]) == set(tasks.builtin("udpos").languages)

"""CoNLL-U (universaldependencies.org/format.html): the syntactic words of sentences, with their ten columns."""

import re
from collections.abc import Iterator
from pathlib import Path

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.formats import FormatOptions, Record
from workflow_scripts.corpora.formats.conll import place_of, sentences

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
NOT_WORDS = re.compile(r"\d+-\d+|\d+\.\d+")  # ids of multiword tokens and of empty nodes


def records(path: Path, options: FormatOptions, where: str) -> Iterator[tuple[Record, str]]:
    """Each sentence: its ten columns as lists of texts, and its comments `key = value`, such as `sent_id` and `text`.

    Multiword tokens (ids such as 3-4) and empty nodes (5.1) are left out. The comment `newdoc id` is in the records of
    all sentences of its document. The place is `de-test.conllu, lines 3 to 9`.

    Raises UserError, naming file and line, for a line without ten columns between tabs, and ids not in order.
    """
    for sentence in sentences(path, where, "#", lambda line: line.startswith("#")):
        words: list[list[str]] = []
        for number, line in sentence.tokens:
            if line.startswith("#"):  # A comment inside a sentence is not allowed, but no word begins like this.
                continue
            columns = line.split("\t")
            if len(columns) != len(COLUMNS):
                raise UserError(
                    f"{where}, line {number}: {len(columns)} column{'s' * (len(columns) != 1)} between tabs, a CoNLL-U"
                    f" file has {len(COLUMNS)}: for other columns, set `format: conll`"
                )
            if NOT_WORDS.fullmatch(columns[0]):
                continue
            if columns[0] != str(len(words) + 1):
                raise UserError(
                    f"{where}, line {number}: found the id {columns[0]!r}, expected {len(words) + 1}: a line or a blank"
                    " line is missing before it"
                )
            words.append(columns)
        if words:
            by_column = zip(COLUMNS, zip(*words, strict=True), strict=True)
            yield sentence.comments | {name: list(column) for name, column in by_column}, place_of(sentence, where)

"""CoNLL columns: one line per token, columns separated by tabs or white space, a blank line after each sentence.

Comments, if the options name their prefix, come before the first token of a sentence. They begin with the prefix, and
then have a space, or nothing, or no second column. So a token `#` or `#hashtag` is not lost, with one exception: in a
file with spaces between columns, a sentence's first token `#` looks like a comment. After the first token of a
sentence, no line is a comment.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.formats import FormatOptions, Record
from workflow_scripts.corpora.formats.delimited import header_names
from workflow_scripts.corpora.formats.text import lines

DOCUMENT_START = "-DOCSTART-"  # CoNLL-2003 marks a new document by a sentence of this token alone.
NEW_DOCUMENT = "newdoc"  # CoNLL-U marks it by a comment, which may have an id.


@dataclass
class Sentence:
    """The lines of a sentence."""

    tokens: list[tuple[int, str]] = field(default_factory=list)
    """Each token's line with its number."""
    comments: dict[str, str] = field(default_factory=dict)
    """Its comments of the form `key = value`, and `newdoc id` of the document that it is in."""


def records(path: Path, options: FormatOptions, where: str) -> Iterator[tuple[Record, str]]:
    """Each sentence: one list per column, named by its number from "1" or by the header, and comments `key = value`.

    The comment `newdoc id` is in the records of all sentences of its document. Sentences that are only `-DOCSTART-` are
    left out. The place is `train.conll, lines 3 to 9`.

    Raises UserError, naming file and line, for a line with more or fewer columns than the first one.
    """
    delimiter = options.delimiter or _delimiter(path, options, where)
    prefix = options.comments

    def is_comment(line: str) -> bool:
        if not prefix or not line.startswith(prefix):
            return False
        return line[len(prefix) :][:1] in ("", " ") or len(_columns(line, delimiter)) == 1

    names: list[str] = []
    for sentence in sentences(path, where, prefix or "", is_comment):
        tokens = sentence.tokens
        if not names:
            number, line = tokens[0]
            columns = _columns(line, delimiter)
            names = [str(place) for place in range(1, len(columns) + 1)]
            if options.header:
                names = header_names(columns, f"{where}, line {number}")
                del tokens[0]
        rows = []
        for number, line in tokens:
            row = _columns(line, delimiter)
            if len(row) != len(names):
                raise UserError(
                    f"{where}, line {number}: {len(row)} column{'s' * (len(row) != 1)}, expected {len(names)}"
                    f"{_hint(line, options)}"
                )
            rows.append(row)
        if rows and not (len(rows) == 1 and rows[0][0] == DOCUMENT_START):
            columns_of_sentence = {
                name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
            }
            yield sentence.comments | columns_of_sentence, place_of(sentence, where)


def sentences(path: Path, where: str, prefix: str, is_comment: Callable[[str], bool]) -> Iterator[Sentence]:
    """Each sentence with at least one token. Lines have no line breaks.

    `is_comment` tells whether a line before the first token is a comment, `prefix` is what comments begin with.
    """
    sentence, document = Sentence(), ""
    for number, line in enumerate(lines(path, where), 1):
        line = line.rstrip("\r\n")
        if not line.strip():
            if sentence.tokens:
                yield sentence
                sentence = Sentence()
        elif sentence.tokens or not is_comment(line):
            if document and not sentence.tokens:
                sentence.comments[f"{NEW_DOCUMENT} id"] = document
            sentence.tokens.append((number, line))
        else:
            key, equals, value = (part.strip() for part in line.removeprefix(prefix).partition("="))
            if key.split()[:1] == [NEW_DOCUMENT]:
                document = value
            elif equals:
                sentence.comments[key] = value
    if sentence.tokens:
        yield sentence


def place_of(sentence: Sentence, where: str) -> str:
    """The place of a sentence, for messages."""
    return f"{where}, lines {sentence.tokens[0][0]} to {sentence.tokens[-1][0]}"


def _delimiter(path: Path, options: FormatOptions, where: str) -> str:
    """A tab if the first line that cannot be a comment has one, else a space."""
    for line in lines(path, where):
        if line.strip() and not (options.comments and line.startswith(options.comments)):
            return "\t" if "\t" in line else " "
    return "\t"


def _columns(line: str, delimiter: str) -> list[str]:
    if delimiter != " ":
        return line.split(delimiter)
    # Not at all white space: `str.split` would also split `10\u00a0000`.
    return [part for part in line.replace("\t", " ").split(" ") if part]


def _hint(line: str, options: FormatOptions) -> str:
    if options.comments is None and line.startswith("#"):
        return ': if this is a comment, set `comments: "#"`'
    return ": correct the line, or set `delimiter` if the columns have another delimiter"

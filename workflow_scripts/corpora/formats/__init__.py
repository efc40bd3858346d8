"""Readers of file formats, one module per format: each yields the records of a file and knows nothing about tasks.

A record is a dict of the file's columns. Each comes with its place, for messages, such as `reviews.csv, line 7`. Files
are streamed, so memory does not grow with their size. Text is UTF-8, with or without a byte order mark, and may be
compressed with gzip.

A reader is imported when it is used: an edit to one format reruns only the steps that read this format.
"""

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError

Record = dict[str, Any]

# The module that reads each format, relative to this package.
FORMATS = {
    "csv": "delimited",
    "tsv": "delimited",
    "json_lines": "json_lines",
    "json": "json_document",
    "squad": "squad",
    "parquet": "parquet",
    "conll": "conll",
    "conllu": "conllu",
}
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "json_lines",
    ".ndjson": "json_lines",
    ".json": "json",
    ".parquet": "parquet",
    ".conll": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
    ".conllu": "conllu",
}
OPTIONS = {
    "csv": ("header", "quoted", "delimiter"),
    "tsv": ("header", "quoted", "delimiter"),
    "conll": ("header", "delimiter", "comments"),
}
SHOWN = 20  # maximum number of columns or files in a message


@dataclass(frozen=True)
class FormatOptions:
    """How to read a file. None is the default of the format. The encoding is always UTF-8.

    Raises UserError for an unknown format, and for an option that the format does not have.
    """

    format: str
    """A name of `FORMATS`."""
    header: bool | None = None
    """Whether the first line names the columns (csv and tsv: yes; conll: no). Otherwise they are "1", "2", ..."""
    quoted: bool | None = None
    """Whether a field may be in double quotes, by the rules of the csv module (csv: yes; tsv: no). A quoted field may
    contain delimiters and line breaks."""
    delimiter: str | None = None
    """The character between columns (csv: a comma; tsv: a tab; conll: a tab if the first token line has one, else
    white space)."""
    comments: str | None = None
    """What a comment line of a conll file begins with, such as `#`. Without it, no line is a comment."""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UserError(f"format {self.format!r} is not one of {', '.join(FORMATS)}")
        known = OPTIONS.get(self.format, ())
        for option in fields(self)[1:]:
            if getattr(self, option.name) is not None and option.name not in known:
                raise UserError(
                    f"{option.name} does not apply to files of format {self.format}: remove it"
                    + (f" (this format has {', '.join(known)})" if known else "")
                )
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '\r\n"'):
            raise UserError(f"delimiter {self.delimiter!r} is not a single character, such as ';'")
        if self.comments == "":
            raise UserError("comments is empty: give what a comment line begins with, such as '#', or remove it")


def format_of(path: Path) -> str:
    """The format by the suffix of a file's name, ignoring `.gz`. Raises UserError for an unknown suffix.

    SQuAD's format has no suffix of its own: `.json` means `json`.
    """
    name = path.name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix not in SUFFIXES:
        raise UserError(
            f"{path}: the suffix {suffix!r} does not determine the format: set `format` to one of {', '.join(FORMATS)}"
        )
    return SUFFIXES[suffix]


def module_of(name: str) -> str:
    """The module that reads a format, relative to `workflow_scripts`, as `fingerprint` takes it."""
    return f"corpora.formats.{FORMATS[name]}"


def records(path: Path, options: FormatOptions, where: str | None = None) -> Iterator[tuple[Record, str]]:
    """Each record of a file with its place, for messages, such as `reviews.csv, line 7`.

    Args:
        path: the file. It is decompressed if it is a gzip file, regardless of its name.
        options: how to read it.
        where: what messages call the file, by default its path.

    Raises UserError that names file and line, row or record: the file is missing, empty, damaged, not UTF-8 or not in
    the format.
    """
    where = where or str(path)
    _check_file(path, where)
    module = importlib.import_module(f"{__name__}.{FORMATS[options.format]}")
    found = False
    for record in module.records(path, options, where):
        found = True
        yield record
    if not found:
        raise UserError(f"{where} holds no records: check that it is the right file and complete")


def class_names(path: Path, name: str, where: str) -> dict[str, list[str]]:
    """The names of class labels by column, in the order of their numbers, if the format can state them."""
    module = importlib.import_module(f"{__name__}.{FORMATS[name]}")
    return module.class_names(path, where) if hasattr(module, "class_names") else {}


def named(value: Any, names: Sequence[str], where: str) -> Any:
    """A number as its name, or a list of numbers as a list of names. Raises UserError for a number without a name.

    The number -1 means that a row has no label.
    """
    if isinstance(value, list):
        return [named(item, names, where) for item in value]
    if not isinstance(value, int) or not 0 <= value < len(names):
        why = ": the labels of this file are withheld, choose another one" if value == -1 else ""
        raise UserError(f"{where}: label {value} is not one of 0 to {len(names) - 1} ({', '.join(names)}){why}")
    return names[value]


def column(record: Mapping[str, Any], name: str | int, where: str) -> Any:
    """The value in a column of a record. Dots access nested columns: `answers.text`.

    Where a column holds a list of mappings, the dot takes the value of each: a list. `where` is the record's place.

    Raises UserError that lists the columns of the record, and names the nearest, if there is no such column.
    """
    name = str(name)
    if name in record:
        return record[name]
    for dot in (place for place, letter in enumerate(name) if letter == "."):
        if (outer := name[:dot]) in record:
            return _inner(record[outer], name[dot + 1 :], outer, where)
    raise UserError(
        f"{where}: no column {name!r}{_nearest(name, record)}; the columns are {_listed(record)}{_numbers(name)}"
    )


def _inner(value: Any, name: str, outer: str, where: str) -> Any:
    if isinstance(value, list):
        return [_inner(item, name, outer, where) for item in value]
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: no column '{outer}.{name}': {outer!r} holds {_kind(value)}, not nested columns")
    return column({f"{outer}.{key}": item for key, item in value.items()}, f"{outer}.{name}", where)


def _kind(value: Any) -> str:
    return {str: "a text", bool: "true or false", type(None): "nothing"}.get(type(value), "a number")


def _nearest(name: str, names: Iterable[str]) -> str:
    by_lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""


def _numbers(name: str) -> str:
    return ": columns have numbers in files without a header, with `header: false`" if name.isdecimal() else ""


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) or "none") + more


def _check_file(path: Path, where: str) -> None:
    if path.is_dir():
        raise UserError(f"{where} is a folder: name a file in it, such as {_listed(_names(path)[:3])}")
    if not path.is_file():
        folder, missing = path.parent, ""
        while not folder.is_dir():
            folder, missing = folder.parent, folder.name
        if missing:
            raise UserError(f"{where} is missing: {folder} has no folder {missing}, but {_listed(_names(folder))}")
        names = _names(folder)
        similar = difflib.get_close_matches(path.name, names, n=3) or names
        raise UserError(f"{where} is missing; its folder has {_listed(similar)}")
    if not path.stat().st_size:
        raise UserError(f"{where} is empty: fetch it again")


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())

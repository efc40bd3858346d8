"""The parts of a table on the page: rows of cells, how they look and how they sort."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from workflow_scripts.evaluation.aggregate import COMPARED
from workflow_scripts.experiment.catalogue import METHODS

FILTERED = 12  # rows from which on a table has a field to filter them


@dataclass(frozen=True)
class Cell:
    """One cell: its text, its small print, and the value that it is sorted by.

    Attributes:
        shade: 0 to 1, the depth of the heat map's tint; None for no tint.
        marks: names of CSS classes.
        swatch: the method whose colour is shown before the text.
        language, direction: those of the text if it is not English.
    """

    text: str
    small: str = ""
    sort: float | str | None = None
    shade: float | None = None
    marks: tuple[str, ...] = ()
    title: str = ""
    swatch: str = ""
    language: str = ""
    direction: str = ""


@dataclass(frozen=True)
class Column:
    """The header of a column; `kind` is `head` (names the row), `number` or `text`; `small` are lines of small print.

    `language` is the code of the language whose scores the column has: the page can hide it.
    """

    title: str
    kind: str = "number"
    small: tuple[str, ...] = ()
    hint: str = ""
    language: str = ""


@dataclass(frozen=True)
class Row:
    """A row; `kind` is a CSS class."""

    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the page; `sorts` is `bodies` if the rows of a body are sorted as one, else `rows`.

    `feet` are rows below all bodies that are never sorted. `published`: whether the numbers are the paper's.
    """

    identifier: str
    title: str
    columns: tuple[Column, ...]
    bodies: tuple[tuple[Row, ...], ...]
    paper: str = ""
    caption: str = ""
    notes: tuple[str, ...] = ()
    feet: tuple[Row, ...] = ()
    kind: str = ""
    sorts: str = "rows"
    published: bool = False

    @property
    def is_long(self) -> bool:
        """Whether the table has a field to filter its rows."""
        return (len(self.bodies) if self.sorts == "bodies" else sum(map(len, self.bodies))) >= FILTERED


def arm_cell(method: str, text: str, small: str = "", sort: str | None = None) -> Cell:
    """The cell that names a row's arm, with its method's colour."""
    return Cell(text, small=small, swatch=method_class(method), sort=sort or text)


def paper_table(number: int | None, what: str = "") -> str:
    """Which table of the paper a table corresponds to."""
    return f"The paper’s table {number}" if number else what or "Not in the paper"


def sortable(value: Any) -> float | None:
    """The sort key of a number; None, which sorts last, for NaN."""
    return None if pd.isna(value) else float(value)


def method_class(method: str) -> str:
    """The CSS class of a method's colour: the paper's two methods have their own, the others share four."""
    if method in COMPARED:
        return method
    others = [name for name in METHODS if name not in COMPARED]
    return f"other-{others.index(method) % 4 if method in others else 0}"

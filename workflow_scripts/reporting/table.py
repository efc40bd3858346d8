"""A table, specified once: the page, CSV and LaTeX are written from the same object.

A `Table` has columns and rows of cells, grouped in bodies. `page` turns it into HTML and `latex` into LaTeX. A `Sheet`
adds the file that tables are written to: its frame, unrounded, is the CSV.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pandas as pd

from workflow_scripts.evaluation.aggregate import COMPARED
from workflow_scripts.experiment.catalogue import METHODS
from workflow_scripts.reporting.wording import NOTHING, score_text

FILTERED = 12  # a table with at least this many rows has a filter field
MOST_ROWS = 12  # rows of a table of averages that needs no click


@dataclass(frozen=True)
class Cell:
    """One cell: its text, its small print, and the value that it is sorted by.

    Attributes:
        spread: the standard deviation of the number, or None.
        shade: 0 to 1, the depth of the heat map's tint; None for no tint.
        marks: names of CSS classes; `best` is bold, `indented` belongs to the row above.
        swatch: the method whose colour is shown before the text.
        language, direction: those of the text if it is not English.
    """

    text: str
    small: str = ""
    sort: float | str | None = None
    spread: float | None = None
    shade: float | None = None
    marks: tuple[str, ...] = ()
    title: str = ""
    swatch: str = ""
    language: str = ""
    direction: str = ""

    @property
    def small_print(self) -> str:
        """The spread and the small print, as the page shows them."""
        spread = "" if self.spread is None or pd.isna(self.spread) else f"± {self.spread:.1f}"
        return " ".join(filter(None, (spread, self.small)))


@dataclass(frozen=True)
class Column:
    """The head of a column, and how a plain table makes its cells.

    Attributes:
        kind: `head` (names the row), `number` or `text`.
        small: lines of small print below the title.
        second: the title of the first cells' small print, which has a column of its own in LaTeX.
        language: the code of the language whose scores the column has: the page can hide it.
        cell: makes the cell of a row (a record) of a plain table.
        printed: whether LaTeX shows the column.
    """

    title: str
    kind: str = "number"
    small: tuple[str, ...] = ()
    hint: str = ""
    second: str = ""
    language: str = ""
    cell: Callable[[dict[str, Any]], Cell] = field(default=lambda row: Cell(""), repr=False)
    printed: bool = True


@dataclass(frozen=True)
class Row:
    """A row; `kind` is a CSS class; `language` is the code of the language whose scores it has."""

    cells: tuple[Cell, ...]
    kind: str = ""
    language: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        bodies: groups of rows; LaTeX has rules between them.
        sorts: `bodies` if the rows of a body are sorted as one, else `rows`.
        collapses: whether the page shows the first row of each body, and the others on demand. LaTeX has the first
            rows only.
        feet: rows below all bodies that are never sorted.
        notes: below the table; `page_notes` are about what only the page shows.
        published: whether the numbers are the paper's.
    """

    template: ClassVar[str] = "table"
    identifier: str
    title: str
    columns: tuple[Column, ...]
    bodies: tuple[tuple[Row, ...], ...]
    paper: str = ""
    caption: str = ""
    notes: tuple[str, ...] = ()
    page_notes: tuple[str, ...] = ()
    feet: tuple[Row, ...] = ()
    kind: str = ""
    sorts: str = "rows"
    collapses: bool = False
    published: bool = False

    @property
    def is_long(self) -> bool:
        """Whether the table has a field to filter its rows."""
        by_body = self.sorts == "bodies" and not self.collapses
        return (len(self.bodies) if by_body else sum(map(len, self.bodies))) >= FILTERED


@dataclass(frozen=True)
class Sheet:
    """Tables with the file that they are written to, `NAME.csv` and `NAME.tex`. `frame`: the CSV's rows."""

    template: ClassVar[str] = "sheet"
    name: str
    frame: pd.DataFrame
    tables: tuple[Table, ...]


def plain_table(
    rows: pd.DataFrame,
    columns: Sequence[Column],
    by: str | Sequence[str] = "task",
    row_kind: Callable[[dict[str, Any]], str] = lambda row: "",
    **texts: Any,
) -> Table:
    """A table with one row for each row of a frame, grouped `by` columns into bodies."""
    keys = [by] if isinstance(by, str) else list(by)
    groups: Iterable[tuple[Hashable, pd.DataFrame]] = rows.groupby(keys, sort=False) if len(rows) else ()
    bodies = tuple(
        tuple(Row(tuple(column.cell(row) for column in columns), row_kind(row)) for row in group.to_dict("records"))
        for _, group in groups
    )
    return Table(columns=tuple(columns), bodies=bodies, **texts)


def averages_table(bodies: tuple[tuple[Row, ...], ...], **texts: Any) -> Table:
    """A table with a body for each arm: its average over languages, then each language, folded where there are many."""
    many = sum(map(len, bodies)) > MOST_ROWS and any(len(body) > 1 for body in bodies)
    notes = ("Click an average to see its languages.",) if many else ()
    return Table(bodies=bodies, page_notes=notes, kind="families", sorts="bodies", collapses=many, **texts)


def number_column(
    title: str, key: str, text: Callable[[Any], str] = score_text, spread: str = "", best: str = "", **head: Any
) -> Column:
    """A column of numbers from the column `key`, in bold if the column `best` is true."""

    def cell(row: dict[str, Any]) -> Cell:
        marks = ("best",) if best and row[best] else ()
        return Cell(text(row[key]), sort=sortable(row[key]), spread=row[spread] if spread else None, marks=marks)

    return Column(title, cell=cell, **head)


def text_column(title: str, text: Callable[[dict[str, Any]], str], kind: str = "text", **head: Any) -> Column:
    """A column of texts."""
    return Column(title, kind, cell=lambda row: Cell(text(row) or ""), **head)


def chosen_column(key: str) -> Column:
    """The column that says which rows were chosen."""
    chosen = Cell("chosen", marks=("chosen",))
    return Column("", "text", cell=lambda row: chosen if row[key] else Cell(""), printed=False)


def arm_cell(method: str, text: str, small: str = "", sort: str | None = None) -> Cell:
    """The cell that names a row's arm, with its method's colour."""
    return Cell(text, small=small, swatch=method_class(method), sort=sort or text)


def number_cell(value: Any, text: Callable[[Any], str] = score_text, **parts: Any) -> Cell:
    """The cell of a number, or of none."""
    if value is None or pd.isna(value):
        return Cell(NOTHING, marks=("missing",))
    return Cell(text(value), sort=float(value), **parts)


def marked(cell: Cell, mark: str) -> Cell:
    """The cell with a further mark."""
    return replace(cell, marks=(*cell.marks, mark))


def paper_table(number: int | None, what: str = "") -> str:
    """Which table of the paper a table corresponds to."""
    return f"The paper’s table {number}" if number else what or "Not in the paper"


def sortable(value: Any) -> float | None:
    """The sort key of a number; None, which sorts last, for NaN."""
    return None if pd.isna(value) else float(value)


def shading(low: float, high: float) -> Callable[[float], float]:
    """A function from a score to the depth of its tint, 0 at `low` and 1 at `high`."""

    def shade(score: float) -> float:
        return round(min(1.0, max(0.0, (score - low) / (high - low))), 2) if high > low else 0.0

    return shade


def method_class(method: str) -> str:
    """The CSS class of a method's colour: the paper's two methods have their own, the others share four."""
    if method in COMPARED:
        return method
    others = [name for name in METHODS if name not in COMPARED]
    return f"other-{others.index(method) % 4 if method in others else 0}"

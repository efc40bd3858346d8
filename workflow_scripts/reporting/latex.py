"""A table as LaTeX to paste into a paper: booktabs, the numbers of the page with standard deviations in parentheses."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from workflow_scripts.core.visible import visible
from workflow_scripts.reporting.table import Cell, Column, Row, Table

HEAD = "% Needs \\usepackage{booktabs} and, for words of other alphabets, XeLaTeX or LuaLaTeX.\n"
EMPTY = "% There are no rows.\n"
MOST_NUMBERS = 14  # columns of numbers that fit on a page in small print; more go into a second tabular below
MOST_PAIRS = 10  # the same for numbers with their deviations
ONE_COLUMN = 42  # characters that fit into one column of a two-column page in small print

_SPECIAL = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "−": "$-$",
        "–": "--",
        "±": r"$\pm$",
        "°": r"$^\circ$",
        "†": r"$\dagger$",
        "·": r"$\cdot$",
        "’": "'",
        "“": "``",
        "”": "''",
        "\u00a0": "~",
        "\n": " ",
    }
)

Head = str | tuple[str, str]


@dataclass(frozen=True)
class Block:
    """A tabular: heads (pairs if one spans several columns) and groups of rows with rules between them.

    Every text is LaTeX already. The first `texts` columns are left-aligned, numbers right-aligned.
    """

    heads: Sequence[Head]
    groups: Sequence[Sequence[Sequence[str]]]
    texts: int


def escaped(text: object) -> str:
    """The text with LaTeX's special characters and control characters escaped."""
    return visible(str(text)).translate(_SPECIAL)


def bold(text: str) -> str:
    """The text in bold."""
    return rf"\textbf{{{text}}}" if text else text


def number(cell: Cell) -> str:
    """A cell: its text, `79.9 (0.1)` with a deviation, bold if it is the best."""
    text = escaped(cell.text)
    if cell.spread is not None and pd.notna(cell.spread):
        text += f" ({cell.spread:.1f})"
    return bold(text) if "best" in cell.marks else text


def table_latex(table: Table) -> str:
    """The table with its caption and label, in several tabulars if it has many columns."""
    caption = " ".join(filter(None, (f"{table.title}.", table.caption, *table.notes)))
    places = [place for place, column in enumerate(table.columns) if column.printed]
    texts = [place for place in places if table.columns[place].kind != "number"]
    numbers = [place for place in places if table.columns[place].kind == "number"]
    leading = places[: len(texts)] == texts  # otherwise the columns keep their order in one tabular
    pairs = any(cell.spread is not None for row in _rows(table) for cell in row.cells)
    chunks = _chunks(numbers, MOST_PAIRS if pairs else MOST_NUMBERS) if leading and numbers else [numbers]
    shown = [[*texts, *chunk] for chunk in chunks] if leading else [places]
    return environment(escaped(caption), table.identifier, *(_block(table, columns) for columns in shown))


def _rows(table: Table) -> Iterator[Row]:
    for body in table.bodies:
        yield from body


def _chunks(values: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    """Parts of about equal length, none longer than `most`."""
    count = -(-len(values) // most)
    size = -(-len(values) // count)
    return (values[start : start + size] for start in range(0, len(values), size))


def _block(table: Table, places: Sequence[int]) -> Block:
    columns = [table.columns[place] for place in places]
    two = any(column.second for column in columns)
    bodies = [body[:1] for body in table.bodies] if table.collapses else list(table.bodies)
    if table.collapses and bodies:
        bodies = [tuple(row for body in bodies for row in body)]
    groups = [[_line(row, places, two) for row in body] for body in (*bodies, table.feet) if body]
    texts = sum(column.kind != "number" for column in columns) + two
    return Block(_heads(columns, two), groups, texts)


def _heads(columns: Sequence[Column], two: bool) -> list[Head]:
    paired = any(column.small for column in columns)
    heads: list[Head] = []
    for column in columns:
        title = escaped(column.title)
        heads.append((title, escaped(column.small[0])) if column.small else ("", title) if paired else title)
        if column.second:
            heads.append(("", escaped(column.second)) if paired else escaped(column.second))
    return heads


def _line(row: Row, places: Sequence[int], two: bool) -> list[str]:
    first, *others = (row.cells[place] for place in places)
    if two:
        names = ["", escaped(first.text)] if "indented" in first.marks else [escaped(first.text), escaped(first.small)]
    else:
        title = ", ".join(filter(None, (first.text, first.small)))
        names = [(r"\quad " if "indented" in first.marks else "") + escaped(title)]
    cells = [*names, *map(number, others)]
    if cells[0].startswith(("[", "*")):  # after `\\` of the row before, they would be its argument
        cells[0] = f"{{}}{cells[0]}"
    if row.kind == "winner":
        return [cell if cell.startswith(r"\textbf") else bold(cell) for cell in cells]
    return cells


def environment(caption: str, label: str, *blocks: Block) -> str:
    """A table with its tabulars one below the other, over both columns of a page if necessary.

    caption: LaTeX; label: any text, without `tab:`.
    """
    label = re.sub(r"[^A-Za-z0-9.]+", "-", label)
    name = "table*" if max(map(_characters, blocks)) > ONE_COLUMN else "table"
    parts = "\n\n\\medskip\n\n".join(map(_tabular, blocks))
    return (
        f"\\begin{{{name}}}[t]\n\\centering\n\\footnotesize\n\\setlength{{\\tabcolsep}}{{4pt}}\n\\caption{{{caption}}}\n"
        f"\\label{{tab:{label}}}\n{parts}\n\\end{{{name}}}\n"
    )


def _characters(block: Block) -> int:
    """The approximate width of a tabular in characters, without markup such as bold."""
    heads = [head if isinstance(head, str) else head[1] for head in block.heads]
    rows = [heads, *(row for group in block.groups for row in group)]
    lengths = [[len(re.sub(r"\\[a-z]+|[{}$\\]", "", cell)) + 1 for cell in row] for row in rows]
    return sum(map(max, zip(*lengths, strict=True)))


def _tabular(block: Block) -> str:
    """The tabular as pandas writes it, one line for each row, with rules between the groups."""
    rows = [row for group in block.groups for row in group]
    heads = pd.MultiIndex.from_tuples(block.heads) if isinstance(block.heads[0], tuple) else pd.Index(block.heads)
    layout = "l" * block.texts + "r" * (len(block.heads) - block.texts)
    styled = pd.DataFrame(rows, columns=heads).style.hide(axis="index")
    lines = styled.to_latex(hrules=True, column_format=layout, multicol_align="c").strip().split("\n")
    place = lines.index(r"\midrule") + 1
    for group in block.groups[:-1]:
        place += len(group)
        lines.insert(place, r"\midrule")
        place += 1
    return "\n".join(lines)

"""Writing the report's tables as CSV and LaTeX."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import read_json, write_json, written
from workflow_scripts.core.visible import visible
from workflow_scripts.reporting import latex
from workflow_scripts.reporting.parts import Section
from workflow_scripts.reporting.report import MODEL
from workflow_scripts.reporting.sections import sheets
from workflow_scripts.reporting.table import Sheet

# First characters of spreadsheet formulas: OWASP, "CSV Injection". The wide forms are those of East Asian keyboards.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
SUFFIXES = (".csv", ".tex")
WRITTEN = ".tables.json"  # names the tables of the last run; other files in the folder belong to the user


def write_tables(sections: list[Section], folder: Path, expected: Iterable[str] = ()) -> list[Path]:
    """Write every sheet as CSV and as LaTeX and return the files. Each is written under a temporary name, then renamed.

    A table from an earlier run that this one does not have is deleted, since it would mislead; other files are kept.

    Args:
        sections: those of the page, whose sheets are written.
        folder: where to write.
        expected: names of tables that are written even without a row, with the header alone.
    """
    tables = sheets(sections)
    for name in expected:
        tables.setdefault(name, Sheet(name, pd.DataFrame(columns=MODEL), ()))
    before = _written_before(folder)
    write_json(folder / WRITTEN, sorted(before | tables.keys()))
    for name in before - tables.keys():
        for suffix in SUFFIXES:
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    files = []
    for name, sheet in tables.items():
        with written(folder / f"{name}.csv") as temporary:
            shown = sheet.frame.map(plain).rename(columns=plain)
            shown.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
        with written(folder / f"{name}.tex") as temporary:
            temporary.write_text(latex.HEAD + _latex(sheet), encoding="utf-8", newline="\n")
        files += [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    write_json(folder / WRITTEN, sorted(tables))
    return files


def plain(value: Any) -> Any:
    """A value that spreadsheets show but do not evaluate: texts that look like formulas get an apostrophe before them.

    Names, labels and ids may be untrusted, and `=HYPERLINK(...)` could leak the content of other cells. These tables
    are for people; programs read the unmodified tables beside them.
    """
    if not isinstance(value, str):
        return value
    if value.startswith(FORMULA):
        try:
            float(value)
        except ValueError:
            value = f"'{value}"
    return visible(value)


def _latex(sheet: Sheet) -> str:
    return "\n".join(latex.table_latex(table) for table in sheet.tables if table.bodies) or latex.EMPTY


def _written_before(folder: Path) -> set[str]:
    """The names of the tables that earlier runs wrote to the folder."""
    try:
        names = set(read_json(folder / WRITTEN))
    except (UserError, TypeError):  # missing or damaged: treat every file as the user's
        return set()
    return {name for name in names if isinstance(name, str) and re.fullmatch(r"\w+", name)}

"""Tables of very many languages: one row per family with its mean, which a click expands to its languages."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from workflow_scripts.reporting.table import Cell, Row
from workflow_scripts.reporting.wording import Names, plural

MOST_COLUMNS = 40  # languages that a table has as columns; more become rows, by family
NO_FAMILY, NO_SCRIPT = "family not known", "script not known"

Grouping = Mapping[str, Sequence[str]]


def by_family(names: Names, languages: Sequence[str]) -> dict[str, list[str]]:
    """The languages of each family, the largest family first, unknown ones last."""
    return _groups(languages, lambda code: names.facts(code).family, NO_FAMILY)


def by_script(names: Names, languages: Sequence[str]) -> dict[str, list[str]]:
    """The languages of each script, the most common first, unknown ones last. Variants of a script are one group."""
    return _groups(languages, lambda code: names.facts(code).base_script, NO_SCRIPT)


def _groups(languages: Sequence[str], key: Callable[[str], str], unknown: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for code in languages:
        found.setdefault(key(code) or unknown, []).append(code)
    return dict(sorted(found.items(), key=lambda pair: (pair[0] == unknown, -len(pair[1]), pair[0])))


def family_bodies(
    names: Names, values: pd.DataFrame, cells: Callable[[pd.Series, bool], Sequence[Cell]]
) -> tuple[tuple[Row, ...], ...]:
    """A body for each family: the row of its means, then a row for each of its languages.

    Args:
        values: one row for each language, by its code, one column for each column of numbers.
        cells: the cells of a row of `values`; True if it is the mean of several languages.

    A family of one language has only the language's row.
    """
    bodies = []
    for family, codes in by_family(names, list(values.index)).items():
        rows = [language_row(names, code, cells(values.loc[code], False)) for code in codes]
        if len(rows) > 1:
            head = Cell(family, small=plural(len(codes), "language"), sort=family)
            mean = Row((head, *cells(values.loc[codes].mean(), True)), kind="family")
            rows = [mean, *rows]
        bodies.append(tuple(rows))
    return tuple(bodies)


def language_row(names: Names, code: str, cells: Sequence[Cell]) -> Row:
    """The row of one language, with its code and script in small print."""
    facts = names.facts(code)
    small = " · ".join(filter(None, (code, facts.script_name)))
    return Row((Cell(names.language(code), small=small, sort=names.language(code)), *cells), "language", code)

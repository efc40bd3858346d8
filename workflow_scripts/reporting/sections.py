"""The sections of the page, in order. A new one is a module in `views/` with `section(report)`, and a line here."""

from collections.abc import Iterator

from workflow_scripts.reporting.parts import Folded, Part, Section
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import Sheet
from workflow_scripts.reporting.views import (
    answer,
    averages,
    calibration,
    corpora,
    costs,
    curves,
    differences,
    distances,
    encoders,
    examples,
    families,
    findings,
    languages,
    oracle,
    problems,
    provenance,
    published,
    ranking,
    representations,
    search,
    shots,
    transfer,
)

VIEWS = (
    answer,
    ranking,
    problems,
    findings,
    differences,
    averages,
    encoders,
    transfer,
    shots,
    languages,
    families,
    distances,
    calibration,
    costs,
    representations,
    examples,
    search,
    curves,
    oracle,
    published,
    corpora,
    provenance,
)


def sections(report: Report) -> list[Section]:
    """The sections that have something to show."""
    return [made for view in VIEWS if (made := view.section(report)) is not None]


def sheets(made: list[Section]) -> dict[str, Sheet]:
    """The tables that are written to files, by the name of the file."""
    return {sheet.name: sheet for section in made for sheet in (*_sheets(section.parts), *section.files)}


def _sheets(parts: tuple[Part, ...]) -> Iterator[Sheet]:
    for part in parts:
        if isinstance(part, Sheet):
            yield part
        elif isinstance(part, Folded):
            yield from _sheets(part.parts)

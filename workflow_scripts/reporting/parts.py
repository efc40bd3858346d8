"""The parts of a section besides tables and charts. Each names the template in `report/parts/` that shows it."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from workflow_scripts.reporting.charts import Plot
from workflow_scripts.reporting.table import Sheet


class Part(Protocol):
    """What a section is made of. `template` is the name of a file in `report/parts/`, without `.html.j2`."""

    template: ClassVar[str]


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        identifier: of the element, for links.
        contents: the entry in the table of contents, if it is not the title.
        entries: (identifier, title) of the parts that the table of contents lists below it.
        count: a number of problems, shown in the table of contents.
        kind: CSS classes.
        files: sheets that are written to files whether or not they are among the parts.
    """

    identifier: str
    title: str
    parts: tuple[Part, ...]
    contents: str = ""
    entries: tuple[tuple[str, str], ...] = ()
    count: int = 0
    kind: str = ""
    files: tuple[Sheet, ...] = ()


@dataclass(frozen=True)
class Text:
    """Paragraphs; `kind` is their CSS class."""

    template: ClassVar[str] = "text"
    paragraphs: tuple[str, ...]
    kind: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    template: ClassVar[str] = "bullets"
    items: tuple[str, ...]


@dataclass(frozen=True)
class Heading:
    """A title within a section."""

    template: ClassVar[str] = "heading"
    title: str


@dataclass(frozen=True)
class Folded:
    """Parts that a click opens."""

    template: ClassVar[str] = "folded"
    title: str
    parts: tuple[Part, ...]
    kind: str = "sheet"
    opened: bool = False


@dataclass(frozen=True)
class Plots:
    """Small charts side by side; `key`: the CSS class and name of each colour; `kind`: a CSS class."""

    template: ClassVar[str] = "plots"
    plots: tuple[Plot, ...]
    key: tuple[tuple[str, str], ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Record:
    """Any nested record as a list of names and values."""

    template: ClassVar[str] = "record"
    value: Any
    kind: str = ""


@dataclass(frozen=True)
class Code:
    """A verbatim text, such as a configuration."""

    template: ClassVar[str] = "code"
    text: str


def lead(text: str) -> Text:
    """The paragraph that says how to read what follows."""
    return Text((text,), "lead")


def paragraph(text: str) -> Text:
    """A plain paragraph."""
    return Text((text,))

"""A source of rows, and the description of one corpus: one split of a task in one language.

`Source` is a section of a task file. `Corpus` is what `fetch_corpus` gets: the keys of the source that apply to the
split, with every placeholder's value.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from workflow_scripts.core.section import Boolean, Count, Distinct, PositiveNumber, Section, Text, about
from workflow_scripts.core.settings import StepSettings

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SourceType = Literal["files", "url", "hub", "mini", "universal_dependencies"]
# A number for each split, the same in every language or by language.
RowCounts = dict[Split, Count | dict[Text, Count]]
Lengths = dict[Split, PositiveNumber | dict[Text, PositiveNumber]]
Column = Annotated[Text | int | Annotated[list[Text | int], Field(min_length=1)], about("sentence1")]


class Reading(Section):
    """How files are read, and what their columns mean. A split can override each key of its source."""

    path: Annotated[Text | None, about("data/{language}/{split}.csv")] = None
    """The file. `{language}` and `{split}` are filled in; `*` takes several files in sorted order. A relative path
    starts at the folder of the task file (or at the working folder, for a task within the configuration), or at
    `path` of the task or of `corpora` in the configuration. In a Hub repository it starts at its root."""

    repository: Annotated[Text | None, about("google/xquad")] = None
    """The dataset's repository on the Hugging Face Hub."""

    revision: Annotated[Text | None, about("51adfef1c1287aab1d2d91b5bead9bcfb9c68583")] = None
    """The repository's commit, tag or branch. Name a commit if others are to reproduce your results."""

    url: Annotated[Text | None, about("https://example.org/{language}/{split}.tsv")] = None
    """The file's address. `{language}` and `{split}` are filled in."""

    sha256: Annotated[dict[str, Text] | Text | None, about({"https://example.org/de/test.tsv": "9f86d0..."})] = None
    """The SHA-256 checksum of the file, or of each file by its address. Different content is refused."""

    corpus: Annotated[Text | None, about("pawsx")] = None
    """The corpus of the mini benchmark."""

    format: Annotated[
        Literal["csv", "tsv", "json_lines", "json", "squad", "parquet", "conll", "conllu"] | None, about("tsv")
    ] = None
    """The files' format. `null` takes it from the file's suffix."""

    header: Annotated[Boolean | None, about(False)] = None
    """Whether the first line of a CSV or TSV file names the columns. Without a header, columns are numbered from 1.
    `null`: the columns that the task names decide (all of them numbers: no header)."""

    quoted: Annotated[Boolean | None, about(False)] = None
    """Whether quotes around a field have their CSV meaning. `null`: in CSV, not in TSV."""

    delimiter: Annotated[Text | None, about(";")] = None
    """What separates columns. `null`: a comma in CSV, a tab in TSV, white space in CoNLL."""

    comments: Annotated[Text | None, about("#")] = None
    """The prefix of lines to skip, in CoNLL files."""

    scheme: Annotated[Literal["iob1", "iob2", "bioes"], about("bioes")] = "iob2"
    """The scheme of entity tags in the files. They are converted to IOB2."""

    repair: Annotated[Boolean, about(True)] = False
    """Whether to repair invalid entity tags (an inside tag that follows nothing becomes a begin tag) and to report
    their number. `false` refuses them."""

    columns: Annotated[dict[str, Column], about({"text": "premise", "text_pair": "hypothesis", "label": "label"})] = {}
    """For each column of a row, the column in the files: a name, or a number where there is no header. A dot reaches
    into nested columns. A list of columns becomes a list of values."""

    group: Annotated[Text | int | None, about("passage_id")] = None
    """The column whose value is shared by rows that are not independent of each other, such as the number of a passage.
    `null`: the kind decides, such as the context of questions."""

    codes: Annotated[dict[str, Text], about({"en": "english"})] = {}
    """The text that replaces `{language}` in paths, addresses and `where`. Without one, it is the language's code."""

    where: Annotated[dict[str, Text], about({"id": "{language}-*"})] = {}
    """Keep only the records whose column matches a pattern, in which `*` is any text. `{language}` and `{split}` are
    substituted, so one file can hold all languages or splits."""

    drop: Annotated[dict[str, Text], about({"text": "NS"})] = {}
    """Rows to exclude from training: those with this text in this column."""

    values: Annotated[dict[str, dict[str, Text]], about({"label": {"contradictory": "contradiction"}})] = {}
    """Other spellings of the values of a row's column."""

    first_label: Annotated[int, about(1)] = 0
    """The number of the first label or choice, where files have numbers. Where the task's labels are numbers
    themselves, a number in a file is a label's name."""

    repeated_ids: Annotated[Literal["refuse", "number"], about("number")] = "refuse"
    """What to do with different rows of one id: `refuse` the file, or `number` them (`7`, `7-2`). Rows that occur twice
    are then left out."""

    @model_validator(mode="after")
    def _placeholders(self) -> Self:
        """Only known placeholders are used."""
        patterns = {"path": self.path, "url": self.url} | {f"where.{name}": text for name, text in self.where.items()}
        for key, pattern in patterns.items():
            for found in re.findall(r"\{(\w*)\}", pattern or ""):
                if found not in ("language", "split"):
                    raise ValueError(f"{key}: {{{found}}} is not a placeholder; use {{language}} or {{split}}")
        return self


class Cut(Section):
    """A split that is cut from another one, whose rows it then lacks."""

    cut_from: Annotated[Split, Field(alias="from"), about("train")]
    """The split that it is cut from."""

    share: Annotated[float, Field(ge=0.01, le=0.99), about(0.1)] = 0.1
    """The share of the rows, rounded to whole percent. Several splits may be cut from one."""

    group_by: Annotated[Text | list[Text] | None, about("title")] = None
    """The column whose equal values stay in one split. If there are several, the first one that a record has. `null`:
    the column `group` of the rows."""


class SplitReading(Reading):
    """A split with its own keys."""

    name: Annotated[Text | None, about("dev")] = None
    """The text that replaces `{split}`."""

    task: Annotated[Text | None, about("xnli")] = None
    """Another task, whose split this is."""


def _entry_type(entry: Any) -> str:
    if isinstance(entry, Cut) or (isinstance(entry, dict) and ("from" in entry or "cut_from" in entry)):
        return "cut"
    return "name" if isinstance(entry, str) else "reading"


SplitEntry = Annotated[
    Annotated[Text, Tag("name")] | Annotated[Cut, Tag("cut")] | Annotated[SplitReading, Tag("reading")],
    Discriminator(_entry_type),
]


class Source(Reading):
    """Where the rows of a task come from."""

    type: Annotated[SourceType, about("files")] = "files"
    """Files in a folder, files at an address, a dataset of the Hugging Face Hub, the mini benchmark, or UD-POS as
    XTREME made it from Universal Dependencies."""

    languages: Annotated[Annotated[list[Text], *Distinct] | None, about(["en", "de"])] = None
    """The languages of this source, if it lacks some of the task's. `null` is all of them."""

    train_languages: Annotated[Annotated[list[Text], *Distinct] | None, about(["en"])] = None
    """The languages of this source with a training set, if they are not the task's."""

    rows: Annotated[RowCounts, about({"train": 2400, "validation": 300, "test": 300}, unit="rows")] = {}
    """How many rows the splits of this source have, if they are not as many as the task says."""

    length: Annotated[Lengths, about({"train": 26, "validation": 27, "test": 32}, unit="tokens")] = {}
    """The mean length of this source's rows, if it is not the task's."""

    splits: dict[Split, SplitEntry] = {split: split for split in SPLITS}
    """The splits: each has the text that replaces `{split}`, or keys of its own, or is cut from another split."""


# The keys that say where the files of a source are; it needs one of them.
def merged(source: Source, entry: "str | SplitReading") -> Reading:
    """The keys of a source that apply to a split."""
    keys = source.model_dump(exclude_unset=True, include=set(Reading.model_fields))
    if isinstance(entry, SplitReading):
        keys |= entry.model_dump(exclude_unset=True, include=set(Reading.model_fields))
    return Reading(**keys)


class Corpus(StepSettings):
    """One split of a task in one language: everything that determines its rows.

    Attributes:
        task: the task's name, for messages.
        kind, labels: the task's.
        language: the language's code in paths and tables.
        split: the split of the experiment.
        limit: the maximum number of rows; None for all. They are a random sample in file order, always the same, and a
            subset of that of any greater limit. In validation and test sets the ids determine the sample, so that
            parallel sets stay parallel.
        parallel: whether ids are shared across languages; without an id column they are then the rows' numbers.
        type: the type of the source.
        part: the value of `{split}` in paths.
        folder: where relative paths start.
        reading: how files are read.
        kept: which part of the rows of the files belongs to the corpus, where splits are cut from another: ranges in
            percent, such as [0, 10]. None is all rows.
        group_by: the columns whose equal values keep rows on one side of a cut; see `Cut`.
    """

    task: str
    kind: str
    labels: list[str]
    language: str
    split: Split
    limit: int | None
    parallel: bool
    type: SourceType
    part: str
    folder: str
    reading: Reading
    kept: list[list[int]] | None = None
    group_by: list[str] = []

    @property
    def dataset_code(self) -> str:
        """The dataset's code for the language."""
        return self.reading.codes.get(self.language, self.language)

    @property
    def name(self) -> str:
        """The corpus in messages: `xnli, de, test`."""
        return f"{self.task}, {self.language}, {self.split}"

    def filled(self, pattern: str) -> str:
        """A path or pattern with the language and the split filled in."""
        return pattern.replace("{language}", self.dataset_code).replace("{split}", self.part)

"""What a source of rows is, and the description of one corpus: one split of a task in one language.

`Source` is a section of a task file. `Corpus` is what `fetch_corpus` gets: the keys of the source that apply to the
split, with every placeholder's value.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from workflow_scripts.experiment.section import Boolean, Section, Text, about

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SourceType = Literal["files", "url", "hub", "mini", "universal_dependencies"]
Column = Annotated[Text | int | list[Text | int], about("sentence1")]


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
    """The SHA-256 checksum of the file, or of each file by its address. Another content is refused."""

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
    """Whether quotes around a field have the meaning that they have in CSV files. `null`: in CSV, not in TSV."""

    delimiter: Annotated[Text | None, about(";")] = None
    """What separates columns. `null`: a comma in CSV, a tab in TSV, white space in CoNLL."""

    comments: Annotated[Text | None, about("#")] = None
    """What lines begin with that are skipped, in CoNLL files."""

    scheme: Annotated[Literal["iob1", "iob2", "bioes"], about("bioes")] = "iob2"
    """The scheme of entity tags in the files. They are converted to IOB2."""

    repair: Annotated[Boolean, about(True)] = False
    """Whether to repair invalid entity tags (an inside tag that follows nothing becomes a begin tag) and to report
    their number. `false` refuses them."""

    columns: Annotated[dict[str, Column], about({"text": "premise", "text_pair": "hypothesis", "label": "label"})] = {}
    """For each column of a row, the column in the files: a name, or a number where there is no header. A dot reaches
    into nested columns. A list of columns becomes a list of values."""

    group: Annotated[Text | int | None, about("passage_id")] = None
    """The column whose value rows share that are not independent of each other, such as the number of a passage.
    `null`: the kind decides, such as the context of questions."""

    codes: Annotated[dict[str, Text], about({"en": "english"})] = {}
    """What `{language}` stands for in paths, addresses and `where`, where it is not the language's code."""

    where: Annotated[dict[str, Text], about({"id": "{language}-*"})] = {}
    """Keep only the records whose column matches a pattern, in which `*` is any text. `{language}` and `{split}` are
    filled in: so one file can hold all languages or splits."""

    drop: Annotated[dict[str, Text], about({"text": "NS"})] = {}
    """Rows to leave out of training: those with this text in this column."""

    values: Annotated[dict[str, dict[str, Text]], about({"label": {"contradictory": "contradiction"}})] = {}
    """For a column of a row, other spellings of its values."""

    first_label: Annotated[int, about(1)] = 0
    """The number of the first label or choice, where files have numbers. Where the task's labels are numbers
    themselves, a number in a file is a label's name."""

    repeated_ids: Annotated[Literal["refuse", "number"], about("number")] = "refuse"
    """What to do with different rows of one id: `refuse` the file, or `number` them (`7`, `7-2`). Rows that are there
    twice are left out then."""

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

    share: Annotated[float, Field(gt=0, lt=1, multiple_of=0.01), about(0.1)] = 0.1
    """The share of the rows, in whole percent."""

    group_by: Annotated[Text | list[Text] | None, about("title")] = None
    """The column whose equal values stay in one split. Of several, the first that a record has. `null`: the column
    `group` of the rows."""


class SplitReading(Reading):
    """A split with its own keys."""

    name: Annotated[Text | None, about("dev")] = None
    """What `{split}` stands for."""

    task: Annotated[Text | None, about("xnli")] = None
    """Another task, whose split this is."""


class Source(Reading):
    """Where the rows of a task come from."""

    type: Annotated[SourceType, about("files")] = "files"
    """Files in a folder, files at an address, a dataset of the Hugging Face Hub, the mini benchmark, or UD-POS as
    XTREME made it from Universal Dependencies."""

    languages: Annotated[list[Text] | None, about(["en", "de"])] = None
    """The languages of this source, if it lacks some of the task's. `null` is all of them."""

    train_languages: Annotated[list[Text] | None, about(["en"])] = None
    """The languages of this source with a training set, if they are not the task's."""

    splits: dict[Split, Text | Cut | SplitReading] = {split: split for split in SPLITS}
    """The splits: what `{split}` stands for, or the keys that differ for a split, or a cut from another one."""


# The keys that say where the files of a source are; it needs one of them.
PLACES = {"files": ("path",), "url": ("url",), "hub": ("repository", "path")}


def problems(source: Source, languages: dict[Split, list[str]]) -> Iterator[str]:
    """What is wrong with a source of a task that has these languages in each split."""
    for split, entry in source.splits.items():
        part = source.splits[entry.cut_from] if isinstance(entry, Cut) else entry
        if isinstance(part, Cut):
            yield f"splits.{split}: it is cut from {entry.cut_from}, which is itself cut"  # type: ignore[union-attr]
            continue
        reading = merged(source, part)
        needed = PLACES.get(source.type, ())
        if missing := [key for key in needed if getattr(reading, key) is None]:
            yield f"{missing[0]}: a source of the type {source.type} needs it for the split {split}"
            continue
        places = [getattr(reading, key) for key in needed] + list(reading.where.values())
        if needed and len(languages[split]) > 1 and not any("{language}" in place for place in places):
            yield (
                f"splits.{split}: {', '.join(languages[split][:5])} would all have the same rows: use {{language}} in"
                f" {needed[-1]}, or in a pattern of `where`"
            )


def merged(source: Source, entry: "str | SplitReading") -> Reading:
    """The keys of a source that apply to a split."""
    keys = source.model_dump(exclude_unset=True, include=set(Reading.model_fields))
    if isinstance(entry, SplitReading):
        keys |= entry.model_dump(exclude_unset=True, include=set(Reading.model_fields))
    return Reading(**keys)


class Corpus(BaseModel):
    """One split of a task in one language: everything that decides its rows.

    Attributes:
        task: the task's name, for messages.
        kind, labels: the task's.
        language: the language's code in paths and tables.
        split: the split of the experiment.
        limit: the most rows; None for all. Of train a random sample in file order, always the same, and within that of
            any greater limit; of validation and test the first rows, so that parallel sets stay parallel.
        parallel: whether ids are shared across languages; without an id column they are then the rows' numbers.
        type: the type of the source.
        part: what `{split}` is in paths.
        folder: where relative paths start.
        reading: how files are read.
        cut: `held_out` for the rows that a cut takes from the files, `rest` for those that it leaves, or None.
        share, group_by: of the cut; see `Cut`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

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
    cut: Literal["held_out", "rest"] | None = None
    share: float = 0.0
    group_by: list[str] = []

    @property
    def code(self) -> str:
        """The language as the dataset writes it."""
        return self.reading.codes.get(self.language, self.language)

    @property
    def name(self) -> str:
        """The corpus in messages: `xnli, de, test`."""
        return f"{self.task}, {self.language}, {self.split}"

    def filled(self, pattern: str) -> str:
        """A path or pattern with the language and the split filled in."""
        return pattern.replace("{language}", self.code).replace("{split}", self.part)

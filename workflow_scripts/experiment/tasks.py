"""Tasks: a dataset with its interpretation, as data. One YAML file each, in `tasks/` or from the user.

A task file names the kind of the task, its labels and languages, and one or more *sources* of its rows. `resolve` turns
a source, a language and a split into the description of one corpus, which is all that `fetch_corpus` needs.
"""

import itertools
import os
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ValidationError, WithJsonSchema, model_validator

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.problems import nearest, problem_lines
from workflow_scripts.core.section import Boolean, Count, Distinct, Section, Text, about, distinct
from workflow_scripts.core.yaml_text import read_yaml
from workflow_scripts.corpora.description import (
    SPLITS,
    Corpus,
    Cut,
    Lengths,
    RowCounts,
    Source,
    Split,
    SplitReading,
    merged,
)
from workflow_scripts.experiment.source_checks import problem_of
from workflow_scripts.kinds import KINDS, SUFFIX, part, template_fields
from workflow_scripts.kinds.protocol import PARTS, Metric
from workflow_scripts.kinds.template import problem


def _spelled(value: Any) -> Any:
    """A number as YAML writes it; any other value unchanged."""
    try:
        return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else value
    except OverflowError:  # a whole number larger than any float: not a string, so it is rejected
        return value


# A validator accepts more than the type says, so the JSON Schema must say it as well.
Label = Annotated[
    Text,
    BeforeValidator(_spelled),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "number"}]}),
]
FOLDER = Path(__file__).resolve().parents[2] / "tasks"


class WordsSection(Section):
    """How a row is put as text."""

    template: Annotated[Text, about("{text}\nTopic: {answer}")]
    """The text, with `{answer}` in the place of the answer, and the row's texts: `{text}` and `{text_pair}`, for
    multiple choice `{text}` and `{question}`, or for question answering `{context}` and `{question}`. Decoders need the
    answer at the end."""

    answers: Annotated[dict[Label, Text], about({"entailment": "Yes", "neutral": "Maybe", "contradiction": "No"})] = {}
    """The words for each label. A label that is missing is its own answer."""

    new_tokens: Annotated[Count, about(16, unit="tokens")] = 32
    """The maximum number of tokens of a generated answer, as for question answering. A generated answer also ends at
    the end token and at a line break. In a decoder, this much of `max_length` is reserved for the answer."""


class TaskDefinition(Section):
    """A dataset with its interpretation."""

    title: Annotated[Text, about("SIB-200")]
    """The name that readers know."""

    kind: Annotated[Text, about("classification")]
    """What kind of task it is: `classification`, `tagging`, `entities`, `question_answering`, `multiple_choice`,
    `regression`, or the path of a Python file with your own kind."""

    labels: Annotated[list[Label], AfterValidator(distinct), about(["entailment", "neutral", "contradiction"])] = []
    """The closed set of labels, tags or entity types, in the order of the model's outputs."""

    languages: Annotated[list[Text], *Distinct, about(["en", "de", "zho_Hans"])]
    """The languages of the test sets, in the order of tables: BCP 47 codes, with the script where the dataset has
    it."""

    train_languages: Annotated[Annotated[list[Text], *Distinct] | None, about(["en"])] = None
    """The languages with a training and a validation set. `null` is all of `languages`."""

    parallel: Annotated[Boolean | Literal["partly"], about(True)] = False
    """Whether rows with the same id are translations of each other. `partly`: some languages lack some rows."""

    inputs: Annotated[list[Text], about(["Premise", "Hypothesis"])] = []
    """The names of the texts of a row in the report. Empty: those of the kind."""

    trains_on: Annotated[Text | None, about("MultiNLI")] = None
    """The name of the training corpus in the report. `null` is the title."""

    words: WordsSection | None = None
    """How a row is put as text, for `answers: words`."""

    normalisation: Annotated[Literal["squad", "mlqa"], about("mlqa")] = "squad"
    """How answers are compared: as in SQuAD 1.1 for every language, or by MLQA's rules for each language."""

    rows: Annotated[RowCounts, about({"train": 701, "validation": 99, "test": {"en": 204}}, unit="rows")] = {}
    """How many rows the complete splits have, in every language or by language, before other splits are cut from them.
    The time estimate needs them, and the report says where the actual number differs."""

    length: Annotated[Lengths, about({"train": 45, "validation": 45, "test": {"en": 45, "de": 54}}, unit="tokens")] = {}
    """The mean length of a row as model input, in every language or by language: all its texts, including all choices,
    in tokens of XLM-R's vocabulary. The time estimate needs it."""

    licence: Annotated[Text | None, about("CC BY-SA 4.0")] = None
    """The dataset's licence."""

    commercial: Annotated[Boolean | None, about(False)] = None
    """Whether the licence permits commercial use. `null` is not known."""

    citation: Annotated[Text | None, about("Adelani et al. (2024)")] = None
    """What to cite."""

    url: Annotated[Text | None, about("https://github.com/dadelani/sib-200")] = None
    """The dataset's home page."""

    paper_table: Annotated[Count | None, about(5)] = None
    """The table of Tu, Xiong and Zhou (2022) that shows its scores by language."""

    analysed: Annotated[Boolean, about(True)] = False
    """Whether the representation analysis uses its test sets."""

    untranslated: Annotated[Text | None, about("NS")] = None
    """The text of rows that have no translation. The representation analysis excludes them."""

    source: Source | None = None
    """Where its rows come from, if there is one source."""

    sources: dict[Text, Source] = {}
    """Several sources, by names of your choice. `corpora.source` in the configuration chooses; a task without that
    source uses its first one."""

    folder: Text = "."
    """The folder that relative paths are relative to. `null`: the folder of the task's file, or the working folder for
    a task that is described in the configuration."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """The kind exists and has the labels that it needs, and there is a source."""
        if not self.kind.endswith(SUFFIX) and self.kind not in KINDS:
            raise ValueError(f"kind: found {self.kind!r}{nearest(self.kind, [*KINDS, 'a Python file (.py)'])}")
        if self.kind.endswith(SUFFIX):
            for name in (*PARTS, "ceiling") if self.facts.BOUNDED else PARTS:
                part(self.kind, name)  # raises UserError if the file lacks a name
        if self.facts.NEEDS_LABELS and len(set(self.labels)) < 2:
            raise ValueError(f"labels: found {self.labels}; a task of the kind {self.kind} needs two or more")
        if self.words is not None:
            self._check_words(self.words)
        if check_labels := getattr(part(self.kind, "rows"), "check_labels", None):
            check_labels(self.labels)
        if self.source is not None:
            if self.sources:
                raise ValueError("source: found together with sources; keep one of them")
            self.sources, self.source = {"own": self.source}, None
        if not self.sources:
            raise ValueError("source: this key is required, or sources")
        for name, source in self.sources.items():
            where = "source" if name == "own" else f"sources.{name}"
            tested = source.languages or self.languages
            trained = source.train_languages or self.train_in()
            if problem := problem_of(source, {"train": trained, "validation": trained, "test": tested}):
                raise ValueError(f"{where}.{problem}")
        return self

    def _check_words(self, words: WordsSection) -> None:
        """The template has fields of the kind, and each label has words of its own."""
        allowed = template_fields(self.kind)
        if not allowed:
            raise ValueError(f"words: tasks of the kind {self.kind} have no answers in words")
        if found := problem(words.template, allowed):
            raise ValueError(f"words.template: {found}")
        # The default is allowed: a definition that is stored and read again has all keys.
        changed = words.new_tokens != WordsSection.model_fields["new_tokens"].default
        if changed and not self.generates:
            raise ValueError(f"words.new_tokens: tasks of the kind {self.kind} choose an answer and generate none")
        if unknown := [label for label in words.answers if label not in self.labels]:
            raise ValueError(f"words.answers: found {unknown[0]!r}{nearest(unknown[0], self.labels)}")
        answers = [words.answers.get(label, label) for label in self.labels]
        if twice := next((answer for answer in answers if answers.count(answer) > 1), None):
            raise ValueError(f"words.answers: {twice!r} is the answer of two labels")

    @property
    def facts(self) -> Any:
        """The facts of its kind (`kinds.protocol.Facts`)."""
        return part(self.kind, "facts")

    @property
    def generates(self) -> bool:
        """Whether its answers in words are generated, not chosen."""
        return getattr(self.facts, "GENERATES", False)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The scores, the main one first."""
        metrics: tuple[Metric, ...] = self.facts.METRICS
        return metrics

    @property
    def texts(self) -> list[str]:
        """What a reader calls the texts of a row."""
        return self.inputs or list(self.facts.INPUTS)

    @property
    def training_corpus(self) -> str:
        """The training corpus, as the report names it."""
        return self.trains_on or self.title

    def train_in(self) -> list[str]:
        """The languages with a training set."""
        return self.languages if self.train_languages is None else self.train_languages

    def expected_rows(self, split: Split, language: str, source: str | None = None) -> int | None:
        """How many rows a complete split has, before cuts; None if neither the task nor the source says."""
        known = (self.sources[source].rows if source else {}) or self.rows
        count = known.get(split)
        return count.get(language) if isinstance(count, dict) else count

    def mean_length(self, split: Split, language: str, source: str | None = None) -> float | None:
        """The mean length of a split's rows in tokens; None if neither the task nor the source says."""
        known = (self.sources[source].length if source else {}) or self.length
        length = known.get(split)
        return length.get(language) if isinstance(length, dict) else length

    def other_length(self, split: Split, source: str | None = None) -> float | None:
        """The mean length of rows in the split's other languages, or else in other splits; None if none is known."""
        known = (self.sources[source].length if source else {}) or self.length
        for lengths in (known.get(split), *known.values()):
            if lengths:
                return mean(lengths.values()) if isinstance(lengths, dict) else lengths
        return None


def names_of_builtin_tasks() -> list[str]:
    """The tasks in `tasks/`, in alphabetical order."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


@cache
def builtin_values(name: str) -> dict[str, Any]:
    """The content of a built-in task's file. Its relative paths start at the working folder.

    The folder of this project must not become a setting: a copy of the project elsewhere would rerun everything.
    """
    return read_values(FOLDER / f"{name}.yaml") | {"folder": "."}


def read_values(file: Path) -> dict[str, Any]:
    """The content of a task file. Raises UserError that names the file and the line."""
    values = read_yaml(file)
    if not isinstance(values, dict):
        raise UserError(f"{file}: not a task file: it must have keys such as title and kind")
    kind = values.get("kind")
    if isinstance(kind, str) and kind.endswith(SUFFIX):  # relative to the task file, as its paths
        values["kind"] = os.path.normpath(file.parent / kind)
    return {"folder": str(file.parent), **values}


@cache
def builtin(name: str) -> TaskDefinition:
    """A built-in task. Raises UserError if its file is wrong."""
    try:
        return TaskDefinition.model_validate(builtin_values(name))
    except ValidationError as error:
        lines = problem_lines(error, builtin_values(name), keys_of_task)
        raise UserError("\n".join(f"tasks/{name}.yaml: {line}" for line in lines)) from None


def keys_of_task(path: list[str], section: Any) -> list[str]:
    """The keys that are allowed in a section of a task file."""
    match path:
        case []:
            return list(TaskDefinition.model_fields)
        case ["words"]:
            return list(WordsSection.model_fields)
        case ["source"] | ["sources", _]:
            return list(Source.model_fields)
        case [*_, "splits"]:
            return list(SPLITS)
        case [*_, "splits", _]:
            model = Cut if isinstance(section, dict) and "from" in section else SplitReading
            return [field.alias or name for name, field in model.model_fields.items()]
    return []


def resolve(
    name: str,
    definition: TaskDefinition,
    source_name: str,
    language: str,
    split: str,
    limit: int | None = None,
    folder: str | None = None,
    cut_in_use: bool = True,
) -> Corpus:
    """The description of one corpus.

    Args:
        name, definition: the task.
        source_name: one of `definition.sources`.
        language, split: of the corpus.
        limit: the most rows.
        folder: where relative paths start; None is the task's own folder.
        cut_in_use: whether the rows that a cut takes from this split are used as that other split.
    """
    source = definition.sources[source_name]
    entry, kept, group_by = source.splits[split], None, None  # type: ignore[index]
    if isinstance(entry, Cut):
        kept, group_by = [_range_of(source, split)], entry.group_by
        entry = source.splits[entry.cut_from]
    elif cuts := [name for name in _cuts_from(source, split) if cut_in_use or name != "validation"]:
        taken = [[0, 0], *(_range_of(source, name) for name in cuts), [100, 100]]
        kept = [[stop, start] for (_, stop), (start, _) in itertools.pairwise(taken) if stop < start]
        group_by = source.splits[cuts[0]].group_by  # type: ignore[index, union-attr]
    part = entry if isinstance(entry, str) else entry.name or split  # type: ignore[union-attr]
    return Corpus(
        task=name,
        kind=definition.kind,
        labels=definition.labels,
        language=language,
        split=split,  # type: ignore[arg-type]
        limit=limit,
        parallel=bool(definition.parallel),
        type=source.type,
        part=part,
        # Of other types a folder would be a setting without effect, and a task file that is moved would rerun jobs.
        folder=(folder or definition.folder) if source.type == "files" else ".",
        reading=merged(source, entry),  # type: ignore[arg-type]
        kept=kept,
        group_by=_as_list(group_by),
    )


def _cuts_from(source: Source, split: str) -> list[str]:
    """The splits that are cut from a split, in their order in the task file."""
    return [name for name, entry in source.splits.items() if isinstance(entry, Cut) and entry.cut_from == split]


def _range_of(source: Source, split: str) -> list[int]:
    """The part of its files that a cut takes, in percent: cuts from one split take parts that follow one another."""
    entry, start = source.splits[split], 0  # type: ignore[index]
    assert isinstance(entry, Cut)
    for name in _cuts_from(source, entry.cut_from):
        other = source.splits[name]  # type: ignore[index]
        assert isinstance(other, Cut)
        stop = start + round(100 * other.share)
        if name == split:
            return [start, stop]
        start = stop
    raise AssertionError("a split is among those that are cut from its own source")


def _as_list(names: str | list[str] | None) -> list[str]:
    return [] if names is None else [names] if isinstance(names, str) else names

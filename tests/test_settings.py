"""The settings of steps: composed by `experiment/settings.py`, read as frozen objects of the steps' classes."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from own_task import own_grid, write_own_task
from pydantic import ValidationError
from snakemake_runs import ROOT

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.settings import StepSettings, given
from workflow_scripts.experiment.catalogue import METHODS
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.jobs import all_jobs
from workflow_scripts.kinds import KINDS
from workflow_scripts.tuning.settings import SearchSettings, TrainingSettings

PACKAGE = ROOT / "workflow_scripts"
OF_EACH_KIND = {
    "xnli": {"languages": ["en"]},
    "udpos": {"languages": ["en"], "labelled_subword": "first_visible"},
    "xquad": {"languages": ["en"], "stride": 8},
    "mlqa": {"languages": ["en"]},
    "masakhaner": {"languages": ["hau"], "train_on": ["hau"]},
    "belebele": {"languages": ["eng_Latn"], "train_on": ["eng_Latn"]},
    "stsb_multi_mt": {"languages": ["en"]},
}


def class_of(step: str) -> type[StepSettings]:
    """The class of a step's settings, as its command line parses them."""
    (action,) = (one for one in import_module(f"workflow_scripts.{step}").parser()._actions if one.dest == "settings")
    found: type[StepSettings] = action.type.__self__
    return found


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, dict[str, Any]]]:
    """The steps and settings of all jobs of three configurations, as a step reads them: every kind, method, source."""
    folder = tmp_path_factory.mktemp("own task")
    own = own_grid(folder, write_own_task(folder))
    own["tasks"]["mood"]["shots"] = [0, 4]
    own["methods"]["fine_tuning"]["learning_rates"] = [1e-4, 1e-3]
    (folder / "mine.py").write_text("")
    own["methods"] |= {"mine": {"module": "mine.py"}, "ia3": {"peft": {"peft_type": "IA3"}}}
    own["arms"] = {"llama": {"predictions": "llama", "tasks": {"mood": {}}}}
    own["oracle"] = True
    own["training"] |= {"schedule": "exponential", "keep": "average"}
    own["search"] = {"halving": 2, "over": {"dropout": [0, 0.1]}}
    hub = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")) | {
        "encoders": {
            "here": {"source": "folder", "path": str(folder)},
            "there": {"source": "hub", "repository": "a/b", "revision": "main", "layers": 2},
            "installed": {"source": "package", "packages": ["some==1.0"], "files": "*.gguf", "sha256": "0" * 64},
        },
        "corpora": {"source": "hub"},
        "methods": {method: {} for method in METHODS},
        "tasks": OF_EACH_KIND,
        "search": {"over": {"dropout": [0, 0.1]}},
    }
    mini = yaml.safe_load((ROOT / "configs/mini.yaml").read_text(encoding="utf-8"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = [
            (job.step, json.dumps(job.settings, sort_keys=True))
            for values in (own, hub, mini)
            for job in all_jobs(load(values))
        ]
    return [(step, json.loads(text)) for step, text in dict.fromkeys(found)]


def first_of(jobs: list[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """One job of each step."""
    yield from dict(jobs).items()


def test_the_jobs_cover_every_step_kind_method_and_optional_key(jobs):
    steps = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__", "verify", "export"}
    assert {step for step, _ in jobs} == steps - {"export_winner"}  # `snakemake export` asks for it
    trainings = [settings for step, settings in jobs if step == "train"]
    assert {settings["kind"] for settings in trainings} == set(KINDS)
    assert {settings["method"] for settings in trainings} == {*METHODS, "mine", "ia3"}
    keys: dict[type[StepSettings], set[str]] = {}
    for step, settings in jobs:
        keys.setdefault(class_of(step), set()).update(settings)
    del keys[SearchSettings]  # no search adds rows of a target language; the others are those of `train`
    keys[TrainingSettings].add("micro_batch_size")  # in an environment variable: it reruns nothing
    assert {each: {*each.model_fields} for each in keys} == keys
    assert {"passes", "halving"} <= {key for step, settings in jobs if step == "search" for key in settings}


def test_every_job_has_exactly_the_settings_that_its_step_reads(jobs):
    for step, settings in jobs:
        assert class_of(step).parsed(json.dumps(settings)).as_json() == settings


def test_unknown_keys_are_refused_in_one_line(jobs):
    for step, settings in first_of(jobs):
        with pytest.raises(UserError, match=r"^--settings: epocs is an unknown key; allowed: code, .*[^\n]$"):
            class_of(step).parsed(json.dumps(settings | {"epocs": 1}))


def test_missing_keys_are_refused_in_one_line(jobs):
    for step, settings in first_of(jobs):
        for key, field in class_of(step).model_fields.items():
            if field.is_required():
                rest = {name: value for name, value in settings.items() if name != key}
                with pytest.raises(UserError, match=rf"^--settings: {key} is missing$"):
                    class_of(step).parsed(json.dumps(rest))


def test_values_of_another_type_are_refused_in_one_line():
    text = json.dumps({"candidates": ["high"]})
    with pytest.raises(UserError, match=r"^--settings: candidates\.0: found 'high'; input should be a valid dict"):
        class_of("select").parsed(text)


def test_settings_are_frozen(jobs):
    for step, settings in first_of(jobs):
        found = class_of(step).parsed(json.dumps(settings))
        for key in settings:
            with pytest.raises(ValidationError, match="frozen"):
                setattr(found, key, None)


def test_changed_settings_are_a_copy_that_is_checked(jobs):
    (values, *_) = (settings for step, settings in jobs if step == "train")
    settings = TrainingSettings.read(values, "here")
    assert settings.changed(seed=7).as_json() == values | {"seed": 7}
    assert settings.as_json() == values
    for changes in ({"sede": 7}, {"seed": "seven"}):
        with pytest.raises(ValidationError):
            settings.changed(**changes)


def test_an_optional_key_is_missing_where_it_is_needed():
    assert given(0, "stride") == 0
    with pytest.raises(UserError, match=r"^--settings: stride is missing$"):
        given(None, "stride")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--settings", "{"], "--settings: '{' is not JSON: Expecting property name"),
        (["--settings", "[]"], "--settings: input should be a valid dictionary"),
        (["--settings", "{}"], "--settings: candidates is missing"),
    ],
)
def test_a_step_with_wrong_settings_ends_in_one_line(words, problem, tmp_path):
    command = [sys.executable, "-m", "workflow_scripts.select", "--selected", "selected.json", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: {problem}")
    assert list(tmp_path.iterdir()) == []


# Settings in the code

# The common step code passes settings of any class to the lineage, which stores JSON. The protocol is documentation.
OTHERS = {PACKAGE / "core/step.py", PACKAGE / "core/lineage.py", PACKAGE / "kinds/protocol.py"}
MODULES = sorted(file for file in {*PACKAGE.rglob("*.py")} - OTHERS if PACKAGE / "experiment" not in file.parents)
NAMES = ("settings", "scoring", "training", "configured")


def is_settings(node: ast.AST) -> bool:
    """Whether an expression is a name of settings, or ends with one."""
    return getattr(node, "id", getattr(node, "attr", None)) in NAMES


def untyped(source: str) -> list[int]:
    """The lines where settings are read by the text of a key, are declared as a dictionary, or have no type."""
    found, tree = [], ast.parse(source)
    typed = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=read, slice=ast.Constant(str())) if is_settings(read):
                found.append(node.lineno)
            case ast.Call(func=ast.Attribute(value=read, attr="get" | "items" | "keys")) if is_settings(read):
                found.append(node.lineno)
            case ast.arg(arg=name, annotation=ast.Subscript() | ast.Name("Any")) if name in NAMES:
                if ast.unparse(node.annotation).startswith(("dict[", "Mapping[", "Any")):
                    found.append(node.lineno)
            case ast.Attribute(value=ast.Name("arguments"), attr="settings") if id(node) not in typed:
                found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    "line",
    [
        "settings['kind']",
        "self.settings['kind']",
        "arguments.settings['kind']",
        "settings.get('module')",
        "scoring['language']",
        "def score(rows, scoring: Mapping[str, Any]): pass",
        "def build(settings: dict[str, Any]): pass",
        "def build(settings: Any): pass",
        "settings = arguments.settings",
        "read(arguments.settings)",
    ],
)
def test_the_search_finds_settings_without_a_type(line):
    assert untyped(line) == [1] or untyped(line) == [1, 1]


@pytest.mark.parametrize(
    "line",
    [
        "settings.kind",
        "settings: TrainingSettings = arguments.settings",
        "record['settings']['epochs']",
        "def build(settings: TrainingSettings): pass",
    ],
)
def test_the_search_leaves_typed_settings_alone(line):
    assert untyped(line) == []


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_step_or_room_reads_settings_by_the_text_of_a_key(file: Path):
    assert untyped(file.read_text(encoding="utf-8")) == []

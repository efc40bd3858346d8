"""What is installed: the requirement files, the lock, the conda environments and the project's own description."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from workflow_scripts import collect

ROOT = Path(__file__).resolve().parent.parent
ENVS = ROOT / "envs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FLOOR = "3.11"
GROUPS = ("requirements", "quickstart", "development", "docs")
OUTSIDE = ("snakemake", "rich")


def lines(name: str) -> list[str]:
    """The requirement lines of envs/NAME.txt."""
    return [line for line in (ENVS / f"{name}.txt").read_text().splitlines() if line and not line.startswith("#")]


def pins(requirements: Iterable[str]) -> dict[str, str]:
    """Version by package name, both as pip compares them; fails on anything but NAME==VERSION."""
    found: dict[str, str] = {}
    for line in requirements:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9A-Za-z.]+)", line)
        assert match, f"{line!r} is not pinned as NAME==VERSION"
        name = canonicalize_name(match[1])
        assert name not in found, f"{name} stands twice"
        found[name] = match[2]
    return found


def steps_pins() -> dict[str, str]:
    """The pins of what the steps may import: Snakemake and its display stay outside their environment."""
    found = pins(lines("requirements")).items()
    return {name: version for name, version in found if not name.startswith(OUTSIDE)}


def imported(source: str) -> set[str]:
    """The top-level packages that a Python source imports, other than the standard library and our own."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules.add(node.module.split(".")[0])
    own = {"workflow_scripts", "benchmarks", "tests", *(path.stem for path in (ROOT / "tests").iterdir())}
    return modules - set(sys.stdlib_module_names) - own


def test_the_versions_that_the_report_tells_are_of_packages_that_the_steps_have():
    """With --sdm conda they run in an environment without Snakemake."""
    assert {canonicalize_name(name) for name in collect.PACKAGES} <= steps_pins().keys()


def assert_imports_are_pinned(files: Iterable[Path], pinned: set[str]) -> None:
    """Every import of the Python files comes from one of the pinned packages."""
    packages = importlib.metadata.packages_distributions()
    unlisted = [
        f"{file.relative_to(ROOT)} imports {module}"
        for file in files
        for module in sorted(imported(file.read_text()))
        if not {canonicalize_name(name) for name in packages.get(module, [module])} & pinned
    ]
    assert not unlisted


def test_every_requirement_is_pinned_to_one_version_and_stands_once():
    pins([line for group in GROUPS for line in lines(group)])


def test_the_lock_repeats_the_pins():
    lock = pins(lines("constraints"))
    for group in GROUPS:
        for name, version in pins(lines(group)).items():
            assert lock.get(name) == version, f"{name} of {group}.txt"


def test_the_lock_names_every_package_that_a_requirement_brings_in():
    lock = pins(lines("constraints"))
    waiting = [Requirement(line) for group in GROUPS for line in lines(group)]
    seen = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen or name.startswith(("nvidia-", "cuda-", "triton")):  # the CUDA build, where it is
            continue
        seen.add(key)
        assert name in lock, f"{name} is not in constraints.txt"
        for line in importlib.metadata.requires(name) or []:
            needed, extras = Requirement(line), {"", *requirement.extras}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)


def test_the_lowest_versions_are_of_pinned_packages_and_stand_in_the_docs():
    pinned, docs = pins(lines("requirements")), (ROOT / "docs/other_workflows.md").read_text()
    for line in lines("minimum"):
        name, lowest = line.split(">=")
        assert Version(lowest) <= Version(pinned[canonicalize_name(name)])
        assert f"\n| {name} | {lowest} | {pinned[canonicalize_name(name)]} |" in docs


@pytest.mark.parametrize("file", ["cpu.yaml", "gpu.yaml"])
def test_conda_environments_hold_the_same_pins(file):
    environment = yaml.safe_load((ENVS / file).read_text())
    *conda, pip = environment["dependencies"]
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert conda == [f"python={FLOOR}", "pip"]
    assert pins(line for line in pip["pip"] if not line.startswith("--")) == steps_pins() | pins(lines("quickstart"))


@pytest.mark.parametrize("file", ["cpu.yaml", "gpu.yaml"])
def test_the_versions_of_the_conda_environments_are_those_that_these_tests_ran_with(file):
    """pip installed them here, so that each name and version exists and they fit together."""
    *_, pip = yaml.safe_load((ENVS / file).read_text())["dependencies"]
    pinned = pins(line for line in pip["pip"] if not line.startswith("--"))
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in pinned}  # torch: 2.13.0+cpu
    assert installed == pinned


def test_one_python_floor_everywhere():
    assert PROJECT["project"]["requires-python"] == f">={FLOOR}"
    assert PROJECT["tool"]["mypy"]["python_version"] == FLOOR
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + FLOOR.replace(".", "")
    assert f"sys.version_info < ({FLOOR.replace('.', ', ')})" in (ROOT / "Makefile").read_text()


def test_steps_import_only_what_their_environment_holds():
    """`verify` and the package `console` are no steps: they run where Snakemake runs."""
    files = set((ROOT / "workflow_scripts").rglob("*.py")) - {ROOT / "workflow_scripts/verify.py"}
    files -= set((ROOT / "workflow_scripts/console").glob("*.py"))
    assert_imports_are_pinned(files, set(steps_pins()))


def test_tests_import_only_what_the_development_set_up_holds():
    pinned = pins([line for group in GROUPS for line in lines(group)])
    assert_imports_are_pinned((ROOT / "tests").rglob("*.py"), set(pinned))


def test_the_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()  # what the format requires
    assert citation["title"] == PROJECT["project"]["name"]
    assert str(citation["version"]) == PROJECT["project"]["version"]
    released = re.findall(r"^## \[(\d\S*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == (citation["version"], str(citation["date-released"]))
    assert citation["license"] == PROJECT["project"]["license"]
    (paper,) = citation["references"]
    assert paper["title"].startswith("Prompt-Tuning Can Be Much Better Than Fine-Tuning")
    assert [author["family-names"] for author in paper["authors"]] == ["Tu", "Xiong", "Zhou"]


def make(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run our Makefile in a folder that contains nothing else."""
    shutil.copy(ROOT / "Makefile", folder)
    # These tests may themselves run under make, which passes its arguments on.
    clean = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(["make", *arguments], cwd=folder, env=clean, capture_output=True, text=True, timeout=60)


def fake_python(folder: Path, shell: str) -> Path:
    """A program that replaces Python and answers as the shell lines say."""
    program = folder / "fake python"
    program.write_text(f"#!/bin/sh\n{shell}\n")
    program.chmod(0o755)
    return program


def test_make_alone_lists_every_command(tmp_path):
    listed = re.findall(r"^ +make ([\w-]+) ", make(tmp_path).stdout, re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony and listed == phony[1].split()


@pytest.mark.parametrize(
    ("shell", "says"),
    [
        ('[ "$1" = -V ] && echo Python 3.9.1; exit 1', "is Python 3.9.1: install Python 3.11 or newer, or name yours"),
        ('case "$*" in *ensurepip*) exit 1;; esac', "install its venv module"),
    ],
)
def test_an_unfit_python_is_one_line_and_leaves_nothing_behind(tmp_path, shell, says):
    (tmp_path / "envs").mkdir()
    for name in ("requirements.txt", "quickstart.txt", "constraints.txt"):
        (tmp_path / "envs" / name).touch()
    run = make(tmp_path, "run", f"PYTHON={fake_python(tmp_path, shell)}")
    assert run.returncode != 0
    message, makes_own = run.stderr.splitlines()
    assert says in message
    assert makes_own.startswith("make: ***")
    assert not (tmp_path / ".venv").exists()


def wheel(folder: Path, name: str) -> Path:
    """A package of one empty module, ready to install."""
    file = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return file


def test_packages_are_installed_into_the_environment_whatever_a_cluster_sets(tmp_path):
    """Variables and settings that redirect pip, and an import path and a file that shadow packages."""
    (tmp_path / "envs").mkdir()
    for name in ("requirements", "quickstart", "constraints"):
        text = "" if name == "constraints" else f"{wheel(tmp_path, f'made_up_{name}')}\n"
        (tmp_path / "envs" / f"{name}.txt").write_text(text)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for folder in (foreign, tmp_path):
        (folder / "argparse.py").write_text("raise ImportError('from elsewhere')")
    settings = tmp_path / "pip.conf"
    settings.write_text("[install]\nuser = true\n")
    elsewhere = {"PIP_TARGET": "target", "PIP_PREFIX": "prefix", "PIP_ROOT": "root", "PYTHONHOME": "home"}
    outcome = make(
        tmp_path,
        ".venv/ready-to-run",
        f"PYTHON={sys.executable}",
        **{variable: str(tmp_path / name) for variable, name in elsewhere.items()},
        PIP_USER="1",
        PIP_CONFIG_FILE=str(settings),
        PIP_DRY_RUN="1",
        PIP_REQUIRE_VIRTUALENV="1",
        PYTHONPATH=str(foreign),
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    installed = {file.name for file in (tmp_path / ".venv").glob("lib/python3*/site-packages/made_up_*.py")}
    assert installed == {"made_up_requirements.py", "made_up_quickstart.py"}
    assert not any((tmp_path / name).exists() for name in elsewhere.values())


def test_make_clean_removes_results_and_nothing_else(tmp_path):
    for folder in ("results", "logs", "resources"):
        (tmp_path / folder).mkdir()
    assert f"Removing {tmp_path}/results" in make(tmp_path, "clean").stdout
    assert {path.name for path in tmp_path.iterdir()} == {"Makefile", "resources"}

"""What steps import: this project's modules and the packages of their environment, nothing from where they run."""

import os
import subprocess
from pathlib import Path

import pytest
from snakemake_runs import ROOT, SNAKEMAKE, copy_checkout

from workflow_scripts.core.errors import UserError
from workflow_scripts.experiment.environment import check_project_folder, check_versions

GRID = """\
encoders: {tiny: {source: folder, path: nowhere}}
corpora: {source: mini}
methods: {fine_tuning: {}}
tasks: {pawsx: {languages: [en]}}
"""
SELECTED = "results/tiny/pawsx/en/fine_tuning/selected.json"
MINE = "raise ImportError('imported from the working folder')\n"


def select(folder: Path, *words: str, checkout: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the workflow's shortest step in a working folder, which is where the command is typed, too."""
    (folder / "grid.yaml").write_text(GRID)
    command = [SNAKEMAKE, "--snakefile", str(checkout / "Snakefile"), "--cores", "1", "--configfile", "grid.yaml"]
    return subprocess.run(
        [*command, "--until", "select", *words],
        cwd=folder,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_step_imports_nothing_from_the_working_folder(tmp_path):
    """Neither files named like modules of the standard library or packages, nor another checkout of this project."""
    for name in ("json", "argparse", "datasets", "torch", "yaml"):
        (tmp_path / f"{name}.py").write_text(MINE)
    (tmp_path / "workflow_scripts").mkdir()
    for name in ("__init__", "select"):
        (tmp_path / "workflow_scripts" / f"{name}.py").write_text(MINE)
    outcome = select(tmp_path)
    assert outcome.returncode == 0, outcome.stdout
    assert (tmp_path / SELECTED).exists()


def test_empty_and_relative_entries_of_the_users_import_path_are_dropped(tmp_path):
    """An empty entry means the working folder: `export PYTHONPATH=$PYTHONPATH:/x` makes one where there was none."""
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import os, sys; from pathlib import Path; from workflow_scripts.experiment import environment\n"
        f"environment.prepare(environment.step_variables(Path({str(ROOT)!r}))); print(os.environ['PYTHONPATH'])"
    )
    for given, kept in ((":/x", ["/x"]), (".:/x:lib:/y", ["/x", "/y"]), (f"{ROOT}:/x", ["/x"]), ("", [])):
        outcome = subprocess.run(
            [Path(SNAKEMAKE).parent / "python", "-P", probe],
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{given}"},
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        )
        assert outcome.stdout.split() == [":".join([str(ROOT), *kept])]


def test_a_file_in_the_projects_folder_that_hides_a_package_is_refused_in_one_line(tmp_path):
    """That folder has to be on the import path, and `make run` uses it as the working folder."""
    checkout = copy_checkout(tmp_path / "checkout")
    hiding = checkout / "pydantic.py"  # the workflow itself imports it
    hiding.write_text(MINE)
    outcome = select(tmp_path, checkout=checkout)
    assert outcome.returncode == 1
    assert f"{hiding} shadows the Python package pydantic: rename it" in outcome.stdout
    assert "Traceback" not in outcome.stdout and not (tmp_path / SELECTED).exists()


@pytest.mark.parametrize(("file", "package"), [("json.py", "json"), ("torch/__init__.py", "torch")])
def test_scripts_of_the_users_own_are_left_alone_unless_they_hide_a_package(tmp_path, file, package):
    for name in ("my_analysis.py", "numpy.txt", "torch.md"):
        (tmp_path / name).touch()
    (tmp_path / "pandas").mkdir()  # no package without a module
    check_project_folder(tmp_path)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    with pytest.raises(UserError, match=f"shadows the Python package {package}"):
        check_project_folder(tmp_path)


CONDA = """\
#!/bin/bash
case "$*" in
    "info --json") echo '{{"conda_prefix": "{base}", "platform": "linux-64"}}' ;;
    --version) echo "conda 24.9.0" ;;
    "config --get channel_priority --json") echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
    *"env create"*)
        while [ "$1" != --prefix ]; do shift; done
        mkdir -p "$2/bin"
        printf '#!/bin/sh\\nexec "{python}" "$@"\\n' > "$2/bin/python"
        chmod +x "$2/bin/python" ;;
esac
"""


def test_a_step_in_a_conda_environment_finds_this_project_from_any_working_folder(tmp_path):
    """Snakemake removes PYTHONPATH there unless it is asked not to. `conda` is a script that answers as conda does."""
    programs = tmp_path / "conda" / "bin"
    programs.mkdir(parents=True)
    python = Path(SNAKEMAKE).parent / "python"
    (programs / "conda").write_text(CONDA.format(base=programs.parent, python=python))
    (programs / "conda").chmod(0o755)
    (programs / "activate").write_text('export PATH="$1/bin:$PATH"\n')
    outcome = select(tmp_path, "--sdm", "conda", "--printshellcmds", PATH=f"{programs}:{os.environ['PATH']}")
    assert outcome.returncode == 0, outcome.stdout
    assert (tmp_path / SELECTED).exists() and "Activating conda environment" in outcome.stdout


def installed(folder: Path, **versions: str) -> Path:
    """A folder for the import path where packages seem to be installed in these versions."""
    for name, version in versions.items():
        (folder / f"{name}-{version}.dist-info").mkdir(parents=True)
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (folder / f"{name}-{version}.dist-info" / "METADATA").write_text(text)
    return folder


def test_packages_that_are_too_old_are_named_before_anything_else_is_read(tmp_path):
    packages = installed(tmp_path / "packages", snakemake="9.16.3", transformers="5.9.0", peft="0.99.0")
    outcome = select(tmp_path, PYTHONPATH=str(packages))
    assert outcome.returncode == 1
    (line,) = [line for line in outcome.stdout.splitlines() if "is installed" in line]
    assert line.startswith("snakemake 9.16.3 is installed, ") and "; transformers 5.9.0 is installed, " in line
    assert "peft" not in line and line.endswith(f"pip install --requirement {ROOT}/envs/minimum.txt")


def test_steps_with_environments_of_their_own_need_no_more_than_snakemake_here(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(installed(tmp_path / "packages", transformers="5.9.0"))
    check_versions(ROOT, own_environments=True)
    with pytest.raises(UserError, match=r"^transformers 5\.9\.0 is installed"):
        check_versions(ROOT, own_environments=False)


@pytest.mark.parametrize("version", ["2", "2.0.0", "2.0.0rc1", "2.0.0+cu126", "2.1", "10.0"])
def test_versions_are_compared_as_numbers(tmp_path, monkeypatch, version):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/minimum.txt").write_text("# a comment\nmade-up>=2.0\nnot-installed>=1\n")
    monkeypatch.syspath_prepend(installed(tmp_path / "packages", made_up=version))
    check_versions(tmp_path, own_environments=False)
    (tmp_path / "envs/minimum.txt").write_text("made-up>=11.0\n")
    with pytest.raises(UserError, match=r"11\.0 or newer"):
        check_versions(tmp_path, own_environments=False)

"""The recipes of images, and the steps in a container.

Apptainer is not installed where the tests run: a script replaces it, which runs the command on this machine.
docs/containers.md says what was tested with the real program.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake_runs import ROOT, SNAKEMAKE, Workplace
from test_environments import wheel

from workflow_scripts.core.errors import UserError
from workflow_scripts.experiment import container
from workflow_scripts.experiment.configuration import load

ENVS = ROOT / "envs"
DOCKERFILE = (ENVS / "Dockerfile").read_text()
DEFINITION = (ENVS / "apptainer.def").read_text()
SCRIPT = (ENVS / "container.sh").read_text()

APPTAINER = """#!/bin/sh
# apptainer exec --home FOLDER IMAGE bash -c COMMAND
[ "$1" = --version ] && echo apptainer version 1.4.5 && exit
while [ "$1" != exec ]; do shift; done
echo "$APPTAINER_BIND" > {seen}
echo "$@" | sed 1q >> {seen}
while [ "$1" != bash ]; do shift; done
shift
exec bash "$@"
"""


def section(name: str) -> str:
    """A section of the Apptainer definition."""
    match = re.search(rf"^%{name}\n((?:    .*\n)+)", DEFINITION, re.MULTILINE)
    assert match
    return match[1]


def test_both_recipes_copy_files_that_exist_and_all_that_the_script_reads():
    copied = re.search(r"^COPY (.+) /opt/envs/$", DOCKERFILE, re.MULTILINE)
    files = [line.split() for line in section("files").splitlines()]
    assert copied and sorted(copied[1].split()) == sorted(source.removeprefix("envs/") for source, _ in files)
    assert all((ROOT / source).is_file() and target == f"/opt/{source}" for source, target in files)
    read = set(re.findall(r'"\$envs/([\w.]+)"', SCRIPT))
    assert read and read < set(copied[1].split())


def test_both_recipes_have_the_same_base_the_same_packages_and_the_same_path():
    base = re.search(r"^FROM (\S+)$", DOCKERFILE, re.MULTILINE)
    assert base and f"\nFrom: {base[1]}\n" in DEFINITION
    (default,) = set(re.findall(r"TORCH_INDEX[=-](https\S+?)[}\s]", DOCKERFILE + section("arguments") + SCRIPT))
    assert default == "https://download.pytorch.org/whl/cpu"
    command = 'TORCH_INDEX="%s" sh /opt/envs/container.sh /opt/crossprompt'
    assert command % "$TORCH_INDEX" in DOCKERFILE and command % "{{ TORCH_INDEX }}" in section("post")
    path = re.search(r"PATH=(\S+)", DOCKERFILE)
    assert path and f"PATH={path[1]}\n" in section("environment") and path[1].startswith("/opt/crossprompt/bin:")


def test_the_dockerfile_consists_of_known_instructions():
    instructions = {line.split()[0] for line in DOCKERFILE.splitlines() if line and not line.startswith("#")}
    assert instructions == {"FROM", "ARG", "COPY", "RUN", "ENV", "WORKDIR", "CMD"}


def test_the_script_installs_the_pinned_packages_and_takes_pytorch_from_its_index(tmp_path: Path):
    """The real script, with packages of this test: one is in the index that TORCH_INDEX names, and nowhere else."""
    envs, index = tmp_path / "envs", tmp_path / "index" / "made-up-torch"
    envs.mkdir(), index.mkdir(parents=True)
    shutil.copy(ENVS / "container.sh", envs)
    torch = wheel(index, "made_up_torch")
    (index / "index.html").write_text(f'<a href="{torch.name}">{torch.name}</a>')
    (envs / "requirements.txt").write_text(f"made_up_torch\n{wheel(tmp_path, 'made_up_requirements')}\n")
    (envs / "quickstart.txt").write_text(f"{wheel(tmp_path, 'made_up_quickstart')}\n")
    (envs / "constraints.txt").write_text("made_up_torch==1.0\n")
    empty = tmp_path / "empty"
    (empty / "made-up-torch").mkdir(parents=True)
    (empty / "made-up-torch" / "index.html").write_text("")

    def install(torch_index: str, folder: str) -> subprocess.CompletedProcess[str]:
        variables = {
            "PATH": f"{Path(sys.executable).resolve().parent}:{os.environ['PATH']}",
            "TORCH_INDEX": torch_index,
        }
        variables |= {"PIP_INDEX_URL": empty.as_uri(), "PIP_CONFIG_FILE": os.devnull}
        command = ["sh", str(envs / "container.sh"), str(tmp_path / folder)]
        return subprocess.run(command, cwd="/", env=variables, capture_output=True, text=True)

    outcome = install((tmp_path / "index").as_uri(), "installed")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    found = {file.stem for file in (tmp_path / "installed").glob("lib/python3*/site-packages/made_up_*.py")}
    assert found == {"made_up_torch", "made_up_requirements", "made_up_quickstart"}
    without = install("", "not installed")
    assert without.returncode != 0 and "made_up_torch" in without.stderr


@pytest.fixture
def apptainer(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """Variables with a script as apptainer and a file as image, and the file of what the script saw."""
    programs, seen = tmp_path / "programs", tmp_path / "seen"
    programs.mkdir()
    (programs / "apptainer").write_text(APPTAINER.format(seen=shlex.quote(str(seen))))
    (programs / "apptainer").chmod(0o755)
    image = tmp_path / "image.sif"
    image.touch()
    return {"PATH": f"{programs}:{os.environ['PATH']}", "CROSSPROMPT_IMAGE": str(image)}, seen


def run(grid: Workplace, variables: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    place = ["--snakefile", str(grid.checkout / "Snakefile"), "--directory", str(grid.folder), *grid.words({})]
    command = [SNAKEMAKE, "--cores", "1", *place, *words]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)


def test_a_step_runs_in_the_image_and_sees_the_project_and_the_users_folders(finished_grid, apptainer, tmp_path):
    grid, (variables, seen) = finished_grid.copied(tmp_path / "grid"), apptainer
    scores = "results/tiny/udpos/en/prompt_tuning-2/seed-13/scores.csv"
    before = (grid.folder / scores).read_bytes()
    (grid.folder / scores).unlink()
    outcome = run(grid, variables | {"APPTAINER_BIND": "/of/mine"}, "--sdm", "apptainer", "--", scores)
    assert outcome.returncode == 0, outcome.stderr
    assert (grid.folder / scores).read_bytes() == before
    bound, command = seen.read_text().splitlines()
    encoder = grid.configuration["encoders"]["tiny"]["path"]
    assert bound.split(",")[0] == "/of/mine"
    assert {str(grid.checkout), str(grid.folder / "results"), encoder} <= set(bound.split(","))
    assert variables["CROSSPROMPT_IMAGE"] in command


def test_neither_an_image_nor_its_change_reruns_anything(finished_grid: Workplace, apptainer):
    variables, _ = apptainer
    for words in ([], ["--sdm", "apptainer"]):
        outcome = run(finished_grid, variables, "--dry-run", *words)
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
        assert "Nothing to be done" in outcome.stdout + outcome.stderr


def test_a_missing_image_is_one_line_and_matters_only_with_apptainer(finished_grid: Workplace, apptainer):
    variables = apptainer[0] | {"CROSSPROMPT_IMAGE": "/no such/image.sif"}
    assert run(finished_grid, variables, "--dry-run").returncode == 0
    outcome = run(finished_grid, variables | {"CROSSPROMPT_IMAGE": ""}, "--dry-run", "--sdm", "apptainer")
    output = outcome.stdout + outcome.stderr
    assert outcome.returncode != 0 and "Traceback" not in output
    assert "crossprompt.sif, the image for --sdm apptainer, is missing" in output or "no image with spaces" in output


def test_an_image_is_a_file_or_an_address(monkeypatch, tmp_path: Path):
    monkeypatch.delenv(container.IMAGE, raising=False)
    assert container.image(tmp_path) == f"{tmp_path}/crossprompt.sif"
    monkeypatch.setenv(container.IMAGE, "docker://registry.example.org/crossprompt:1")
    assert container.image(tmp_path) == "docker://registry.example.org/crossprompt:1"
    container.check_image(container.image(tmp_path))
    with pytest.raises(UserError, match=r"^/a b/x\.sif: Snakemake accepts no image with spaces"):
        container.check_image("/a b/x.sif")
    with pytest.raises(UserError, match=r"x\.sif, the image for --sdm apptainer, is missing"):
        container.check_image(str(tmp_path / "x.sif"))


def test_the_configurations_paths_are_mounted(monkeypatch, tmp_path: Path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "en.csv").touch()
    found = set(
        container.paths_in({"a": [f"{tmp_path}/rows/*.csv", "no/such/file"], "b": {"c": "en", "d": str(tmp_path)}})
    )
    assert found == {tmp_path / "rows", tmp_path}
    monkeypatch.delenv("APPTAINER_BIND", raising=False)
    monkeypatch.delenv("SINGULARITY_BIND", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
    place = tmp_path / "a,b"
    place.mkdir()
    sections = {"methods": {"fine_tuning": {}}, "tasks": {"pawsx": {}}}
    configuration = load({"encoders": {"tiny": {"source": "folder", "path": str(tmp_path)}}, **sections})
    with pytest.raises(UserError, match="cannot be mounted into a container"):
        container.show_host(place, configuration, {})
    container.show_host(tmp_path, configuration, {})
    assert str(tmp_path) in os.environ["SINGULARITY_BIND"].split(",")

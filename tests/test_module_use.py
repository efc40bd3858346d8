"""Another workflow uses this one as a module: with its own configuration, a prefix, and rules that read the report."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from snakemake.path_modifier import PathModifier
from snakemake_runs import ROOT, blocks, copy_checkout, edited, plan, snakemake

from workflow_scripts.experiment.as_module import with_prefix
from workflow_scripts.experiment.configuration import load

# `own_package` is imported from the working folder, and its result shows the variables that its process has.
SNAKEFILE = """
configfile: "config.yaml"


rule all:
    input:
        "copied/report.html",
        "environment.txt",


rule copy:
    input:
        report="transfer/results/report.html",
        scores="transfer/results/scores.csv",
    output:
        "copied/report.html",
    shell:
        "cp {input.report} {output}"


rule environment:
    output:
        "environment.txt",
    shell:
        "python -m own_package.variables > {output}"


module crossprompt:
    snakefile:
        "{checkout}/Snakefile"
    config:
        config["crossprompt"]
    prefix:
        "transfer"


use rule * from crossprompt as crossprompt_*
"""
VARIABLES = """import os
print(*sorted({"PYTHONPATH", "PYTHONSAFEPATH", "CROSSPROMPT_RESULTS"} & os.environ.keys()))
"""


@pytest.fixture(scope="module")
def outer(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of another workflow, beside a checkout of this one. Its configuration has foreign keys."""
    place = tmp_path_factory.mktemp("another workflow")
    folder = place / "outer"
    (folder / "own_package").mkdir(parents=True)
    (folder / "own_package" / "variables.py").write_text(VARIABLES)
    checkout = copy_checkout(place / "crossprompt")
    (folder / "Snakefile").write_text(SNAKEFILE.replace("{checkout}", str(checkout)))
    write_configuration(folder, tiny_encoder)
    yield folder
    shutil.rmtree(place)


def write_configuration(folder: Path, encoder: Path, **edits) -> None:
    grid = {
        "encoders": {"tiny": {"source": "folder", "path": str(encoder)}},
        "corpora": {"source": "mini", "limits": {"train": 8, "validation": 8, "test": 8}},
        "seeds": [13],
        "training": {"epochs": 1, "batch_size": 8},
        "methods": {"prompt_tuning": {"prompt_lengths": [2], "learning_rates": [1e-3, 1e-2]}},
        "tasks": {"pawsx": {"languages": ["en", "de"], "max_length": 64}},
        "analysis": {"samples": 6, "figure_samples": 4},
    }
    values = {"samples": "samples.tsv", "crossprompt": edited(grid, edits)}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return snakemake("--cores", "1", *words, folder=folder, checkout=folder)


@pytest.fixture(scope="module")
def finished(outer: Path) -> str:
    """What Snakemake printed while it ran the other workflow."""
    outcome = run(outer)
    assert outcome.returncode == 0, outcome.stdout
    return outcome.stdout


def test_the_other_workflow_runs_to_the_report_and_its_own_rules_read_it(outer: Path, finished: str):
    report = outer / "transfer/results/report.html"
    assert (outer / "copied/report.html").read_bytes() == report.read_bytes()
    started = {rule for rule, _ in blocks(finished)}
    assert {"all", "copy", "crossprompt_search", "crossprompt_select", "crossprompt_render"} <= started
    assert "localrules directive specifies rules" not in finished


def test_all_files_of_the_module_are_below_its_prefix(outer: Path, finished: str):
    assert {path.name for path in outer.iterdir()} - {".snakemake"} == {
        *("Snakefile", "config.yaml", "own_package"),
        *("copied", "environment.txt", "transfer"),
    }
    assert {path.name for path in (outer / "transfer").iterdir()} == {"resources", "results", "logs"}


def test_the_variables_of_the_steps_do_not_reach_the_other_workflows_jobs(outer: Path, finished: str):
    assert (outer / "environment.txt").read_text().split() == []


def test_a_second_run_has_nothing_to_do_and_a_changed_setting_reruns_its_jobs_alone(
    outer: Path, finished: str, tiny_encoder: Path
):
    assert plan(folder=outer, checkout=outer) == []
    try:
        write_configuration(outer, tiny_encoder, **{"tasks.pawsx.languages": ["en", "de", "fr"]})
        added = plan(folder=outer, checkout=outer)
        assert "crossprompt_fetch_corpus pawsx/fr/test" in added
        assert not {"crossprompt_search", "crossprompt_train"} & {job.split()[0] for job in added}
    finally:
        write_configuration(outer, tiny_encoder)


def test_results_that_were_copied_without_snakemakes_memory_are_still_recognised(outer: Path, finished: str, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(outer, copied, ignore=shutil.ignore_patterns(".snakemake"))
    assert plan(folder=copied, checkout=copied) == []
    record = next(copied.glob("transfer/results/tiny/*/*/*/seed-13/.run.json.made.json"))
    record.unlink()
    assert any(job.startswith("crossprompt_train") for job in plan(folder=copied, checkout=copied))


def test_a_module_without_a_configuration_is_one_line(outer: Path, tmp_path: Path):
    lines = (outer / "Snakefile").read_text().replace('    config:\n        config["crossprompt"]\n', "")
    (tmp_path / "Snakefile").write_text(lines)
    (tmp_path / "config.yaml").write_text("{}")
    outcome = run(tmp_path, "--dry-run")
    assert outcome.returncode != 0
    assert (
        'module: it needs its own configuration; add a line such as `config: config["crossprompt"]`' in outcome.stdout
    )


def test_a_wrong_key_of_the_module_is_one_line(outer: Path, tiny_encoder: Path, tmp_path: Path):
    shutil.copy(outer / "Snakefile", tmp_path)
    write_configuration(tmp_path, tiny_encoder, seed=[1])
    outcome = run(tmp_path, "--dry-run")
    assert outcome.returncode != 0
    assert "configuration: seed: " in outcome.stdout and "Traceback" not in outcome.stdout


def test_a_module_from_a_repository_is_refused_in_one_line(outer: Path, tmp_path: Path):
    """Snakemake would fetch the rule files one by one. A local repository replaces one at a hosting provider."""
    repository = tmp_path / "repository"
    repository.mkdir()
    shutil.copy(ROOT / "Snakefile", repository)
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(repository), *words], check=True)
    text = (outer / "Snakefile").read_text()
    address = f"git+file://{repository}/Snakefile@HEAD"
    (tmp_path / "Snakefile").write_text(re.sub(r'"[^"]*/Snakefile"', f'"{address}"', text))
    shutil.copy(outer / "config.yaml", tmp_path)
    outcome = run(tmp_path, "--dry-run")
    assert outcome.returncode != 0
    assert "crossprompt must be a folder on this machine" in outcome.stdout and "Traceback" not in outcome.stdout


def test_alone_the_configuration_is_the_one_that_was_loaded(outer: Path):
    """A key that counts as set would change the settings of the steps that read the whole configuration."""
    values = yaml.safe_load((outer / "config.yaml").read_text())["crossprompt"]
    alone, inside = PathModifier(None, None, None), PathModifier(None, "transfer", None)
    configuration = load(values)
    assert with_prefix(configuration, alone).model_fields_set == configuration.model_fields_set
    moved = with_prefix(configuration, inside)
    assert (moved.resources, moved.results) == ("transfer/resources", "transfer/results")

"""Names of partitions, accounts and the like, as users type them into the profile for SLURM, read by Snakemake."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from snakemake_runs import ROOT, snakemake

GRID = {
    "encoders": {"tiny": {"source": "folder", "path": "nowhere"}},
    "corpora": {"source": "mini"},
    "methods": {"fine_tuning": {}},
    "tasks": {"pawsx": {"languages": ["en"]}},
}


def resources(folder: Path, typed: dict[str, str]) -> list[dict[str, str]]:
    """The resources that each job of a dry run requests, with the shipped profile after these edits to its defaults."""
    shutil.copytree(ROOT / "slurm", folder / "slurm")
    profile = folder / "slurm" / "config.v8+.yaml"
    text = profile.read_text(encoding="utf-8")
    text = text.replace("  slurm_partition: gpu  #", f"  slurm_partition: {typed.pop('slurm_partition')}  #")
    text = text.replace("  mem_mb: 2000\n", "".join(f"  {key}: {value}\n" for key, value in typed.items()), 1)
    profile.write_text(text, encoding="utf-8")
    grid = folder / "grid.yaml"
    grid.write_text(yaml.safe_dump(GRID), encoding="utf-8")
    words = ["--dry-run", "--profile", str(profile.parent), "--configfile", str(grid)]
    outcome = snakemake(*words, folder=folder)
    assert outcome.returncode == 0, outcome.stdout
    lines = re.findall(r"^    resources: (.*)$", outcome.stdout, re.MULTILINE)
    return [dict(item.split("=", 1) for item in line.split(", ")) for line in lines]


@pytest.mark.parametrize("partition", ["all", "max-gpu", "min.long", "attempt", "gpu", "'any'", "short,max", '"007"'])
def test_a_partition_may_have_any_name(tmp_path, partition):
    """Such as those of Python's own functions and of the variables that expressions in a profile may use."""
    jobs = resources(tmp_path, {"slurm_partition": partition})
    assert len(jobs) > 10
    assert {job["slurm_partition"] for job in jobs} == {partition.strip("'\"")}


def test_so_may_an_account_a_quality_of_service_and_a_constraint(tmp_path):
    jobs = resources(
        tmp_path, {"slurm_partition": "all", "slurm_account": "sum", "qos": "max", "constraint": "any|all"}
    )
    for key, value in (("slurm_account", "sum"), ("qos", "max"), ("constraint", "any|all")):
        assert {job[key] for job in jobs} == {value}


def test_an_expression_is_still_evaluated(tmp_path):
    jobs = resources(
        tmp_path,
        {"slurm_partition": "all", "qos": "\"'long' if attempt > 1 else 'short'\"", "mem_mb": "1000 * attempt"},
    )
    assert {job["qos"] for job in jobs} == {"short"}
    assert {"1000", "12000"} <= {job["mem_mb"] for job in jobs}

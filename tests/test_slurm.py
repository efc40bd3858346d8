"""The workflow on a real SLURM of one node: what it submits, and that whatever ends a job, the same command goes on."""

import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm_cluster import SlurmCluster, missing_programs
from slurm_runs import STARTED, Command, nothing_runs_on, until  # noqa: F401  (a fixture)
from snakemake_runs import ROOT, SNAKEMAKE, Workplace

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing_programs()), reason=f"no SLURM here: {', '.join(missing_programs())}"),
]

LONG = "results/tiny/pawsx/en/prompt_tuning-2/seed-13"  # a training of a minute or two, which is disturbed
LOG = "logs/train/tiny/pawsx/en/prompt_tuning-2/seed-13.log"
TABLE = "results/scores.csv"

SQUEUE = ["--slurm-status-command", "squeue"]  # this SLURM keeps no accounts


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, SlurmCluster(Path(folder)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def configuration(tiny_encoder) -> dict[str, Any]:
    """A training of a minute or two that saves its state at the end of each of its short epochs, and a short one."""
    return {
        "encoders": {"tiny": {"source": "folder", "path": str(tiny_encoder)}},
        "corpora": {"source": "mini", "limits": {"train": 64, "validation": 8, "test": 8}},
        "evaluation": {"together": 1},
        "seeds": [13],
        "training": {"epochs": 1, "batch_size": 8},
        "methods": {"prompt_tuning": {"prompt_lengths": [2]}},
        "tasks": {
            "pawsx": {"languages": ["en", "de"], "max_length": 64, "training": {"epochs": 2500}},
            "udpos": {"languages": ["en"], "max_length": 64},
        },
    }


def went_on(folder: Path, after: int) -> int:
    """Wait until the long training has gone on from a checkpoint later than the step `after`; the checkpoint's step."""

    def step() -> int:
        log = folder / LOG
        found = re.search(r"^resuming after step (\d+) from ", log.read_text() if log.exists() else "", re.MULTILINE)
        return int(found[1]) if found and int(found[1]) > after else 0

    return until(step, lambda: f"it did not go on after step {after}: {(folder / LOG).read_text()}")


def checkpoint(folder: Path) -> Path:
    found = until(lambda: list((folder / LONG).glob(".checkpoint-*.safetensors")), "no checkpoint")
    return found[0]


def saved_again(folder: Path) -> None:
    """Wait until the long training has saved its state once more."""
    before = checkpoint(folder).stat().st_mtime_ns
    until(lambda: checkpoint(folder).stat().st_mtime_ns != before, "the training does not get ahead")


def test_whatever_ends_a_training_the_command_goes_on_and_the_tables_equal_those_of_an_undisturbed_run(
    slurm, configuration, tmp_path
):
    """`scancel`, `kill -9` of slurmd and of Snakemake, the time limit: one after the other, in folders with spaces."""
    undisturbed = Workplace(ROOT, tmp_path / "undisturbed", configuration)
    words = [TABLE, "--cores", "1", *undisturbed.words({})]
    beside = subprocess.Popen(
        [SNAKEMAKE, "--snakefile", str(ROOT / "Snakefile"), "--directory", str(undisturbed.folder), *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    STARTED.append(beside)
    folder = tmp_path / "another disk" / "working folder"
    folder.parent.mkdir()
    grid = [TABLE, *Workplace(ROOT, folder, configuration).words({})]
    train = "rule_train_wildcards_tiny_pawsx_en_prompt_tuning-2_13"

    # What is submitted: the corpora as one job without a GPU, then two trainings at a time with a GPU each.
    command = Command(slurm, folder, [*grid, *SQUEUE])
    tokens = slurm.job(command.job_of("rule_tokens")["number"])
    assert "gpu" not in tokens["TRES"] and tokens["TRES"].startswith("cpu=1,mem=4000M")
    jobs = [slurm.job(command.job_of(name)["number"]) for name in (train, "rule_train_wildcards_tiny_udpos")]
    for job in jobs:
        assert job["NodeList"] == "node1" and job["Partition"] == "gpu" and job["WorkDir"] == str(folder)
        assert job["TimeLimit"] == "12:00:00" and job["TRES"].startswith("cpu=1,mem=12000M")
        log = Path(job["StdOut"])
        assert log.is_relative_to(folder / ".snakemake/slurm_logs/rule_train") and log.name == f"{job['JobId']}.log"
        assert log.exists()
    assert sorted(job["GRES"] for job in jobs) == ["gpu:a100:1(IDX:0)", "gpu:a100:1(IDX:1)"]

    # scancel: Snakemake submits the job again, with more memory and time.
    saved_again(folder)
    first = jobs[0]["JobId"]
    slurm.ask("scancel", first)
    until(lambda: not [job for job in slurm.queue() if job["number"] == first], "scancel did not end the job")
    assert "interrupted: saved after step" in (folder / LOG).read_text()
    step = went_on(folder, after=0)
    again = slurm.job(command.job_of(train)["number"])
    assert again["JobId"] != first and again["TimeLimit"] == "1-00:00:00" and "mem=24000M" in again["TRES"]

    # The node fails, and with it the job: SLURM starts the job again when the node is back.
    saved_again(folder)
    slurm.crash("node1")
    until(lambda: slurm.state_of("node1").startswith("down"), "SLURM did not notice that slurmd is gone")
    slurm.start_node("node1")
    step = went_on(folder, after=step)
    assert slurm.job(again["JobId"])["Restarts"] == "1"

    # kill -9 of Snakemake: its job runs on. The next command cancels it and goes on from what it has saved.
    saved_again(folder)
    command.process.send_signal(signal.SIGKILL)
    command.ended()
    assert command.job_of(train)["number"] == again["JobId"]
    command = Command(slurm, folder, [*grid, *SQUEUE, "--retries", "0"])
    step = went_on(folder, after=step)
    assert "the jobs that an earlier Snakemake left in SLURM's queue: " in command.said()
    last = command.job_of(train)["number"]
    assert last != again["JobId"] and [job["number"] for job in slurm.queue() if train in job["comment"]] == [last]

    # The time limit: SLURM sends SIGTERM, and the training has saved its state before it is killed.
    saved_again(folder)
    slurm.ask("scontrol", "update", f"JobId={last}", "EndTime=now+5")
    assert command.ended() == 1, command.said()
    assert slurm.queue() == [] and slurm.job(last)["JobState"] in ("TIMEOUT", "FAILED")
    assert "interrupted: saved after step" in (folder / LOG).read_text()

    # The same command once more, to the end: all predictions of a run and its scores are one job.
    command = Command(slurm, folder, [*grid, *SQUEUE])
    went_on(folder, after=step)
    evaluation = slurm.job(command.job_of("rule_evaluation")["number"])
    assert evaluation["GRES"].startswith("gpu:a100:1(") and evaluation["TRES"].startswith("cpu=1,mem=8000M")
    assert command.ended() == 0, command.said()
    assert "predict" not in {job["comment"].split("_")[1] for job in slurm.queue("all")}

    assert beside.wait(timeout=400) == 0
    assert (folder / TABLE).read_bytes() == (undisturbed.folder / TABLE).read_bytes()
    weights = f"{LONG}/weights.safetensors"
    assert (folder / weights).read_bytes() == (undisturbed.folder / weights).read_bytes()
    assert not list(folder.rglob(".checkpoint-*"))

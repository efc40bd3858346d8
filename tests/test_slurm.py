"""The workflow on a real SLURM of one node: what it submits, and that whatever ends a job, the same command goes on."""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from one_node_slurm import OneNodeSlurm, missing_programs
from snakemake_runs import ROOT, SNAKEMAKE, Workplace

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing_programs()), reason=f"no SLURM here: {', '.join(missing_programs())}"),
]

PATIENCE = 400.0  # seconds for anything that is waited for; a training alone takes one to three minutes
LONG = "results/tiny/pawsx/en/prompt_tuning-2/seed-13"  # a training of a minute or two, which is disturbed
LOG = "logs/train/tiny/pawsx/en/prompt_tuning-2/seed-13.log"
TABLE = "results/scores.csv"

# As this SLURM keeps no accounts, Snakemake asks `squeue`; it does so sooner than on a cluster, where it waits 40 s.
HERE = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "10"]


STARTED: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """A test that fails ends what it has started."""
    yield
    while STARTED:
        STARTED.pop().kill()


def until(what: Callable[[], Any], complaint: Callable[[], str] | str) -> Any:
    """Wait until `what` is true, and return it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        if time.monotonic() > deadline:
            pytest.fail(complaint if isinstance(complaint, str) else complaint())
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def slurm() -> Iterator[OneNodeSlurm]:
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, OneNodeSlurm(Path(folder)) as cluster:
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


@dataclass
class Command:
    """`snakemake --profile slurm` in a working folder, typed in the project's folder."""

    slurm: OneNodeSlurm
    folder: Path
    words: list[str]
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.output = self.folder.parent / f"{time.monotonic_ns()}.txt"
        words = [SNAKEMAKE, "--profile", "slurm", "--directory", str(self.folder), *HERE, *self.words]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                words, cwd=ROOT, env=os.environ | self.slurm.environment, stdout=output, stderr=subprocess.STDOUT
            )
        STARTED.append(self.process)

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def ended(self) -> int:
        until(lambda: self.process.poll() is not None, self.said)
        return self.process.returncode

    def job_of(self, comment: str, *states: str) -> dict[str, str]:
        """The newest job of the comment that is in one of the states, by default running."""
        return until(
            lambda: [job for job in self.slurm.queue(*(states or ["RUNNING"])) if comment in job["comment"]],
            lambda: f"no job {comment}: {self.slurm.queue()}\n{self.said()}",
        )[-1]


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
    command = Command(slurm, folder, grid)
    tokens = slurm.job(command.job_of("rule_tokens")["number"])
    assert "gpu" not in tokens["TRES"] and tokens["TRES"].startswith("cpu=1,mem=4000M")
    jobs = [slurm.job(command.job_of(name)["number"]) for name in (train, "rule_train_wildcards_tiny_udpos")]
    for job in jobs:
        assert job["NodeList"] == slurm.host and job["Partition"] == "gpu" and job["WorkDir"] == str(folder)
        assert job["TimeLimit"] == "12:00:00" and job["TRES"].startswith("cpu=1,mem=12000M")
        log = Path(job["StdOut"])
        assert log.is_relative_to(folder / ".snakemake/slurm_logs/rule_train") and log.name == f"{job['JobId']}.log"
        assert log.exists()
    assert sorted(job["GRES"] for job in jobs) == ["gpu:1(IDX:0)", "gpu:1(IDX:1)"]

    # scancel: Snakemake submits the job again, with more memory and time.
    saved_again(folder)
    first = jobs[0]["JobId"]
    slurm.ask("scancel", first)
    until(lambda: not [job for job in slurm.queue() if job["number"] == first], "scancel did not end the job")
    assert "interrupted: saved after step" in (folder / LOG).read_text()
    step = went_on(folder, after=0)
    again = slurm.job(command.job_of(train)["number"])
    assert again["JobId"] != first and again["TimeLimit"] == "1-00:00:00" and "mem=24000M" in again["TRES"]

    # kill -9 of slurmd: SLURM starts the job again when the node is back.
    saved_again(folder)
    slurm.kill_node()
    until(lambda: slurm.ask("sinfo", "-h", "-o", "%T").startswith("down"), "SLURM did not notice that slurmd is gone")
    slurm.start_node()
    step = went_on(folder, after=step)
    assert slurm.job(again["JobId"])["Restarts"] == "1"

    # kill -9 of Snakemake: its job runs on. The next command cancels it and goes on from what it has saved.
    saved_again(folder)
    command.process.send_signal(signal.SIGKILL)
    command.ended()
    assert command.job_of(train)["number"] == again["JobId"]
    command = Command(slurm, folder, [*grid, "--retries", "0"])
    step = went_on(folder, after=step)
    assert "jobs that an earlier Snakemake left in SLURM's queue: " in command.said()
    last = command.job_of(train)["number"]
    assert last != again["JobId"] and [job["number"] for job in slurm.queue() if train in job["comment"]] == [last]

    # The time limit: SLURM sends SIGTERM, and the training has saved its state before it is killed.
    saved_again(folder)
    slurm.ask("scontrol", "update", f"JobId={last}", "EndTime=now+5")
    assert command.ended() == 1, command.said()
    assert slurm.queue() == [] and slurm.job(last)["JobState"] in ("TIMEOUT", "FAILED")
    assert "interrupted: saved after step" in (folder / LOG).read_text()

    # The same command once more, to the end: all predictions of a run and its scores are one job.
    command = Command(slurm, folder, grid)
    went_on(folder, after=step)
    evaluation = slurm.job(command.job_of("rule_evaluation")["number"])
    assert evaluation["GRES"].startswith("gpu:1(") and evaluation["TRES"].startswith("cpu=1,mem=8000M")
    assert command.ended() == 0, command.said()
    assert "predict" not in {job["comment"].split("_")[1] for job in slurm.queue("all")}

    assert beside.wait(timeout=PATIENCE) == 0
    assert (folder / TABLE).read_bytes() == (undisturbed.folder / TABLE).read_bytes()
    weights = f"{LONG}/weights.safetensors"
    assert (folder / weights).read_bytes() == (undisturbed.folder / weights).read_bytes()
    assert not list(folder.rglob(".checkpoint-*"))

"""`snakemake --profile slurm` in tests on a real SLURM."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from slurm_cluster import GPU_TYPE, SlurmCluster
from snakemake_runs import ROOT, SNAKEMAKE

PATIENCE = 900.0  # seconds for anything that is waited for; two trainings beside each other take up to ten minutes

# Snakemake asks about its jobs sooner than on a cluster, where it waits 40 s.
HERE = ["--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "10"]

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


def profile(folder: Path, on_cpu: Sequence[str] = ("tokenise", "align", "project"), **defaults: str) -> str:
    """The folder of the profile for SLURM as a user of the test cluster edits it.

    Args:
        folder: where to write it.
        on_cpu: rules whose jobs run in the partition `cpu`.
        defaults: resources of all rules.
    """
    edited = yaml.safe_load((ROOT / "slurm" / "config.v8+.yaml").read_text(encoding="utf-8"))
    edited["default-resources"] |= defaults
    for rule in ("train", "predict"):
        edited["set-resources"][rule]["gpu_model"] = GPU_TYPE
    for rule in on_cpu:
        edited["set-resources"][rule]["slurm_partition"] = "cpu"
    (folder / "slurm").mkdir(exist_ok=True)
    (folder / "slurm" / "config.v8+.yaml").write_text(yaml.safe_dump(edited), encoding="utf-8")
    return str(folder / "slurm")


@dataclass
class Command:
    """`snakemake --profile slurm` in a working folder, typed in the project's folder.

    `start` is the start of the command, such as `unshare --mount`.
    """

    slurm: SlurmCluster
    folder: Path
    words: list[str]
    profile: str = "slurm"
    start: Sequence[str] = ()
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.output = self.folder.parent / f"{time.monotonic_ns()}.txt"
        place = ["--profile", self.profile, "--directory", str(self.folder)]
        words = [*self.start, SNAKEMAKE, *place, *HERE, *self.words]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                words, cwd=ROOT, env=os.environ | self.slurm.environment, stdout=output, stderr=subprocess.STDOUT
            )
        STARTED.append(self.process)

    def said(self) -> str:
        """What it has written so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def ended(self) -> int:
        """Wait for its end; the exit status."""
        until(lambda: self.process.poll() is not None, self.said)
        return self.process.returncode

    def job_of(self, comment: str, *states: str) -> dict[str, str]:
        """The newest job of the comment that is in one of the states, by default running."""
        return until(
            lambda: [job for job in self.slurm.queue(*(states or ["RUNNING"])) if comment in job["comment"]],
            lambda: f"no job {comment}: {self.slurm.queue()}\n{self.said()}",
        )[-1]

"""On a workstation each job gets its own GPU: the locks, with real processes that compete and are killed."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from workflow_scripts.tuning import gpus

ROOT = Path(__file__).resolve().parent.parent

# Locks a GPU and prints when it starts and ends: if two processes held the same GPU, their times would overlap.
JOB = """
import os, sys, time
from workflow_scripts.tuning import gpus
gpus.installed_gpus = lambda: ["GPU-a", "GPU-b"]
gpus.lock_folder = lambda: __import__("pathlib").Path(sys.argv[1])
gpus.claim_gpu()
started = time.monotonic()
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
time.sleep(float(sys.argv[2]))
print(started, time.monotonic())
"""


@pytest.fixture(autouse=True)
def outside_of_a_scheduler(monkeypatch):
    for name in (*gpus.SCHEDULER_VARIABLES, gpus.VISIBLE, gpus.CLAIMED):
        monkeypatch.delenv(name, raising=False)


def start(folder: Path, seconds: float, **variables: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.Popen(
        [sys.executable, "-c", JOB, str(folder), str(seconds)], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_no_two_jobs_hold_the_same_gpu_and_each_sees_one(tmp_path):
    held: dict[str, list[tuple[float, float]]] = {}
    for job in [start(tmp_path, 0.3) for _ in range(6)]:
        output = job.communicate(timeout=60)[0].split()
        assert job.returncode == 0
        held.setdefault(output[0], []).append((float(output[1]), float(output[2])))
    assert set(held) == {"GPU-a", "GPU-b"}
    for times in held.values():
        ordered = sorted(times)
        for (_, ended), (started, _) in itertools.pairwise(ordered):
            assert started >= ended


def test_the_gpu_of_a_killed_job_is_free_at_once(tmp_path):
    holders = [start(tmp_path, 600), start(tmp_path, 600)]
    held = {job.stdout.readline().strip(): job for job in holders}
    assert set(held) == {"GPU-a", "GPU-b"}
    waiting = start(tmp_path, 0)
    time.sleep(1.5)
    assert waiting.poll() is None
    held["GPU-b"].send_signal(signal.SIGKILL)
    assert waiting.communicate(timeout=10)[0].split()[0] == "GPU-b"
    held["GPU-a"].kill()
    for job in holders:
        job.communicate()


def test_the_schedulers_choice_of_gpus_is_kept(tmp_path):
    job = start(tmp_path, 0, SLURM_JOB_ID="7", CUDA_VISIBLE_DEVICES="3")
    assert job.communicate(timeout=60)[0].split()[0] == "3"
    assert list(tmp_path.iterdir()) == []


def test_of_several_gpus_that_a_scheduler_gave_each_job_takes_one(tmp_path):
    """`snakemake --profile workstation` in an allocation of several."""
    job = start(tmp_path, 0, SLURM_JOB_ID="7", CUDA_VISIBLE_DEVICES="0,1")
    assert job.communicate(timeout=60)[0].split()[0] == "GPU-a"


def test_a_process_that_a_job_starts_shares_the_jobs_gpu(tmp_path):
    job = start(tmp_path, 0, CROSSPROMPT_GPU="GPU-b", CUDA_VISIBLE_DEVICES="GPU-b")
    assert job.communicate(timeout=60)[0].split()[0] == "GPU-b"
    assert list(tmp_path.iterdir()) == []


def test_gpus_that_the_user_leaves_out_are_not_taken(tmp_path):
    job = start(tmp_path, 0, CUDA_VISIBLE_DEVICES="1")
    assert job.communicate(timeout=60)[0].split()[0] == "GPU-b"
    assert gpus.visible_gpus(["GPU-a", "GPU-b", "GPU-c"], "2, GPU-a") == ["GPU-c", "GPU-a"]
    assert gpus.visible_gpus(["GPU-a"], "") == []
    assert gpus.visible_gpus(["GPU-a"], "5") == []
    assert (
        gpus.visible_gpus(["GPU-a", "GPU-b"], "-1") == gpus.visible_gpus([], "-1") == gpus.visible_gpus([], "0") == []
    )
    assert gpus.visible_gpus(["GPU-a", "GPU-b"], "1,-1,0") == ["GPU-b"], "as CUDA reads it"


def test_a_machine_without_nvidias_tools_claims_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpus, "lock_folder", lambda: tmp_path / "locks")
    gpus.claim_gpu()
    assert gpus.CLAIMED not in os.environ and gpus.VISIBLE not in os.environ and not (tmp_path / "locks").exists()


def test_every_rule_that_computes_asks_for_a_gpu_in_both_profiles():
    """And no other rule: then `gpu` in the workstation profile's `resources` limits how many jobs compute at a time."""
    computing = {
        rule.split(":")[0]
        for file in (ROOT / "rules").glob("*.smk")
        for rule in file.read_text(encoding="utf-8").split("\nrule ")[1:]
        if "envs/gpu.yaml" in rule
    }
    assert computing >= {"search", "train", "predict"}
    computing.add("train_and_drop")  # `use rule train`
    for profile in ("slurm", "workstation"):
        asked = yaml.safe_load((ROOT / profile / "config.v8+.yaml").read_text(encoding="utf-8"))["set-resources"]
        assert {rule for rule, resources in asked.items() if resources.get("gpu") == 1} == computing

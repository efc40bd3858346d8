"""Snakemake's scheduler is idle while jobs run, however many have finished before."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake_runs import SNAKEMAKE, copy_checkout, snakemake

from workflow_scripts.experiment.snakemake_timers import SharedTimer, share_one_timer

# Added to the project's own Snakefile. Snakemake starts timers only while jobs wait: `waiting` waits for `long`.
RULES = """

rule many:
    input:
        expand("short/{number}", number=range(300)),
        "long",
        "waiting",


rule short:
    output:
        "short/{number}",
    priority: 2
    shell:
        "touch {output}"


rule long:
    output:
        "long",
    priority: 1
    threads: 2
    shell:
        "sleep 600"


rule waiting:
    output:
        "waiting",
    threads: 2
    shell:
        "touch {output}"
"""


@pytest.fixture(scope="module")
def snakefile(tmp_path_factory) -> Path:
    file = copy_checkout(tmp_path_factory.mktemp("timers") / "checkout") / "Snakefile"
    file.write_text(file.read_text(encoding="utf-8") + RULES, encoding="utf-8")
    return file


@contextmanager
def running(snakefile: Path, folder: Path, target: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Snakemake on two cores and the file that its messages go to; killed at the end, with its jobs."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SNAKEMAKE, "--snakefile", str(snakefile), "--directory", str(folder), "--cores", "2", target],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process, log
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until_all_short_jobs_are_done(folder: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while len(list(folder.glob("short/*"))) < 300:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.1)


def threads_and_seconds(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """The threads that a process has, and the processor time (s) that it has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[17]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_after_300_jobs_snakemake_rests_while_the_next_one_runs(snakefile, tmp_path):
    """Unchanged, 9.27.1 has 306 threads here and takes a tenth of a core."""
    with running(snakefile, tmp_path, "many") as (process, log):
        until_all_short_jobs_are_done(tmp_path, process, log)
        time.sleep(4)  # the long job has started
        _, before = threads_and_seconds(process)
        time.sleep(6)
        threads, after = threads_and_seconds(process)
        assert not (tmp_path / "waiting").exists()
    assert threads < 40
    assert (after - before) / 6 < 0.03


def test_the_rate_limit_of_snakemake_still_holds(snakefile, tmp_path):
    words = [*(f"short/{number}" for number in range(16)), "--max-jobs-per-timespan", "4/2s"]
    outcome = snakemake("--cores", "2", *words, folder=tmp_path, checkout=snakefile.parent)
    assert outcome.returncode == 0, outcome.stdout
    times = sorted(file.stat().st_mtime for file in tmp_path.glob("short/*"))
    assert len(times) == 16
    assert times[-1] - times[0] > 4  # 6 s where the first job starts in time; without the limit less than 1 s
    assert "Job rate limit reached, waiting for free slots." in outcome.stdout


@pytest.mark.parametrize("method", [lambda self, delay: None, None])
def test_a_scheduler_that_is_not_the_known_one_is_left_as_it_is(method, monkeypatch):
    monkeypatch.setattr(JobScheduler, "_schedule_reevalutation", method)
    scheduler = object.__new__(JobScheduler)
    assert not share_one_timer(scheduler)
    assert vars(scheduler) == {}


def test_requests_that_come_while_a_timer_runs_share_its_call():
    called, calls = threading.Event(), []

    def call() -> None:
        calls.append(time.monotonic())
        called.set()

    timer = SharedTimer(call)
    started = time.monotonic()
    for delay in (60, 0.5, 0.6, 0.5, 60):
        timer(delay)
    assert called.wait(30)
    assert calls[0] - started >= 0.5
    time.sleep(0.5)
    assert len(calls) == 1
    called.clear()
    timer(0.1)
    assert called.wait(30)

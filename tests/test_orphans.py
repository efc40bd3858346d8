"""A training whose Snakemake alone was killed: it is never trained twice at the same time, and its work is kept."""

import errno
import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from snakemake_runs import SNAKEMAKE, Workplace
from test_interruption import checkpoints, command, outputs, start, start_and_save
from test_steps import search_record, searching, workplace  # noqa: F401  (fixtures)

from workflow_scripts.core import exclusive
from workflow_scripts.core.exclusive import alone_at, lock_of

RUN = "results/tiny/udpos/en/prompt_tuning-2/seed-13"


def is_running(process: int) -> bool:
    """Whether a process of this machine is running: the child of a dead process stays a zombie until it is reaped."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def started(grid: Workplace, edits: dict[str, object], log: Path, *what: str) -> subprocess.Popen[bytes]:
    """Snakemake without the fork server: its steps are its children."""
    words = ["--snakefile", str(grid.checkout / "Snakefile"), "--directory", str(grid.folder), *grid.words(edits)]
    command = [SNAKEMAKE, *(what or ["--until", "train"]), "--cores", "1", "--printshellcmds", *words]
    with log.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def killed_alone(grid: Workplace, edits: dict[str, object]) -> int:
    """Kill Snakemake alone, with SIGKILL, while it trains; return the process of the training, which still runs."""
    log = grid.folder.parent / "first"
    first = started(grid, edits, log)
    while not checkpoints(grid.folder / RUN):
        assert first.poll() is None, log.read_text()
        time.sleep(0.02)
    first.kill()
    first.wait()
    orphan = int(json.loads(lock_of(grid.folder / RUN / "run.json").read_bytes())["process"])
    assert is_running(orphan)
    return orphan


def test_the_next_command_takes_over_a_training_whose_snakemake_was_killed_alone(finished_grid, tmp_path):
    grid = finished_grid.copied(tmp_path / "orphaned grid")
    edits = {"seeds": [13], "tasks.udpos.training": {"epochs": 40}}
    orphan = killed_alone(grid, edits)
    os.kill(orphan, signal.SIGSTOP)  # so that it does not finish before it is asked to stop
    log = tmp_path / "second"
    second = started(grid, edits, log)
    asked = f"process {orphan} was left by an earlier command: asking it to stop"
    while asked not in log.read_text():
        assert second.poll() is None, log.read_text()
        time.sleep(0.02)
    assert is_running(orphan)
    os.kill(orphan, signal.SIGCONT)
    assert second.wait() == 0, log.read_text()
    assert not is_running(orphan)
    assert f"waiting for process {orphan} on {socket.gethostname()}, which makes the same files" in log.read_text()
    training = (grid.folder / "logs/train/tiny/udpos/en/prompt_tuning-2/seed-13.log").read_text()
    assert "resuming after step" in training
    steps = [json.loads(line)["step"] for line in (grid.folder / RUN / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert not list((grid.folder / RUN).glob(".*.lock"))
    assert grid.planned(edits, "--until", "train") == []


def test_a_training_that_finished_after_its_snakemake_was_killed_is_not_trained_again(finished_grid, tmp_path):
    grid = finished_grid.copied(tmp_path / "orphaned grid")
    edits = {"seeds": [13], "tasks.udpos.training": {"epochs": 20}}
    orphan = killed_alone(grid, edits)
    while is_running(orphan):
        time.sleep(0.1)
    made = (grid.folder / RUN / "run.json").stat().st_mtime_ns
    marks = grid.folder / ".snakemake/incomplete"
    assert [file for file in marks.rglob("*") if file.is_file()]
    assert grid.planned(edits, "--until", "train") == []
    outcome = grid.run(edits, "--until", "train")
    assert outcome.returncode == 0, outcome.stdout
    assert (grid.folder / RUN / "run.json").stat().st_mtime_ns == made
    assert not [file for file in marks.rglob("*") if file.is_file()]


def test_a_second_training_waits_for_the_first_and_takes_its_run(workplace):  # noqa: F811
    """The first one's parent is alive: another Snakemake, in another working folder, with the same results."""
    words = command(workplace, "shared", "prompt_tuning")
    first = start_and_save(words, workplace / "shared")
    second = start(words)
    output = second.communicate()[1].decode()
    assert first.wait() == 0 and second.returncode == 0, output
    first.stderr.close()
    assert output.startswith("waiting for process ")
    assert output.endswith(f"that process has made {workplace / 'shared' / 'run.json'}\n")
    assert "stop" not in output
    assert not list((workplace / "shared").glob(".*.lock"))


def test_a_training_with_other_settings_waits_for_the_first_and_then_trains(workplace):  # noqa: F811
    words = command(workplace, "differing", "prompt_tuning")
    first = start_and_save(words, workplace / "differing")
    at = words.index("--settings") + 1
    second = start([*words[:at], json.dumps(json.loads(words[at]) | {"epochs": 3}), *words[at + 1 :]])
    output = second.communicate()[1].decode()
    assert first.wait() == 0 and second.returncode == 0, output
    first.stderr.close()
    assert "waiting for process" in output and "that process" not in output
    assert json.loads((workplace / "differing" / "run.json").read_text())["epochs"] == 3


def test_a_training_that_is_killed_leaves_no_lock(workplace):  # noqa: F811
    words = command(workplace, "released", "prompt_tuning")
    first = start_and_save(words, workplace / "released")
    first.kill()
    first.communicate()
    second = start(words)
    output = second.communicate()[1].decode()
    assert second.returncode == 0 and "waiting" not in output, output
    assert outputs(workplace, "released")


def hold(file: Path, host: str) -> int:
    """Lock a file like a process on another machine."""
    lock = os.open(file, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.pwrite(lock, json.dumps({"host": host, "process": os.getpid(), "parent": 2**30}).encode(), 0)
    return lock


def test_a_lock_of_another_machine_without_a_sign_of_life_is_not_waited_for(tmp_path, monkeypatch, caplog):
    """As a file server keeps it after the machine has crashed. No process here gets a signal."""
    monkeypatch.setattr(exclusive, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(exclusive, "SILENT_SECONDS", 0.2)
    lock = hold(lock_of(tmp_path / "run.json"), "node7")
    start = time.monotonic()
    with alone_at(tmp_path / "run.json") as waited:
        assert waited and time.monotonic() - start > 0.2
    os.close(lock)
    assert [record.getMessage().partition(" for ")[0] for record in caplog.records] == [
        "waiting",
        f"no sign of life of process {os.getpid()} on node7",
    ]


def test_a_holder_shows_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(exclusive, "BEAT_SECONDS", 0.02)
    with alone_at(tmp_path / "run.json"):
        os.utime(lock_of(tmp_path / "run.json"), (0, 0))
        deadline = time.monotonic() + 10
        while lock_of(tmp_path / "run.json").stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS])
def test_without_file_locks_a_training_begins_at_once_and_the_log_says_so(tmp_path, monkeypatch, caplog, number):
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    caplog.set_level(logging.INFO)
    with alone_at(tmp_path / "run.json") as waited:
        assert not waited
    (line,) = caplog.records
    assert line.levelname == "INFO" and os.strerror(number) in line.getMessage()

"""Checkpoints on a node's own disk: no result depends on it, nothing is lost, and nothing is left there."""

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from snakemake_runs import Workplace
from test_faults import disk_on, fill
from test_interruption import (
    command,
    finish,
    finish_after_kills,
    outputs,
    search_command,
    search_outputs,
    start,
)
from test_orphans import started
from test_steps import workplace  # noqa: F401  (a fixture)

from workflow_scripts.core.errors import Interrupted
from workflow_scripts.core.names import SCRATCH
from workflow_scripts.tuning.checkpoint import Checkpoint, copied_at_the_end
from workflow_scripts.tuning.scratch import scratch_folder

UNINTERRUPTED = "uninterrupted"


@pytest.fixture(scope="module")
def uninterrupted(workplace: Path) -> float:  # noqa: F811
    """The seconds of a training without a scratch folder that nothing disturbs."""
    before = time.monotonic()
    finish(command(workplace, UNINTERRUPTED, "prompt_tuning"))
    return time.monotonic() - before


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The scratch folder of steps that this test starts."""
    folder = tmp_path / "a node's disk"
    folder.mkdir()
    monkeypatch.setenv("NODE_DISK", str(folder))
    monkeypatch.setenv(SCRATCH, "$NODE_DISK")
    return folder


def checkpoints(folder: Path) -> list[Path]:
    return list(folder.rglob(".checkpoint-*.safetensors"))


def start_and_save_at(words: list[str], folder: Path):
    """A training that has saved its state in a folder."""
    process = start(words)
    while not checkpoints(folder):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    return process


def words_of(place: Path, run: str, *more: str) -> list[str]:
    return [*command(place, run, "prompt_tuning"), "--log", str(place / f"{run}.txt"), *more]


# Trainings


def test_checkpoints_go_to_the_nodes_disk_alone_and_are_cleaned_up(workplace, uninterrupted, scratch):  # noqa: F811
    process = start_and_save_at(words_of(workplace, "near"), scratch)
    assert not checkpoints(workplace / "near")
    (folder,) = scratch.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert process.wait() == 0
    process.stderr.close()
    assert not list(scratch.iterdir())
    assert outputs(workplace, "near") == outputs(workplace, UNINTERRUPTED)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_training_resumes_on_another_node(workplace, uninterrupted, scratch, number):  # noqa: F811
    """The second attempt has a different node disk."""
    run = f"moved-{number.name}"
    words = words_of(workplace, run)
    process = start_and_save_at(words, scratch)
    process.send_signal(number)
    output = process.communicate()[1].decode()
    assert process.returncode == 75 and output.startswith("interrupted: saved after step "), output
    assert not list(scratch.iterdir())
    assert len(checkpoints(workplace / run)) == 1
    finish(words)
    step = output.split("after ")[1].split(" of")[0]
    assert f"resuming after {step} from {workplace / run}" in (workplace / f"{run}.txt").read_text()
    assert outputs(workplace, run) == outputs(workplace, UNINTERRUPTED)


def test_a_killed_training_resumes_from_the_nodes_disk(workplace, uninterrupted, scratch):  # noqa: F811
    words = words_of(workplace, "killed")
    process = start_and_save_at(words, scratch)
    process.kill()
    process.communicate()
    assert not checkpoints(workplace / "killed")
    finish(words)
    assert f" from {scratch}/crossprompt-" in (workplace / "killed.txt").read_text()
    assert outputs(workplace, "killed") == outputs(workplace, UNINTERRUPTED)


def test_a_training_whose_node_died_resumes_from_the_last_copy(workplace, uninterrupted, scratch):  # noqa: F811
    words = words_of(workplace, "died", "--copy-every", "0.3")
    process = start_and_save_at(words, workplace / "died")
    process.kill()
    process.communicate()
    shutil.rmtree(scratch)
    scratch.mkdir()
    finish(words)
    assert f" from {workplace / 'died'}/.checkpoint-" in (workplace / "died.txt").read_text()
    assert outputs(workplace, "died") == outputs(workplace, UNINTERRUPTED)


@pytest.mark.slow
def test_killed_at_random_moments_on_nodes_that_may_die_it_ends_with_the_same_bytes(
    workplace,  # noqa: F811
    uninterrupted,
    scratch,
):
    chance = random.Random(5)

    def moments() -> Iterator[float]:
        while True:
            if chance.random() < 0.3:  # another node
                shutil.rmtree(scratch)
                scratch.mkdir()
            yield chance.uniform(0.3, 1.0) * uninterrupted

    def check() -> None:
        assert outputs(workplace, "random") == outputs(workplace, UNINTERRUPTED)

    finish_after_kills(words_of(workplace, "random", "--copy-every", "0.5"), workplace / "random", moments(), check)
    assert not list(scratch.iterdir())


@pytest.mark.slow
def test_a_search_with_halving_killed_at_random_moments_ends_with_the_same_bytes(workplace, monkeypatch, scratch):  # noqa: F811
    """By SIGKILL, and occasionally by SIGTERM: also between two trainings, and while results are written."""
    monkeypatch.setenv(SCRATCH, "")
    before = time.monotonic()
    finish(search_command(workplace, "search-uninterrupted"))
    seconds, chance = time.monotonic() - before, random.Random(11)
    expected = search_outputs(workplace, "search-uninterrupted")
    monkeypatch.setenv(SCRATCH, str(scratch))
    words = [*search_command(workplace, "search-random"), "--copy-every", "0.5"]

    def moments() -> Iterator[float]:
        while True:
            process = start(words)
            time.sleep(chance.uniform(0.1, 0.9) * seconds)
            process.terminate()
            output = process.communicate()[1].decode()
            # Before the first training there is nothing to save: SIGTERM then ends the process like any other.
            assert process.returncode in (0, 75, -signal.SIGTERM), output
            if process.returncode:
                assert not list(scratch.iterdir()) or process.returncode == -signal.SIGTERM
            yield chance.uniform(0.1, 0.9) * seconds

    def check() -> None:
        assert search_outputs(workplace, "search-random") == expected

    finish_after_kills(words, workplace / "search-random", moments(), check)
    assert not list(scratch.iterdir())


# Folders that cannot be used


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("$NO_SUCH_VARIABLE/x", "an environment variable in it is not set"),
        ("{}/missing", "there is no such folder"),
        ("$NODE_DISK/missing", "there is no folder {}/missing"),
        ("{}/a file", "there is no such folder"),
        ("~nobody-of-this-name", "Could not determine home directory."),
    ],
)
def test_a_missing_folder_on_a_node_is_reported_and_checkpoints_stay(
    tmp_path, scratch, monkeypatch, caplog, place, reason
):
    (scratch / "a file").touch()
    place, reason = (text.format(scratch) for text in (place, reason))
    monkeypatch.setenv(SCRATCH, place)
    assert scratch_folder(tmp_path / "run") is None
    assert caplog.messages == [
        f"scratch: {place} cannot be used on this node ({reason}): checkpoints go to {tmp_path / 'run'}"
    ]


def test_another_users_folder_of_that_name_is_not_used(tmp_path, scratch, caplog):
    """They could have planted a checkpoint there."""
    folder = scratch_folder(tmp_path / "run")
    folder.rename(folder.with_name("theirs"))
    folder.symlink_to(folder.with_name("theirs"))
    assert scratch_folder(tmp_path / "run") is None
    assert "belongs to another user" in caplog.text


def test_runs_do_not_share_a_folder(tmp_path, scratch):
    first, second = scratch_folder(tmp_path / "one" / "seed-1"), scratch_folder(tmp_path / "two" / "seed-1")
    assert first != second
    assert first == scratch_folder(tmp_path / "two" / ".." / "one" / "seed-1")


def test_a_full_disk_of_the_node_is_reported_once_and_fails_no_training(workplace, uninterrupted, scratch):  # noqa: F811
    with disk_on(scratch, 1) as disk:
        fill(disk, leave=4096)
        lines = [line for line in finish(words_of(workplace, "full")).splitlines() if "majority class" not in line]
        assert len(lines) == 1
        assert lines[0].startswith(f"scratch: {scratch}/crossprompt-") and "No space left on device" in lines[0]
        assert lines[0].endswith(f": checkpoints go to {workplace / 'full'}")
        assert [file.name for file in disk.iterdir()] == ["filler"]
    assert outputs(workplace, "full") == outputs(workplace, UNINTERRUPTED)


def test_a_damaged_checkpoint_on_the_nodes_disk_is_reported_and_the_copy_is_used(
    workplace,  # noqa: F811
    uninterrupted,
    scratch,
):
    words = words_of(workplace, "damaged", "--copy-every", "0.3")
    process = start_and_save_at(words, workplace / "damaged")
    process.kill()
    process.communicate()
    (near,) = checkpoints(scratch)
    os.truncate(near, near.stat().st_size // 2)
    assert finish(words).startswith(f"scratch: {near} cannot be used (it is damaged): deleted\n")
    assert f" from {workplace / 'damaged'}/.checkpoint-" in (workplace / "damaged.txt").read_text()
    assert outputs(workplace, "damaged") == outputs(workplace, UNINTERRUPTED)


def test_a_full_shared_disk_does_not_stop_a_training_and_an_interruption_keeps_the_nodes_file(tmp_path, scratch):
    """A failed copy is retried; the last one names the file, and the checkpoint on the node stays there."""
    import torch

    with disk_on(tmp_path / "shared", 1) as shared:
        filler = fill(shared, leave=0)
        folder = scratch_folder(shared / "run")
        checkpoint = Checkpoint(shared, "key", every=60, scratch=folder, copy_every=0)
        checkpoint.save({"x": torch.ones(100)}, {"state": {"step": 1}})
        with pytest.raises(Exception, match=r"\.checkpoint-key\.safetensors cannot be written, the disk is full"):  # noqa: SIM117
            with copied_at_the_end([checkpoint]):
                raise Interrupted("saved after step 1 of 2")
        assert len(checkpoints(folder)) == 1
        filler.unlink()
        checkpoint = Checkpoint(shared, "key", every=60, scratch=folder)
        _, state = checkpoint.load()
        assert state == {"state": {"step": 1}}
        checkpoint.copy()
        assert checkpoint.path.read_bytes() == checkpoint.near.read_bytes()


@pytest.mark.parametrize("ahead", ["near", "far"])
def test_of_two_checkpoints_the_one_after_more_steps_is_resumed(tmp_path, scratch, ahead):
    import torch

    folder = scratch_folder(tmp_path / "run")
    for place, scratch_of, step in ((folder, None, 3), (tmp_path, None, 3)):
        step += place == (folder if ahead == "near" else tmp_path)
        Checkpoint(place, "key", 60, scratch_of).save({"x": torch.ones(1)}, {"state": {"step": step}})
    checkpoint = Checkpoint(tmp_path, "key", 60, folder)
    assert checkpoint.newest == (checkpoint.near if ahead == "near" else checkpoint.path)
    assert checkpoint.load()[1]["state"]["step"] == 4


# The workflow


def test_the_key_changes_no_jobs(finished_grid: Workplace):
    for place in ("$TMPDIR", "/scratch/${USER}", None):
        assert finished_grid.planned({"scratch": place}) == []


def test_the_workflow_trains_with_checkpoints_on_the_nodes_disk(finished_grid, tmp_path, scratch):
    """The environment variable is expanded in the step's process. The terminal reports a missing folder."""
    grid = finished_grid.copied(tmp_path / "grid")
    run = "results/tiny/udpos/en/prompt_tuning-2/seed-7"
    edits = {"seeds": [7], "scratch": "${NODE_DISK}", "tasks.udpos.training": {"epochs": 40}}
    process = started(grid, edits, tmp_path / "log", f"{run}/run.json")
    while not checkpoints(scratch):
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.02)
    assert not checkpoints(grid.folder / run)
    assert process.wait() == 0, (tmp_path / "log").read_text()
    assert not list(scratch.iterdir()) and "scratch:" not in (tmp_path / "log").read_text()
    outcome = grid.run({"seeds": [8], "scratch": "$NO_SUCH_VARIABLE"}, run.replace("7", "8") + "/run.json")
    assert outcome.returncode == 0
    assert "scratch: $NO_SUCH_VARIABLE cannot be used on this node (an environment variable in it" in outcome.stdout

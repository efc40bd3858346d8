"""The workflow on disks of networks: full, without hard links or locks, failing, and with files that appear late."""

import errno
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_disk import FaultyDisk, faulty_disk
from snakemake_runs import Workplace
from test_faults import tables
from test_interruption import checkpoints, command, finish, outputs, start_and_save
from test_steps import (
    predicting,
    predictions_in,
    predictions_record,
    rows_file,
    run,
    searching,
    training,
    workplace,  # noqa: F401  (a fixture)
)

from workflow_scripts.console.failures import how_it_ended
from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import read_json, write_json
from workflow_scripts.core.lineage import Lineage, record_of
from workflow_scripts.core.names import LATENCY, RESULTS, candidate_folder
from workflow_scripts.core.training_step import RUN_FILES
from workflow_scripts.tuning.checkpoint import Checkpoint
from workflow_scripts.tuning.gpus import claim

LATE, LOOKED_FOR = 10.0, 2.0  # seconds; see `faulty_disk`

FULL = [("EDQUOT", False), ("EDQUOT", True), ("ENOSPC", False)]  # the error, and whether closing reports it
full = pytest.mark.parametrize(("error", "at_the_end"), FULL, ids=["quota", "quota at the end of a file", "full"])
SAFETENSORS = ".tmp*"  # what safetensors names a file until it is written
UNDISTURBED = "undisturbed"


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyDisk]:
    with faulty_disk(tmp_path_factory.mktemp("network")) as disk:
        yield disk


@pytest.fixture(scope="module")
def place(mounted: FaultyDisk, workplace: Path) -> Path:  # noqa: F811
    """Encoder, rows, tokens and a finished run on the network disk, and an undisturbed training."""
    folder = mounted.folder / "work place"
    shutil.copytree(workplace, folder)
    finish(command(folder, UNDISTURBED, "prompt_tuning"))
    return folder


@pytest.fixture
def disk(mounted: FaultyDisk) -> Iterator[FaultyDisk]:
    """The network disk, which is whole before and after the test."""
    yield mounted
    mounted.fails()


def only_error(said: str) -> str:
    """The error of a step, which says nothing else but warnings of a run's quality."""
    (line,) = [line for line in said.splitlines() if "majority class" not in line]
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


# Full disks


@full
def test_a_quota_reached_in_the_middle_of_a_checkpoint_keeps_the_one_before(disk, place, error, at_the_end):
    name = f"{error}-{at_the_end}"
    words = [*command(place, name, "prompt_tuning"), "--log", str(place / f"{name}.txt")]
    process = start_and_save(words, place / name)
    disk.fails(files=SAFETENSORS, quota=1000, error=error, at_the_end=at_the_end)
    line = only_error(process.communicate()[1].decode())
    assert process.returncode == 1
    (file,) = checkpoints(place / name)
    assert line.startswith(f"{file} cannot be written, the disk is full: free some space, then run")
    saved = Checkpoint(place / name, file.stem.removeprefix(".checkpoint-"), every=60).peek()
    assert saved is not None and saved["state"]["step"] > 0
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    disk.fails()
    finish(words)
    assert f"resuming after step {saved['state']['step']} from" in (place / f"{name}.txt").read_text()
    assert outputs(place, name) == outputs(place, UNDISTURBED)


@full
@pytest.mark.parametrize("file", ["run.json", "log.jsonl", ".run.json.made.json"])
def test_a_quota_reached_at_the_end_of_a_training_loses_nothing_of_it(disk, place, file, error, at_the_end):
    name = f"{file}-{error}-{at_the_end}"
    words = command(place, name, "prompt_tuning")
    disk.fails(files=f".{file}.*", quota=100, error=error, at_the_end=at_the_end)
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert only_error(ended.stderr).startswith(f"{place / name / file} cannot be written, the disk is full")
    disk.fails()
    finish(words)
    assert outputs(place, name) == outputs(place, UNDISTURBED)


@full
@pytest.mark.parametrize("file", ["de.parquet", "de.json"])
def test_a_quota_reached_in_predictions_keeps_those_before(disk, place, file, error, at_the_end):
    again = predicting(place, "de")
    path = predictions_in(place, "de") if file == "de.parquet" else predictions_record(place, "de")
    before = path.read_bytes()
    disk.fails(files=f".{file}.*", quota=10, error=error, at_the_end=at_the_end)
    ended = run("predict", *again)
    assert ended.returncode == 1
    assert only_error(ended.stderr).startswith(f"{path} cannot be written, the disk is full")
    assert path.read_bytes() == before
    disk.fails()
    assert run("predict", *again).returncode == 0
    assert path.read_bytes() == before


def scoring(place: Path) -> list[Any]:
    words = ["--predictions", predictions_record(place, "en"), "--rows", rows_file(place, "en", "test")]
    for name, ending in (("scores", "csv"), ("units", "parquet"), ("calibration", "csv")):
        words += [f"--{name}", place / f"{name}.{ending}"]
    return [*words, "--settings", '{"kind": "classification", "labels": ["a", "b", "c"], "languages": ["en"]}']


@full
@pytest.mark.parametrize("file", ["scores.csv", "units.parquet"])
def test_a_quota_reached_in_a_table_keeps_the_one_before(disk, place, file, error, at_the_end):
    words = scoring(place)
    first = run("score", *words)
    assert first.returncode == 0, first.stderr
    before = (place / file).read_bytes()
    disk.fails(files=f".{file}.*", quota=10, error=error, at_the_end=at_the_end)
    ended = run("score", *words)
    assert ended.returncode == 1
    assert only_error(ended.stderr).startswith(f"{place / file} cannot be written, the disk is full")
    assert (place / file).read_bytes() == before
    disk.fails()
    assert run("score", *words).returncode == 0
    assert (place / file).read_bytes() == before


def test_a_quota_that_is_reported_only_when_a_file_is_synchronised_keeps_the_one_before(disk):
    file = disk.folder / "table.json"
    write_json(file, "before")
    disk.fails(files=".table.json.*", quota=10, error="EDQUOT", at_the_end="fsync")
    with pytest.raises(UserError, match=r"table\.json cannot be written, the disk is full"):
        write_json(file, "longer than before")
    assert read_json(file) == "before"


# Disks and servers that fail


@pytest.mark.parametrize("name", ["EIO", "ESTALE"])
@pytest.mark.parametrize("way", ["open", "read"])
@pytest.mark.parametrize(
    "file",
    [
        "tokens/de/test/tokens.json",
        "tokens/de/test/data-00000-of-00001.arrow",
        "corpora/de/test.parquet",
        "encoder/encoder.json",
        "encoder/config.json",
        "encoder/model.safetensors",
        "searched/run.json",
        "searched/weights.safetensors",
    ],
)
def test_a_file_that_the_disk_does_not_deliver_is_named_and_kept(disk, place, file, way, name):
    """Nothing says that it is damaged and should be deleted: it may be the result of hours."""
    disk.fails(files=Path(file).name, **{way: name})
    ended = run("predict", *predicting(place, "de"))
    if way == "read" and file.endswith((".arrow", ".safetensors")):  # mapped into memory
        assert (ended.returncode, ended.stderr) == (-signal.SIGBUS, "")
        assert "the disk did not deliver a part of a file" in how_it_ended("died with <Signals.SIGBUS: 7>")
        return
    assert ended.returncode == 1
    line = only_error(ended.stderr)
    reason = os.strerror(getattr(errno, name))
    # transformers reads the encoder's configuration, and its error does not name the file.
    named = "a file" if file.endswith("config.json") and way == "read" else place / file
    assert line.startswith(f"{named} cannot be read") and f"({reason})" in line
    assert line.endswith(("run the workflow again: it resumes", "run the workflow again"))
    assert "delete" not in line


@pytest.mark.parametrize("name", ["EIO", "ESTALE"])
def test_a_checkpoint_that_the_disk_does_not_deliver_is_kept_and_resumed_later(disk, place, name):
    words = [*command(place, name, "prompt_tuning"), "--log", str(place / f"{name}.txt")]
    process = start_and_save(words, place / name)
    process.kill()
    process.communicate()
    disk.fails(files=".checkpoint-*", open=name)
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    (file,) = checkpoints(place / name)
    assert only_error(ended.stderr).startswith(
        f"{file} cannot be read or written ({os.strerror(getattr(errno, name))})"
    )
    disk.fails()
    finish(words)
    assert "resuming after step" in (place / f"{name}.txt").read_text()
    assert outputs(place, name) == outputs(place, UNDISTURBED)


def test_a_disk_that_became_read_only_ends_in_one_line(disk, place):
    disk.fails(read_only=True)
    ended = run("predict", *predicting(place, "de"))
    assert ended.returncode == 1
    assert "(Read-only file system): change its permissions" in only_error(ended.stderr)


# Without hard links and locks


def test_without_hard_links_and_file_locks_the_tables_are_the_same(finished_grid, tmp_path):
    with faulty_disk(tmp_path / "network") as disk:
        disk.fails(link="EPERM", flock="ENOLCK")
        grid = Workplace(finished_grid.checkout, disk.folder / "grid", finished_grid.configuration)
        outcome = grid.run()
        assert outcome.returncode == 0, outcome.stdout
        assert tables(grid.folder) == tables(finished_grid.folder)
        assert grid.planned() == []


def test_gpus_cannot_be_assigned_without_file_locks(disk):
    disk.fails(flock="ENOSYS")
    with pytest.raises(
        UserError, match=r"is on a disk without file locks \(Function not impl.* set TMPDIR to a folder"
    ):
        claim(["GPU-a"], disk.folder / "locks")


# Files that appear late


@pytest.fixture
def elsewhere(workplace, tmp_path, monkeypatch) -> Iterator[tuple[Path, Path]]:  # noqa: F811
    """A folder as its own machine and as another one sees it, where new names appear late."""
    monkeypatch.setenv(LATENCY, str(LATE))
    content = tmp_path / "there"
    shutil.copytree(workplace, content / "work place")
    with faulty_disk(tmp_path / "network", late=LATE, looked_for=LOOKED_FOR, content=content) as disk:
        await_files(disk.folder)
        yield content / "work place", disk.folder / "work place"


def await_files(folder: Path) -> None:
    """Wait until all files that were made elsewhere are visible."""
    list(folder.rglob("*"))  # the first look
    time.sleep(LOOKED_FOR)


def renew(file: Path) -> None:
    """Write a file again, so that it appears late elsewhere."""
    copy = file.with_name("copy")
    shutil.copy2(file, copy)
    copy.replace(file)


def assert_waits(step: str, words: list[Any], late: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is started when one of its files is not yet visible works; without waiting it fails."""
    monkeypatch.setenv(LATENCY, "0")
    renew(late)
    assert run(step, *words).returncode == 1
    monkeypatch.setenv(LATENCY, str(LATE))
    renew(late)
    ended = run(step, *words)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    "file", ["tokens/de/test/data-00000-of-00001.arrow", "encoder/model.safetensors", "searched/weights.safetensors"]
)
def test_a_prediction_waits_for_files_that_appear_late(elsewhere, monkeypatch, file):
    there, here = elsewhere
    assert_waits("predict", predicting(here, "de"), there / file, monkeypatch)


def test_scores_wait_for_predictions_that_appear_late(elsewhere, monkeypatch):
    there, here = elsewhere
    assert_waits("score", scoring(here), predictions_in(there, "en"), monkeypatch)


@pytest.mark.parametrize(("file", "waits"), [("weights.safetensors", False), *((file, True) for file in RUN_FILES)])
def test_the_winner_of_a_search_on_another_node_is_linked_and_not_trained_again(elsewhere, monkeypatch, file, waits):
    there, here = elsewhere
    record = there / "found" / "search" / "0.01.json"
    assert run("search", *searching(there, "found", record, [[{"learning_rate": 0.01}]])).returncode == 0
    await_files(here)
    renew(candidate_folder(record, {"learning_rate": 0.01}) / file)
    monkeypatch.setenv(LATENCY, str(LATE) if waits else "0")
    ended = run("train", *training(here, "linked", 0.01), "--searches", here / record.relative_to(there))
    assert ended.returncode == 0, ended.stderr
    assert ("the search trained this run" in (here / "linked.log").read_text()) == waits


def test_a_run_that_another_node_finished_meanwhile_is_not_trained_again(elsewhere, monkeypatch):
    """The lock is released before the record is visible here."""
    there, here = elsewhere
    monkeypatch.setenv(RESULTS, str(there))
    first = start_and_save(command(there, "both", "prompt_tuning"), there / "both")
    monkeypatch.setenv(RESULTS, str(here))
    shutil.copy(there / "both-selected.json", there / "copy")
    second = subprocess.run(command(here, "both", "prompt_tuning"), capture_output=True, text=True, check=False)
    assert first.wait() == 0
    first.stderr.close()
    assert second.returncode == 0, second.stderr
    assert second.stderr.endswith(f"that process has made {here / 'both' / 'run.json'}\n"), second.stderr


def test_a_lineage_record_that_appears_after_its_output_is_waited_for(tmp_path, monkeypatch):
    """Otherwise a command that follows another one at once would train again."""
    monkeypatch.setenv(LATENCY, str(LATE))
    (tmp_path / "run.json").touch()
    record = {"settings": {}, "inputs": {}, "bytes": 0, "sha256": ""}
    timer = threading.Timer(1, lambda: write_json(record_of(tmp_path / "run.json"), record))
    timer.start()
    assert Lineage().record(str(tmp_path / "run.json")) == record
    old = tmp_path / "old.json"
    old.touch()
    os.utime(old, (0, 0))
    begun = time.monotonic()
    assert Lineage().record(str(old)) is None
    assert time.monotonic() - begun < 1

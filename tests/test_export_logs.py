"""The logs for TensorBoard, trackio and Weights & Biases: their own readers find what was logged."""

import csv
import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_experiment import REPOSITORY, make_log, make_record

from workflow_scripts.console.export_logs import FORMATS, export, find_runs
from workflow_scripts.core.errors import UserError

SEED = "e5/xnli/en/lora/seed-13"
CANDIDATE = "e5/xnli/en/lora/search/0.01+0.001/lr-0.01"
RUN = {"epochs": 3, "kept_epoch": 2, "learning_rate": 1e-3, "metric": "accuracy", "validation": 70.0}
LOGGED = {"loss": "train/loss", "learning_rate": "train/learning_rate", "gradient_norm": "train/grad_norm"}


def needs(package: str) -> pytest.MarkDecorator:
    """Skip a test where an optional package is missing."""
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None, reason=f"{package} is not installed: envs/export.txt"
    )


@pytest.fixture
def results(tmp_path) -> Path:
    """A grid's results: one seed, one candidate of the search, and a training that was interrupted."""
    for place, name in enumerate((SEED, CANDIDATE)):
        write_run(tmp_path / "results" / name, seed=place)
    (tmp_path / "results/e5/xnli/en/lora/seed-42").mkdir()
    return tmp_path / "results"


def write_run(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    lines = pd.DataFrame(make_log(720, 1e-3, seed)).to_dict("records")
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    record = make_record(RUN, seed) | {"settings": {"method": "lora", "epochs": 3}}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")


def wanted(results: Path, name: str) -> dict[str, dict[int, float]]:
    """The values of a run by name and step, read from its files."""
    found: dict[str, dict[int, float]] = {}
    for line in (results / name / "log.jsonl").read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        found.setdefault("train/epoch", {})[values["step"]] = values["step"] / 240
        for column, tag in LOGGED.items():
            found.setdefault(tag, {})[values["step"]] = values[column]
    for evaluation in json.loads((results / name / "run.json").read_text(encoding="utf-8"))["evaluations"]:
        found.setdefault("eval/loss", {})[evaluation["step"]] = evaluation["validation_loss"]
        found.setdefault("eval/accuracy", {})[evaluation["step"]] = evaluation["metrics"]["accuracy"]
    return found


@needs("tensorboard")
def test_tensorboard_reads_every_value_of_every_run(results, tmp_path):
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    assert export(results, "tensorboard", tmp_path / "logs") == 2
    for name in (SEED, CANDIDATE):
        events = reader.EventAccumulator(str(tmp_path / "logs" / name), size_guidance={"scalars": 0}).Reload()
        found = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
        # TensorBoard stores single precision.
        single = {
            tag: {step: float(np.float32(value)) for step, value in values.items()}
            for tag, values in wanted(results, name).items()
        }
        assert found == single


@needs("tensorboard")
@needs("trackio")
@needs("tbparse")
def test_trackio_imports_the_event_files_of_every_run(results, tmp_path):
    folder, project = tmp_path / "logs", "export"
    export(results, "tensorboard", folder)
    program = (
        "import json, sys, trackio\n"
        "from trackio.sqlite_storage import SQLiteStorage\n"
        "trackio.import_tf_events(sys.argv[1], project=sys.argv[2])\n"
        "runs = SQLiteStorage.get_runs(sys.argv[2])\n"
        "print('FOUND ' + json.dumps({run: SQLiteStorage.get_logs(sys.argv[2], run) for run in runs}))\n"
    )
    environment = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", program, str(folder), project]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("FOUND ")]
    runs = json.loads(line.removeprefix("FOUND "))
    assert sorted(runs) == sorted([SEED, CANDIDATE])
    for name, points in runs.items():
        found: dict[str, dict[int, float]] = {}
        for point in points:
            for tag, value in point.items():
                if tag.startswith(("train/", "eval/")):
                    found.setdefault(tag, {})[point["step"]] = value
        for tag, values in wanted(results, name).items():
            assert found[tag] == pytest.approx(values, rel=1e-6)


def logged_records(data: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format: blocks of 32 KiB with chunks of checksum, length, type and content."""
    block, place, whole = 32768, 0, b""
    # A header of 7 bytes comes before, and belongs to the first block.
    while place + 7 <= len(data):
        left = block - (place + 7) % block
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or its last chunk
            yield whole
            whole = b""


@needs("wandb")
def test_weights_and_biases_has_an_offline_run_for_each_with_its_values_and_settings(results, tmp_path):
    messages = importlib.import_module("wandb.proto.wandb_internal_pb2")
    command = [sys.executable, "-m", "workflow_scripts.console.export_logs", results, "--to", "wandb"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "2 runs in " in ended.stdout and "wandb sync " in ended.stdout
    names = {}
    for file in (results / "logs/wandb/wandb").glob("offline-run-*/*.wandb"):
        found: dict[str, dict[int, float]] = {}
        for data in logged_records(file.read_bytes()[7:]):
            record = messages.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                name, group = record.run.display_name, record.run.run_group
                config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            if record.HasField("history"):
                values = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
                for tag in values:
                    if not tag.startswith("_"):
                        found.setdefault(tag, {})[values["_step"]] = values[tag]
        assert group == "e5/xnli/en/lora"
        assert config["method"] == "lora" and config["learning_rate"] == 1e-3
        names[name] = found
    assert names == {name: wanted(results, name) for name in (SEED, CANDIDATE)}


def test_csv_has_a_row_for_each_logged_step_and_each_evaluation(results, tmp_path):
    assert export(results, "csv", tmp_path / "logs") == 2
    with (tmp_path / "logs" / f"{SEED}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(10, 721, 10))
    for tag, values in wanted(results, SEED).items():
        assert {int(row["step"]): float(row[tag]) for row in rows if row[tag]} == values


def test_an_evaluation_between_two_log_lines_has_a_row_of_its_own(results):
    file = results / SEED / "run.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    record["evaluations"][0] |= {"step": 244, "epoch": 244 / 240}
    file.write_text(json.dumps(record), encoding="utf-8")
    (run,) = [run for run in find_runs(results) if run.name == SEED]
    assert list(run.points) == sorted(run.points) and len(run.points) == 73
    assert "train/loss" not in run.points[244] and "eval/loss" in run.points[244]


@pytest.mark.parametrize("form", FORMATS)
def test_a_folder_that_is_not_empty_is_left_as_it_is(results, tmp_path, form):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty: delete it, or name another folder with --output"):
        export(results, form, tmp_path / "logs")
    assert [file.name for file in (tmp_path / "logs").iterdir()] == ["mine.txt"]


def test_a_folder_without_trainings_ends_in_one_line(tmp_path):
    command = [sys.executable, "-m", "workflow_scripts.console.export_logs", tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr.startswith(f"error: {tmp_path} holds no finished training")
    assert ended.stderr.count("\n") == 1

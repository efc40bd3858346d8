"""Fine-tuned weights that are not kept are deleted after their predictions, and nothing is retrained because of it."""

from pathlib import Path

import pytest
from snakemake_runs import Workplace, copy_checkout, jobs

from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.unkept_weights import delete_unkept_weights

GRID = {
    "corpora": {"source": "mini", "limits": {"train": 16, "validation": 8, "test": 8}},
    "keep_weights": False,
    "seeds": [13, 42],
    "training": {"epochs": 1, "batch_size": 8},
    "methods": {"fine_tuning": {"learning_rates": [1e-3, 1e-4]}, "prompt_tuning": {"prompt_lengths": [2]}},
    "tasks": {"pawsx": {"languages": ["en"], "max_length": 64}},
}


@pytest.fixture(scope="module")
def grid(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A finished grid of two methods, one searched. Read only.

    Its first seed was finished when weights were kept.
    """
    place = tmp_path_factory.mktemp("dropped")
    encoders = {"encoders": {"tiny": {"source": "folder", "path": str(tiny_encoder)}}}
    workplace = Workplace(copy_checkout(place / "checkout"), place / "work", GRID | encoders)
    outcome = workplace.run({"keep_weights": True, "seeds": [13]})
    assert outcome.returncode == 0, outcome.stdout
    assert len([file for file in weights(workplace) if "/fine_tuning/" in file]) == 1 + 2  # the seed and the search
    outcome = workplace.run()
    assert outcome.returncode == 0, outcome.stdout
    return workplace


def weights(grid: Workplace) -> list[str]:
    results = grid.folder / "results"
    return sorted(str(file.relative_to(results / "tiny/pawsx")) for file in results.rglob("weights.safetensors"))


def test_only_prompts_are_kept_and_the_searchs_weights_are_gone_too(grid):
    assert weights(grid) == [f"en/prompt_tuning-2/seed-{seed}/weights.safetensors" for seed in (13, 42)]
    assert (grid.folder / "results/report.html").is_file()
    assert len(list((grid.folder / "results/tiny/pawsx/en/fine_tuning").rglob("run.json"))) == 4


@pytest.mark.parametrize(
    ("missing", "seeds", "deleted"),
    [
        (None, [13, 42], ["search", "search", "seed-13", "seed-42"]),
        ("seed-42/predictions/en.json", [13, 42], ["search", "search", "seed-13"]),
        ("seed-13/run.json", [13, 42], ["seed-42"]),
        ("seed-13/run.json", [42], ["search", "search", "seed-42"]),
    ],
    ids=["finished", "a prediction is missing", "the run that links the winner is missing", "no run links the winner"],
)
def test_weights_are_deleted_once_no_job_needs_them(grid, tmp_path, monkeypatch, missing, seeds, deleted):
    copy = grid.copied(tmp_path / "work")
    arm = copy.folder / "results/tiny/pawsx/en/fine_tuning"
    for run in arm.rglob("log.jsonl"):
        run.with_name("weights.safetensors").write_bytes(b"weights")
    if missing:
        (arm / missing).unlink()
    monkeypatch.chdir(copy.folder)
    found = delete_unkept_weights(load(copy.configuration | {"seeds": seeds}))
    assert sorted(file.relative_to("results/tiny/pawsx/en/fine_tuning").parts[0] for file in found) == deleted
    assert not any(file.exists() for file in found)
    assert len(list(arm.rglob("weights.safetensors"))) == 4 - len(deleted)


def test_nothing_is_trained_again_because_weights_are_gone(grid):
    assert grid.planned() == []


def test_keeping_weights_from_now_on_trains_nothing_either(grid):
    assert grid.planned({"keep_weights": True}) == jobs("collect", "compare", "exemplify", "explain", "render", "all")


def test_another_language_needs_the_weights_and_another_seed_only_its_own(grid):
    planned = grid.planned({"tasks.pawsx.languages": ["en", "de"]})
    trained = [job for job in planned if job.startswith(("train", "search", "select"))]
    assert trained == jobs("train_and_drop tiny/pawsx/en/fine_tuning/{13,42}")
    planned = grid.planned({"seeds": [13, 42, 7]})
    trained = [job for job in planned if job.startswith(("train", "search", "select"))]
    assert trained == jobs("train tiny/pawsx/en/prompt_tuning-2/7", "train_and_drop tiny/pawsx/en/fine_tuning/7")


@pytest.mark.slow
@pytest.mark.parametrize("kept", [False, True])
def test_the_searchs_winner_is_trained_again_where_it_is_needed_again(grid, tmp_path, kept):
    """Whether weights are kept from now on."""
    copy = grid.copied(tmp_path / "work")
    before = (copy.folder / "results/scores.csv").read_text()
    outcome = copy.run({"tasks.pawsx.languages": ["en", "de"]} | ({"keep_weights": True} if kept else {}))
    assert outcome.returncode == 0, outcome.stdout
    kept_now = [f"en/fine_tuning/seed-{seed}/weights.safetensors" for seed in (13, 42)] if kept else []
    assert weights(copy) == sorted([*weights(grid), *kept_now])
    after = (copy.folder / "results/scores.csv").read_text()
    assert set(before.splitlines()) < set(after.splitlines())

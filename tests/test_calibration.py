"""Calibrated probabilities: the temperature, the expected calibration error, and what the report says about them."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_experiment import ARMS, ENCODER
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from step_settings import scoring
from test_report import bare_report
from tiny import LABELS

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import read_json
from workflow_scripts.corpora.schema import (
    Confidences,
    read_confidences,
    read_predictions,
    read_rows,
    write_predictions,
)
from workflow_scripts.evaluation.calibration import BINS, calibration, expected_calibration_error
from workflow_scripts.kinds import part
from workflow_scripts.reporting.inputs import COLUMNS
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.sections import sections
from workflow_scripts.tuning.temperature import HIGHEST, LOWEST, NO_LOSS, fit_temperature

CPU = torch.device("cpu")


# The expected calibration error


def test_the_error_is_the_mean_distance_of_scikit_learns_curve():
    random = np.random.default_rng(0)
    confidences = random.beta(4, 1, 100 * BINS)
    correct = random.random(len(confidences)) < confidences**2
    shares, means = calibration_curve(correct, confidences, n_bins=BINS, strategy="quantile")
    assert len(shares) == BINS
    assert expected_calibration_error(confidences, correct) == pytest.approx(100 * np.abs(shares - means).mean())


def test_the_error_of_answers_with_a_known_distance_is_that_distance():
    """Half of them have 0.9 and are correct in 7 of 10 cases, the others 0.6 and are correct in 6 of 10."""
    confidences, correct = np.repeat([0.9, 0.6], 300), np.tile([1] * 7 + [0] * 3, 30).tolist()
    correct = np.array([*correct, *np.tile([1] * 6 + [0] * 4, 30)])
    assert expected_calibration_error(confidences, correct) == pytest.approx(0.5 * 20)


def test_the_error_of_right_probabilities_falls_with_the_number_of_answers():
    random = np.random.default_rng(1)
    found = []
    for answers in (100, 1_000, 100_000):
        confidences = random.beta(5, 0.9, answers)
        found.append(expected_calibration_error(confidences, random.random(answers) < confidences))
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.6


def test_the_order_of_answers_with_equal_probabilities_does_not_matter():
    random = np.random.default_rng(2)
    confidences = random.choice([0.5, 0.7, 1.0], 500)
    correct = random.random(500) < 0.6
    expected = expected_calibration_error(confidences, correct)
    for _ in range(3):
        order = random.permutation(500)
        assert expected_calibration_error(confidences[order], correct[order]) == pytest.approx(expected)


def test_fewer_answers_than_bins_have_a_bin_each():
    assert expected_calibration_error(np.array([0.9, 0.6]), np.array([1, 0])) == pytest.approx(100 * (0.1 + 0.6) / 2)


# The temperature


def batches_of(logits: torch.Tensor, targets: torch.Tensor, size: int = 100) -> list:
    """Logits (rows, labels) of classification in batches, with their targets."""
    parts = zip(logits.split(size), targets.split(size), strict=True)
    return [(values, {"input_ids": values, "label": labels}) for values, labels in parts]


def test_the_temperature_is_the_inverse_of_logistic_regressions_coefficient():
    """With two labels, scaling the difference of their logits is a logistic regression without intercept."""
    random = np.random.default_rng(3)
    difference = random.normal(0, 4, 950)  # the last batch is smaller
    targets = (random.random(950) < 1 / (1 + np.exp(-difference / 2.5))).astype(np.int64)
    logits = torch.tensor(np.stack([np.zeros(950), difference], 1), dtype=torch.float32)
    fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8).fit(difference[:, None], targets)
    found = fit_temperature(part("classification", "model"), batches_of(logits, torch.tensor(targets)))
    assert found == pytest.approx(1 / fitted.coef_[0, 0], rel=2e-3)
    assert 2 < found < 3


@pytest.mark.parametrize("true", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("kind", ["tagging", "entities", "multiple_choice"])
def test_the_temperature_of_sampled_answers_is_found_again(kind, true):
    torch.manual_seed(0)
    model, batches = part(kind, "model"), []
    for _ in range(20):
        if kind == "multiple_choice":
            scores = 3 * torch.randn(64, 4)
            gold = torch.distributions.Categorical(logits=scores / true).sample()
            batch = {
                "choice": torch.arange(4).repeat(64),
                "correct": torch.nn.functional.one_hot(gold, 4).flatten(),
            }
            batches.append((scores.reshape(-1, 1), batch))
        else:
            scores = 3 * torch.randn(16, 8, model.outputs(LABELS[kind]))
            gold = torch.distributions.Categorical(logits=scores / true).sample()
            gold[:, 0] = -100
            batches.append((scores, {"labels": gold}))
    assert fit_temperature(model, batches) == pytest.approx(true, rel=0.1)


@pytest.mark.parametrize("margin", [4.0, 100.0])
def test_a_validation_set_without_errors_has_temperature_1_and_one_without_correct_answers_the_highest(margin):
    targets = torch.arange(90) % 3
    logits = torch.nn.functional.one_hot(targets, 3) * margin
    model = part("classification", "model")
    assert fit_temperature(model, batches_of(logits, targets)) == 1.0
    assert fit_temperature(model, batches_of(logits, (targets + 1) % 3)) == pytest.approx(HIGHEST, rel=0.01)


def test_a_model_that_is_always_right_and_never_sure_has_the_lowest_temperature():
    targets = torch.arange(90) % 3
    logits = torch.nn.functional.one_hot(targets, 3) * 0.01
    found = fit_temperature(part("classification", "model"), batches_of(logits, targets))
    assert found == pytest.approx(LOWEST, rel=0.01)


def test_a_single_error_in_the_validation_set_gives_a_temperature():
    """The likelihood is highest where each of the 89 has the probability 89/90: exp(4 / t) = 178."""
    targets = torch.arange(90) % 3
    logits = torch.nn.functional.one_hot(targets, 3) * 4.0
    targets[0] = 1
    found = fit_temperature(part("classification", "model"), batches_of(logits, targets))
    assert found == pytest.approx(4 / np.log(2 * 89), rel=2e-3)


@pytest.mark.parametrize(("kind", "module"), [("regression", "model"), ("question_answering", "words")])
def test_kinds_without_probabilities_have_no_temperature(kind, module):
    assert fit_temperature(part(kind, module), []) is None


# A finished grid


def test_every_run_records_the_temperature_of_the_kept_weights(finished_grid):
    """Reproduced independently from the stored weights: by a fine grid over the logits of the validation set."""
    from workflow_scripts.kinds.tokens import read_tokens
    from workflow_scripts.tuning.model import load_run
    from workflow_scripts.tuning.predict import logits

    resources = finished_grid.folder / "resources"
    for task, column in (("pawsx", "label"), ("udpos", "labels")):
        tokens = read_tokens(resources / f"tokens/tiny/{task}/en/validation/tokens.json")
        for seed in (13, 42):
            folder = finished_grid.folder / f"results/tiny/{task}/en/prompt_tuning-2/seed-{seed}"
            record = read_json(folder / "run.json")
            model, settings = load_run(resources / "encoders/tiny", folder, CPU, [tokens])
            values = logits(model, tokens, settings.precision, CPU)
            if task == "pawsx":
                scores, gold = np.stack(values), np.asarray(tokens.plain(column))
            else:
                known = [np.asarray(tokens.ragged(column)[feature]) for feature in range(len(values))]
                scores = np.concatenate([of[tags >= 0] for of, tags in zip(values, known, strict=True)])
                gold = np.concatenate([tags[tags >= 0] for tags in known])
            tried = np.exp(np.linspace(np.log(LOWEST), np.log(HIGHEST), 3001))
            losses = [
                float(torch.nn.functional.cross_entropy(torch.tensor(scores / at), torch.tensor(gold).long()))
                for at in tried
            ]
            if losses[0] <= NO_LOSS:
                assert record["temperature"] == 1.0, "every answer is correct"
            else:
                nearest = losses[int(np.abs(tried - record["temperature"]).argmin())]
                assert nearest == pytest.approx(min(losses), abs=1e-5)
            kept = [one for one in record["evaluations"] if one["step"] in record["kept"]]
            assert [one["temperature"] for one in kept] == [record["temperature"]]


def test_a_run_that_the_search_trained_has_its_temperature(finished_grid):
    folder = finished_grid.folder / "results/tiny/pawsx/en/prompt_tuning-2"
    (winner,) = folder.glob(f"search/*/lr-{read_json(folder / 'selected.json')['learning_rate']}/run.json")
    assert read_json(folder / "seed-13/run.json")["temperature"] == read_json(winner)["temperature"] > 0


def test_predictions_have_the_probability_of_each_answer(finished_grid):
    run = finished_grid.folder / "results/tiny"
    rows = {
        task: read_rows(finished_grid.folder / f"resources/corpora/{task}/en/test.parquet", kind)
        for task, kind in (("pawsx", "classification"), ("udpos", "tagging"))
    }
    for task, labels in (("pawsx", 2), ("udpos", 17)):
        folder = run / task / "en/prompt_tuning-2/seed-42"
        file = folder / "predictions/en/en.parquet"
        predictions, confidences = read_predictions(file), read_confidences(file)
        at = {}
        for name, by_row in confidences._asdict().items():
            assert list(by_row) == list(predictions)
            if task == "udpos":
                assert [len(by_row[row["id"]]) for row in rows[task]] == [len(row["tokens"]) for row in rows[task]]
            at[name] = np.concatenate([np.atleast_1d(value) for value in by_row.values()])
            assert (at[name] > 1 / labels - 1e-6).all() and (at[name] <= 1).all()
        temperature = read_json(folder / "run.json")["temperature"]
        assert temperature != 1
        raised = at["calibrated"] - at["uncalibrated"]
        assert (raised <= 0).all() if temperature > 1 else (raised >= 0).all()
        assert raised.any()


def table_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_the_table_has_each_model_and_language_with_the_accuracy_of_the_scores(finished_grid):
    results = finished_grid.folder / "results"
    found = table_of(results / "calibration.csv")
    keys = ("task", "seed", "language")
    accuracies = {
        tuple(row[key] for key in keys): float(row["value"])
        for row in table_of(results / "scores.csv")
        if row["metric"] == "accuracy"
    }
    assert len(found) == len(accuracies) == 6
    for row in found:
        assert float(row["accuracy"]) == pytest.approx(accuracies[tuple(row[key] for key in keys)])
        assert 0 <= float(row["error"]) <= 100
        record = read_json(results / "tiny" / row["task"] / f"en/prompt_tuning-2/seed-{row['seed']}/run.json")
        assert float(row["temperature"]) == record["temperature"]


# Bad files


def test_predictions_without_probabilities_have_no_calibration(tmp_path):
    rows = [{"id": "a", "group": "a", "text": "x", "text_pair": None, "label": "yes"}]
    write_predictions(tmp_path / "made.parquet", {"a": "yes"})
    confidences = read_confidences(tmp_path / "made.parquet")
    assert confidences is None
    assert calibration("classification", rows, {"a": "yes"}, confidences, scoring()) is None
    known = Confidences({"a": 0.9}, {"a": 0.8})
    write_predictions(tmp_path / "made.parquet", {"a": "yes"}, confidences=known)
    found = calibration("classification", rows, {"a": "yes"}, read_confidences(tmp_path / "made.parquet"), scoring())
    assert (found["error"], found["error_uncalibrated"]) == (pytest.approx(10, abs=1e-5), pytest.approx(20, abs=1e-5))
    assert calibration("regression", rows, {"a": 1.0}, known, scoring()) is None, "it has no correct answers"


def test_another_number_of_probabilities_than_words_is_refused():
    rows = [{"id": "a", "group": "a", "tokens": ["x", "y"], "tags": ["X", "X"]}]
    short = Confidences({"a": [0.5]}, {"a": [0.5]})
    with pytest.raises(UserError, match="row 'a' has 2 answers but 1 probabilities"):
        calibration("tagging", rows, {"a": ["X", "X"]}, short, scoring())


def test_an_answer_to_a_question_is_correct_if_it_is_an_exact_match():
    rows = [
        {"id": name, "group": name, "context": "", "question": "", "answers": {"text": ["The dog"], "start": [0]}}
        for name in "ab"
    ]
    correct = part("question_answering", "metrics").correct
    assert correct(rows, ["dog", "a dog barks"], scoring()) == [[True], [False]]


def test_probabilities_of_tags_are_those_of_the_predicted_ones():
    from workflow_scripts.kinds.probability import confidence

    assert confidence({"yes": 0.7, "no": 0.3}, "yes") == 0.7
    assert confidence([0.1, 0.6, 0.3], 1) == 0.6
    assert confidence([0.1, 0.6], ["X", "Y"]) == [0.1, 0.6]
    assert confidence(0.25, "an answer") == 0.25


# The report


def make_calibration(after: float, before: float) -> pd.DataFrame:
    """Probabilities so many points above the accuracy in German and Chinese, and right in English."""
    rows = [
        [ENCODER, "xnli", "en", method, length, seed, 1.5, language, 1000, 3.0, 9.0, 80 + over, 80 + over_before, 80.0]
        for method, length in ARMS
        for seed in (1, 2)
        for language, over, over_before in (("en", 0.0, 0.0), ("de", after, before), ("zh", after, before))
    ]
    return pd.DataFrame(rows, columns=COLUMNS["calibration"])


def test_the_report_says_where_models_are_overconfident():
    report = bare_report()
    assert "calibration" not in [made.identifier for made in sections(report)]
    shown = Report.of(replace(report.inputs, calibration=make_calibration(4.0, -2.0)))
    methods = len({method for method, _ in ARMS})
    (made,) = [one for one in sections(shown) if one.identifier == "calibration"]
    sentences = made.parts[1].items
    assert f"in {2 * methods} of the {2 * methods} combinations" in sentences[0]
    assert sentences[0].endswith("before, in 0.")
    assert any("XNLI +4.0 (English: 0.0)" in sentence for sentence in sentences[1:]), sentences
    shown = Report.of(replace(report.inputs, calibration=make_calibration(-4.0, 2.0)))
    (made,) = [one for one in sections(shown) if one.identifier == "calibration"]
    assert f"in 0 of the {2 * methods} combinations" in made.parts[1].items[0]
    assert json.dumps(made.parts[1].items).count("\\u22124.0") == methods

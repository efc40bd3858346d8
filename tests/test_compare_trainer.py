"""The comparison with the Hugging Face Trainer: its arithmetic, and one small run."""

import json

import numpy as np
import pytest
from scipy.stats import ttest_ind

from benchmarks import compare_trainer


def results(side: str, scores: list[dict[str, float]], seconds: list[float]) -> list[dict]:
    return [
        {"side": side, "seed": seed, "scores": one, "seconds": took}
        for seed, (one, took) in enumerate(zip(scores, seconds, strict=True), 1)
    ]


def test_the_difference_over_its_error_is_the_statistic_of_welchs_test():
    ours = [{"en": 90.0, "de": 80.0}, {"en": 92.0, "de": 85.0}, {"en": 91.0, "de": 81.0}]
    theirs = [{"en": 91.0, "de": 84.0}, {"en": 93.5, "de": 83.0}, {"en": 91.0, "de": 88.0}]
    found = compare_trainer.summary(results("ours", ours, [2, 4, 5]) + results("trainer", theirs, [4, 10, 10]))
    for language in ("en", "de", "average"):
        sides = [
            [np.mean(list(one.values())) if language == "average" else one[language] for one in side]
            for side in (ours, theirs)
        ]
        difference = found["scores"][language]["difference"]
        assert difference["mean"] / difference["error"] == pytest.approx(ttest_ind(*sides, equal_var=False).statistic)
    assert found["scores"]["average"]["ours"]["mean"] == pytest.approx(86.5)
    assert found["times_as_fast"] == 2.0  # the median of 2, 2.5 and 2
    assert found["seeds"] == {"trainer": 3, "ours": 3}


def test_the_sides_take_turns_in_going_first_and_what_is_done_is_left_out():
    done = [{"task": "pairs", "side": "ours", "seed": 1}]
    assert compare_trainer.missing(done, ["pairs"], 2) == [
        ("pairs", "trainer", 1),
        ("pairs", "ours", 2),
        ("pairs", "trainer", 2),
    ]


@pytest.mark.slow
def test_both_sides_train_and_a_second_call_repeats_nothing(tiny_encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(compare_trainer.PLANS["questions"], "max_length", 160)  # the most positions of the tiny encoder
    output = tmp_path / "found.json"
    options = ["--tasks", "tagging", "pairs", "questions", "--rows", "20", "--epochs", "1", "--tests", "4"]
    options += ["--seeds", "1", "--layers", "1", "--encoder", str(tiny_encoder), "--output", str(output)]
    monkeypatch.setattr("sys.argv", ["compare_trainer", *options])
    compare_trainer.main()
    found = json.loads(output.read_text())
    assert {(one["task"], one["side"]) for one in found["results"]} == {
        (task, side) for task in compare_trainer.PLANS for side in compare_trainer.SIDES
    }
    assert all(np.isfinite(one["loss"]) and one["seconds"] > 0 for one in found["results"])
    capsys.readouterr()

    monkeypatch.setattr(compare_trainer, "run_module", None)  # nothing may be trained
    monkeypatch.setattr(compare_trainer, "run_json", None)
    compare_trainer.main()
    assert json.loads(output.read_text())["results"] == found["results"]
    assert "1 and 1 seeds" in capsys.readouterr().out

    monkeypatch.setattr("sys.argv", ["compare_trainer", *options, "--epochs", "2"])
    with pytest.raises(SystemExit, match="contains tagging with other settings"):
        compare_trainer.main()

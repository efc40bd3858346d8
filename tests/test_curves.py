"""Training curves: from a run's log and evaluations to the table, and from the table to the charts of the report."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_experiment import make_curves, make_log, make_record, make_report, make_runs

from workflow_scripts.core.errors import UserError
from workflow_scripts.evaluation.curves import LOGGED, POINTS, curve_rows, read_log, thinned
from workflow_scripts.reporting.charts import Axis, Plot, curve_of, log_axis
from workflow_scripts.reporting.parts import Folded, Heading, Plots
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.sections import sections
from workflow_scripts.reporting.views import curves

TASKS = ("xnli", "udpos")


def write_log(path: Path, log: dict[str, np.ndarray]) -> Path:
    """The log as the training writes it."""
    lines = pd.DataFrame(log).to_dict("records")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_log_is_read_as_it_was_written(tmp_path):
    written = make_log(2400, 1e-3, seed=1)
    read = read_log(write_log(tmp_path / "log.jsonl", written))
    assert read.keys() == {"step", *LOGGED}
    for name, values in written.items():
        assert (read[name] == values).all()


def test_the_log_of_a_method_that_trains_nothing_is_empty(tmp_path):
    (tmp_path / "log.jsonl").touch()
    log = read_log(tmp_path / "log.jsonl")
    assert list(curve_rows(log, {"evaluations": [], "kept": [], "steps": 480, "epochs": 3.0})) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "log.jsonl is missing: delete"),
        (
            '{"step": 10, "loss": 1.0, "learning_rate": 0.1, "gradient_norm": 2.0}\n{"step": 20, "lo',
            "log.jsonl is damaged",
        ),
        ('{"step": 10, "loss": 1.0}\n', "a line lacks learning_rate and gradient_norm"),
    ],
    ids=["missing", "cut off", "without columns"],
)
def test_a_damaged_log_is_named_with_the_file_to_delete(tmp_path, text, message):
    if text is not None:
        (tmp_path / "log.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as raised:
        read_log(tmp_path / "log.jsonl", made_by=tmp_path / "search.json")
    assert f"delete {tmp_path / 'search.json'} and run the workflow again" in str(raised.value)


@pytest.mark.parametrize("lines", [POINTS + 1, 3 * POINTS + 7, 40_000])
def test_a_long_log_is_thinned_without_losing_its_mean_its_peak_and_its_end(lines):
    log = make_log(10 * lines, 1e-3, seed=2)
    few = thinned(log)
    assert {len(values) for values in few.values()} == {POINTS}
    assert few["step"][-1] == 10 * lines
    assert few["gradient_norm"].max() == log["gradient_norm"].max() == 60.0
    sizes = np.diff(np.searchsorted(log["step"], few["step"], side="right"), prepend=0)
    assert sizes.max() - sizes.min() <= 1
    assert np.average(few["loss"], weights=sizes) == pytest.approx(log["loss"].mean())
    assert set(few["learning_rate"]) <= set(log["learning_rate"])


def test_a_short_log_stays_as_it_is():
    log = make_log(10 * POINTS, 1e-3, seed=2)
    assert thinned(log) is log


def test_steps_are_counted_in_epochs_and_the_kept_evaluation_is_marked():
    (run,) = make_runs(["xnli"], seeds=[3], arms=[("prompt_tuning", 8)]).query("stage == 'seed'").to_dict("records")
    frame = pd.DataFrame(curve_rows(make_log(7200, 1e-3, 1), make_record(run, 3)))
    assert set(frame["quantity"]) == {*LOGGED.values(), "validation_loss", "validation_accuracy"}
    assert (frame["epoch"] == frame["step"] / 240).all()
    evaluations = frame[frame["quantity"] == "validation_accuracy"]
    assert len(evaluations) == 30
    assert evaluations[evaluations["kept"]]["epoch"].tolist() == [21]
    assert evaluations.set_index("epoch")["value"].idxmax() == 21
    assert set(frame[frame["kept"]]["quantity"]) == {"validation_accuracy", "validation_loss"}


def test_a_training_that_diverged_before_its_first_evaluation_has_epochs_as_well():
    record = {"evaluations": [], "kept": [], "steps": 4800, "epochs": 2.0}
    frame = pd.DataFrame(curve_rows(make_log(1200, 1e-3, 1), record))
    assert frame["epoch"].max() == 0.5


# Charts


@pytest.mark.parametrize("logarithmic", [False, True])
def test_a_curve_passes_within_a_thousandth_of_all_its_points(logarithmic):
    log = make_log(10 * POINTS, 1e-3, seed=4)
    across = Axis(0, 2000)
    up = log_axis(log["gradient_norm"])[0] if logarithmic else Axis(0, 80)
    curve = curve_of((across, log["step"]), (up, log["gradient_norm"]), "", "")
    places = np.array([point.split(",") for point in curve.points.split()], float)
    assert len(places) < POINTS
    wanted = [1000 - 10 * up.place(value) for value in log["gradient_norm"]]
    # One for what is left out, one for rounding.
    assert np.interp(log["step"] / 2, *places.T) == pytest.approx(wanted, abs=2)


def test_a_straight_line_has_two_points():
    curve = curve_of((Axis(0, 999), np.arange(1000)), (Axis(0, 1), np.linspace(0, 1, 1000)), "", "")
    assert curve.points == "0,1000 1000,0"


def test_a_jump_at_one_place_is_drawn():
    curve = curve_of((Axis(0, 1e9), np.arange(4)), (Axis(0, 1), np.array([0.0, 1.0, 0.5, 0.0])), "", "")
    assert curve.points == "0,1000 0,0 0,500 0,1000"


@pytest.fixture(scope="module")
def report() -> Report:
    """Two tasks, three arms, three seeds, and a search for each arm; the last candidate of one arm diverged."""
    runs = make_runs(TASKS)
    found = make_curves(runs)
    wild = (found["learning_rate"] == 1e-2) & (found["prompt_length"] == 8) & (found["quantity"] == "training_loss")
    found.loc[wild, "value"] *= 1000
    return make_report(runs=runs, curves=found)


def charts(report: Report) -> dict[tuple[str, str], tuple[Plot, ...]]:
    """The charts of each task and arm, by their titles."""
    section = curves.section(report)
    assert section is not None
    found = {}
    for part in section.parts:
        if isinstance(part, Folded):
            heads, plots = part.parts[::2], part.parts[1::2]
            for head, several in zip(heads, plots, strict=True):
                assert isinstance(head, Heading) and isinstance(several, Plots)
                found[part.title, head.title] = several.plots
    return found


def test_each_arm_of_each_task_has_four_charts_with_all_its_seeds(report):
    found = charts(report)
    assert list(found) == [
        (task, arm)
        for task in ("XNLI", "UD-POS")
        for arm in ("Fine-tuning", "Prompt tuning, length 8", "Prompt tuning, length 16")
    ]
    for loss, validation, rate, norm in found.values():
        assert loss.title == "Loss" and rate.title == "Learning rate" and norm.title == "Gradient norm, logarithmic"
        assert validation.title in ("Validation accuracy, %", "Validation F1, %")
        for plot, quantity in ((loss, "training loss"), (loss, "validation loss"), (norm, "gradient norm")):
            for seed in (1, 2, 3):
                assert sum(curve.title.startswith(f"seed {seed}, {quantity}: from ") for curve in plot.curves) == 1
        assert [curve.title.split(":")[0] for curve in rate.curves] == ["seeds 1, 2 and 3, learning rate"]


def test_candidates_that_were_not_chosen_are_drawn_apart_below_the_seeds(report):
    _, validation, rate, _ = charts(report)["XNLI", "Prompt tuning, length 16"]
    grey = [curve for curve in validation.curves if "hue-none" in curve.kind.split()]
    assert [curve.title.split(",")[0] for curve in grey] == ["candidate 1e-2", "candidate 1e-3"]
    assert grey == list(validation.curves[:2])
    assert not any("candidate" in curve.title for curve in rate.curves)


def test_a_candidate_that_diverged_does_not_flatten_the_curves_of_the_seeds(report):
    wild, tame = (charts(report)["XNLI", f"Prompt tuning, length {length}"][0] for length in (8, 16))
    assert wild.axes is not None and tame.axes is not None
    assert wild.axes[1] == tame.axes[1], "all arms of a task have one scale"
    assert wild.axes[1].high < 2
    outside = [curve for curve in wild.curves if curve.title.startswith("candidate 1e-2, training")]
    assert len(outside) == 1 and min(float(point.split(",")[1]) for point in outside[0].points.split()) < -1000


def test_the_kept_evaluation_of_each_seed_is_marked_at_its_value(report):
    validation = charts(report)["XNLI", "Prompt tuning, length 16"][1]
    assert [mark.title for mark in validation.marks] == [
        f"seed {seed}, kept: 68.{seed} at step 5,040, epoch 21" for seed in (1, 2, 3)
    ]
    assert {mark.x for mark in validation.marks} == {70.0}, "step 5,040 of 7,200"


def test_a_run_that_ended_early_says_why(report):
    runs = report.runs.astype({"epochs_taken": float})
    stopped = (runs["stage"] == "seed") & (runs["seed"] == 2)
    runs.loc[stopped, ["stopped", "epochs_taken"]] = ["no gain in 3 evaluations", 1.5]
    runs.loc[(runs["stage"] == "search") & (runs["learning_rate"] == 1e-2), "left_search_after"] = 1 / 3
    found = charts(make_report(runs=runs, curves=report.inputs.curves))
    titles = [curve.title.split(", ")[0] for curve in found["XNLI", "Prompt tuning, length 16"][1].curves]
    assert titles == [
        "candidate 1e-2 (left the search after 33% of the steps)",
        "candidate 1e-3",
        "seed 1",
        "seed 2 (stopped after epoch 1.5: no gain in 3 evaluations)",
        "seed 3",
    ]


def test_only_few_charts_are_open_without_a_click(report):
    section = curves.section(report)
    assert not any(part.opened for part in section.parts if isinstance(part, Folded))
    runs = make_runs(["xnli"])
    section = curves.section(make_report(runs=runs, curves=make_curves(runs)))
    assert [part.opened for part in section.parts if isinstance(part, Folded)] == [True]


def test_without_curves_the_page_has_no_such_section():
    assert curves.section(make_report()) is None
    assert "curves" not in [section.identifier for section in sections(make_report())]


def test_infinite_losses_are_left_out():
    runs = make_runs(["xnli"])
    found = make_curves(runs)
    infinite = (found["quantity"] == "training_loss") & (found["seed"] == 2) & (found["step"] > 240)
    found.loc[infinite, "value"] = float("inf")
    loss = charts(make_report(runs=runs, curves=found))["XNLI", "Fine-tuning"][0]
    (cut,) = [curve for curve in loss.curves if curve.title.startswith("seed 2, training loss")]
    assert cut.points.split()[-1].split(",")[0] == "500"
    assert all("inf" not in curve.title for curve in loss.curves)


def test_the_description_names_every_curve(report):
    for plots in charts(report).values():
        for plot in plots:
            assert plot.description.startswith(plot.title)
            assert all(curve.title in plot.description for curve in plot.curves)

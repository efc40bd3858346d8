"""The answer as plain text: what a terminal shows at the end of a run."""

import pandas as pd
from made_up_experiment import ARMS, make_differences, make_inputs, make_provenance, make_runs, make_scores
from paper_tasks import TASKS

from workflow_scripts.evaluation.aggregate import averages
from workflow_scripts.reporting.inputs import Inputs
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.summary import summary_text
from workflow_scripts.reporting.verdicts import headline


def text_of(inputs: Inputs) -> str:
    return summary_text(Report.of(inputs))


def small(**changes) -> Inputs:
    parts = {"scores": make_scores(["xnli"]), "runs": make_runs(["xnli"]), "differences": make_differences(["xnli"])}
    return make_inputs(**{**parts, **changes})


def test_it_starts_with_the_headline_of_the_page():
    inputs = make_inputs()
    text = " ".join(text_of(inputs).partition("\n\n")[0].split())
    assert text == " ".join(headline(Report.of(inputs)))


def test_it_has_a_row_for_each_task_metric_and_method_with_the_average_of_table_1():
    inputs = make_inputs()
    text = text_of(inputs)
    for task in TASKS.values():
        assert text.count(f"\n{task.title}, ") == len(task.metrics)
    table = averages(inputs.scores)
    for row in table[table["prompt_length"].isin([0, 16])].to_dict("records"):
        assert f"{row['mean']:.1f} ± {row['std']:.1f}" in text
    assert "length 8" not in text, "the length that validation did not choose"


def test_a_difference_stands_beside_the_method_it_is_of_and_a_star_says_that_it_is_more_than_chance():
    rows = make_differences(["xnli"])
    known = {"difference": -2.0, "low": -3.5, "high": -0.5, "significant": True}
    row = next(
        line for line in text_of(small(differences=rows.assign(**known))).splitlines() if "Prompt tuning," in line
    )
    assert row.endswith("−2.0 *      −3.5 to −0.5")
    unknown = {"low": float("nan"), "high": float("nan"), "significant": False}
    row = next(
        line for line in text_of(small(differences=rows.assign(**unknown))).splitlines() if "Prompt tuning," in line
    )
    assert row.endswith("not known") and "*" not in row


def test_no_line_is_wider_than_a_terminal_and_names_cannot_control_it():
    assert max(map(len, text_of(make_inputs()).splitlines())) <= 100
    evil = small()
    encoder = "e5\x1b[2J"
    tables = {name: getattr(evil, name).assign(encoder=encoder) for name in ("scores", "runs", "differences")}
    both = {name: pd.concat([getattr(evil, name), table], ignore_index=True) for name, table in tables.items()}
    text = text_of(small(**both))
    assert "\x1b" not in text and r"e5\u001b[2J" in text


def test_an_average_over_fewer_languages_says_so():
    scores = make_scores(["xnli"])
    without = scores[~((scores["language"] == "sw") & (scores["method"] == "fine_tuning"))]
    assert "(only 14 languages)" in text_of(small(scores=without))


def test_only_a_grid_that_is_not_comparable_with_published_numbers_says_so():
    assert "crossprompt mini: not comparable with published numbers." in text_of(small())
    comparable = make_provenance(source="hub", name="XTREME", comparable_with_the_paper=True)
    assert "not comparable" not in text_of(small(provenance=comparable))


def test_without_a_difference_it_says_so_and_has_no_empty_columns():
    methods = {"fine_tuning": "lora", "prompt_tuning": "adapter"}
    scores, runs = (
        table.replace({"method": methods, "prompt_length": {8: 0, 16: 0}})
        for table in (make_scores(["xnli"], arms=ARMS[::2]), make_runs(["xnli"], arms=ARMS[::2]))
    )
    text = text_of(small(scores=scores, runs=runs, differences=make_differences(["xnli"]).iloc[:0]))
    assert text.startswith("There is no answer: no two methods were compared by a test.\n")
    assert "Adapter tuning" in text and "Difference" not in text and "*" not in text

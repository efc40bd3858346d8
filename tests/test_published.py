"""The paper's printed figures: what the audit finds, what it accepts, and how ours are shown beside them."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_experiment import ANALYSED, make_alignment, make_inputs, make_provenance, make_runs, make_scores
from paper_tasks import TASKS

from workflow_scripts.core.errors import UserError
from workflow_scripts.reporting.published import (
    analysis_as_printed,
    audit_in_words,
    deviation_range,
    languages_as_printed,
    read_published,
    relative_difference_range,
)
from workflow_scripts.reporting.published import audit as audit_of
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.tasks import tasks_of
from workflow_scripts.reporting.views.published import published_tables

FILE = Path(__file__).resolve().parent.parent / "report" / "published.csv"
ENCODER = "multilingual-e5-small"

# Facts of the paper's tables 6, 7 and 8: the row's scores, the average printed beside them, and their mean.
WRONG_AVERAGES = {
    ("pawsx", "fine_tuning", 1, "accuracy"): ([95.6, 90.8, 81.4, 91.3, 82.7, 81.8, 84.5], 88.3, 86.87),
    ("pawsx", "fine_tuning", 5, "accuracy"): ([94.7, 91.0, 91.4, 92.1, 82.4, 93.2, 84.2], 88.6, 89.86),
    ("xquad", "prompt_tuning", 4, "exact_match"): (
        [77.1, 64.7, 63.9, 62.7, 64.7, 59.2, 59.7, 60.8, 66.6, 61.0, 61.6],
        64.7,
        63.82,
    ),
    ("tydiqa", "fine_tuning", 1, "exact_match"): ([60.5, 51.5, 50.4, 51.0, 62.5, 49.6, 45.3, 44.7, 56.7], 46.2, 52.47),
}


def audit(published: pd.DataFrame) -> pd.DataFrame:
    return audit_of(published, tasks_of({}, TASKS))


def beside(
    scores: pd.DataFrame, runs: pd.DataFrame, pairs: list[tuple[str, str]], alignment: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Ours beside the paper's, where these pairs of encoder and task are comparable."""
    alignment = make_alignment().iloc[:0] if alignment is None else alignment
    provenance = make_provenance(comparable_pairs=pairs)
    return Report.of(make_inputs(scores=scores, runs=runs, alignment=alignment, provenance=provenance)).beside


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return read_published(FILE)


@pytest.fixture(scope="module")
def found(published) -> pd.DataFrame:
    return audit(published)


def wrong(found: pd.DataFrame, tables=(5, 6, 7, 8)) -> pd.DataFrame:
    checked = found[found["agrees"].notna() & found["table"].isin(tables)]
    return checked[~checked["agrees"].astype(bool)]


def changed(published: pd.DataFrame, value: float, column: str = "value", **where) -> pd.DataFrame:
    """A copy with one figure changed."""
    rows = np.logical_and.reduce([(published[key] == wanted).fillna(False) for key, wanted in where.items()])
    assert rows.sum() == 1
    copy = published.copy()
    copy.loc[rows, column] = value
    return copy


def keys(rows: pd.DataFrame) -> set[tuple]:
    return set(rows[["task", "method", "run", "metric"]].itertuples(index=False, name=None))


# The audit


def test_exactly_four_printed_averages_disagree_with_their_rows(found):
    assert keys(wrong(found)) == set(WRONG_AVERAGES)
    assert len(found[found["table"] >= 5]) == 60
    for row in wrong(found).itertuples():
        scores, printed, mean = WRONG_AVERAGES[row.task, row.method, row.run, row.metric]
        assert row.printed == printed
        assert row.recomputed == pytest.approx(np.mean(scores)) == pytest.approx(mean, abs=0.005)


def test_the_audit_reads_no_notes(published, found):
    assert (published["note"] == "").all()
    noted = published.assign(note="printed average disagrees")
    pd.testing.assert_frame_equal(audit(noted), found)


def test_a_tampered_score_is_found_through_its_average(published):
    tampered = changed(published, 18.9, table=5, method="fine_tuning", run=2, language="de")
    assert keys(wrong(audit(tampered))) == {*WRONG_AVERAGES, ("xnli", "fine_tuning", 2, "accuracy")}


def test_an_average_that_rounding_alone_can_move_is_let_pass_and_the_next_is_not(published):
    """The scores of this row average to 78.753; averages from 78.703 to 78.803 could be printed 78.7 or 78.8."""
    where = {"table": 5, "method": "fine_tuning", "run": 5, "language": "avg"}
    mean = published[(published["table"] == 5) & (published["method"] == "fine_tuning") & (published["run"] == 5)]
    assert mean[mean["language"] != "avg"]["value"].mean() == pytest.approx(78.753, abs=0.0005)
    for value, verdict in ((78.7, True), (78.8, True), (78.6, False), (78.9, False)):
        found = audit(changed(published, value, **where))
        row = found[(found["table"] == 5) & (found["method"] == "fine_tuning") & (found["run"] == 5)].iloc[0]
        assert bool(row["agrees"]) == verdict, value


@pytest.mark.parametrize(
    ("where", "value", "what"),
    [
        ({"table": 1, "task": "xnli", "method": "prompt_tuning", "model": "XLM-R-large"}, 80.9, "mean over runs"),
        ({"table": 2, "task": "xnli", "method": "prompt_tuning"}, 7.9, "transfer gap"),
        (
            {
                "table": 4,
                "task": "xnli",
                "method": "prompt_tuning",
                "language": "en-ko",
                "metric": "cosine_non_translations",
            },
            91.0,
            "relative difference",
        ),
    ],
)
def test_a_tampered_figure_of_the_other_tables_is_found(published, found, where, value, what):
    def count(rows: pd.DataFrame) -> int:
        return rows["what"].str.startswith(what).sum()

    tables = [where["table"]]
    assert count(wrong(audit(changed(published, value, **where)), tables)) > count(wrong(found, tables))


def test_the_papers_deviations_are_those_of_a_population_of_the_printed_averages(published, found):
    """With a sample's, divided by one less, TyDiQA's exact match would be 3.1 where 2.7 is printed."""
    spreads = found[found["what"] == "standard deviation over runs, from the printed averages"]
    assert len(spreads) == 12 and spreads["agrees"].all()
    runs = [46.2, 53.7, 53.4, 52.4, 51.8]
    assert np.std(runs) == pytest.approx(2.74, abs=0.005) and np.std(runs, ddof=1) == pytest.approx(3.06, abs=0.005)
    row = spreads.query("task == 'tydiqa' and metric == 'exact_match' and method == 'fine_tuning'").iloc[0]
    assert (row["printed"], row["recomputed"]) == (2.7, pytest.approx(np.std(runs)))


def test_of_table_2_only_xnli_can_be_rebuilt(found):
    gaps = found[found["table"] == 2].set_index(["task", "method"])
    assert gaps["agrees"].groupby("task").all().to_dict() == {
        "xnli": True,
        "pawsx": False,
        "xquad": False,
        "udpos": True,
    }
    assert gaps.loc["udpos", "agrees"].isna().all()  # nothing to rebuild it from
    assert gaps.loc[("xquad", "fine_tuning"), "note"] == "by exact match it is 15.1, which does not agree either"
    assert gaps.loc[("pawsx", "fine_tuning"), "recomputed"] == pytest.approx(8.75, abs=0.005)


def test_what_cannot_be_recomputed_is_neither_right_nor_wrong(found):
    udpos = found[found["task"] == "udpos"]
    assert len(udpos) == 6 and udpos["agrees"].isna().all() and udpos["recomputed"].isna().all()
    assert (udpos["note"] != "").all()


def test_others_rows_of_table_1_are_not_audited(found):
    assert len(found[(found["table"] == 1) & (found["task"] == "xnli")]) == 2 * 2 * 2  # methods, figures, inputs


def test_figures_printed_without_digits_have_a_unit_of_their_own(published):
    whole = published.query(
        "table == 4 and task == 'pawsx' and method == 'fine_tuning' and metric == 'relative_difference'"
    )
    assert set(whole["half"]) == {0.5}
    others = published.drop(whole.index)
    assert set(others["half"].round(9)) == {0.05}  # 79 among 79.1 and 78.2 is 79.0


def test_the_audit_in_words_names_the_four_averages_and_the_tables(found):
    text = " ".join(audit_in_words(found, tasks_of({}, TASKS)))
    assert "4 of 60 printed averages do not follow" in text
    assert "TyDiQA-GoldP (exact match), fine-tuning, run 1: 46.2 printed, 52.5 computed" in text
    assert "Table 2: XNLI can be rebuilt from tables 5 to 7, PAWS-X and XQuAD cannot" in text
    assert "of UD-POS there are no scores by language" in text
    assert "all 24 do" in text


# Ranges, against every corner and many points of the box


def test_the_range_of_a_deviation_holds_every_deviation_that_rounds_to_the_prints():
    draw = np.random.default_rng(0)
    for printed in ([78.8, 79.1, 78.6, 78.9, 78.8], [10.0, 10.0, 10.0], [46.2, 53.7, 53.4, 52.4, 51.8]):
        found = deviation_range(printed, 0.05)
        points = np.array(printed) + draw.uniform(-0.05, 0.05, (20_000, len(printed)))
        corners = np.array([np.array(printed) + 0.05 * np.array(s) for s in product((-1, 1), repeat=len(printed))])
        inside = np.concatenate([points.std(axis=1), corners.std(axis=1)])
        assert found.low - 1e-7 <= inside.min() and inside.max() <= found.high + 1e-12
        assert inside.max() == pytest.approx(found.high)
        assert inside.min() - found.low < 0.02
        assert found.value == pytest.approx(np.std(printed))


def test_equal_prints_may_have_no_deviation_at_all():
    assert deviation_range([78.8, 78.8, 78.9], 0.05).low == pytest.approx(0, abs=1e-6)


def test_the_range_of_a_relative_difference_is_reached_at_opposite_corners():
    found = relative_difference_range(90.4, 13.3, 0.05)
    corners = [100 * (high - low) / low for high in (90.35, 90.45) for low in (13.25, 13.35)]
    assert (found.low, found.high) == (pytest.approx(min(corners)), pytest.approx(max(corners)))


# Ours beside the paper's


def test_a_language_is_compared_with_the_mean_of_the_papers_runs(published):
    table = beside(make_scores(tasks=["pawsx"]), make_runs(tasks=["pawsx"]), [(ENCODER, "pawsx")])
    row = table.query("method == 'prompt_tuning' and scope == 'ko'").iloc[0]
    assert row["published"] == pytest.approx(np.mean([83.2, 83.1, 82.8, 81.6, 81.7]))
    scores = make_scores(tasks=["pawsx"]).query(
        "method == 'prompt_tuning' and prompt_length == 16 and language == 'ko'"
    )
    assert row["ours"] == pytest.approx(scores["value"].mean())
    assert row["difference"] == pytest.approx(row["ours"] - row["published"])
    assert row["prompt_length"] == 16


def test_averages_and_gaps_are_those_of_tables_1_and_2_with_a_warning_where_they_are_in_doubt(published):
    table = beside(make_scores(), make_runs(), [(ENCODER, task) for task in TASKS])
    cells = table.set_index(["task", "metric", "method", "scope"])
    assert cells.loc[("xnli", "accuracy", "prompt_tuning", "average"), "published"] == 79.9
    assert cells.loc[("udpos", "f1", "fine_tuning", "gap"), "published"] == 24.3
    assert cells.loc[("xnli", "accuracy", "prompt_tuning", "gap"), "note"] == ""
    note = cells.loc[("tydiqa", "exact_match", "fine_tuning", "average"), "note"]
    assert note == "the paper's own scores by language give 52.7"
    assert "8.7" in cells.loc[("pawsx", "accuracy", "fine_tuning", "gap"), "note"]


def test_nothing_stands_beside_the_paper_for_a_pair_that_is_not_comparable(published):
    assert beside(make_scores(), make_runs(), []).empty
    table = beside(make_scores(), make_runs(), [(ENCODER, "xquad")])
    assert set(table["task"]) == {"xquad"}


def test_without_all_languages_there_is_no_average_to_compare(published):
    scores = make_scores(tasks=["xnli"]).query("language != 'ur'")
    table = beside(scores, make_runs(tasks=["xnli"]), [(ENCODER, "xnli")])
    assert set(table["scope"]) == set(TASKS["xnli"].languages) - {"ur"}


def test_a_seed_without_a_language_leaves_no_average_to_compare(published):
    scores = make_scores(tasks=["xnli"]).query("not (language == 'ur' and seed == 2 and method == 'fine_tuning')")
    table = beside(scores, make_runs(tasks=["xnli"]), [(ENCODER, "xnli")])
    assert set(table[table["scope"] == "average"]["method"]) == {"prompt_tuning"}


def test_tables_3_and_4_stand_beside_ours_where_the_analysed_texts_are_the_papers_too(published):
    arguments = (make_scores(), make_runs())
    table = beside(*arguments, [(ENCODER, "xnli"), (ENCODER, "pawsx")], make_alignment())
    cells = table[table["task"] == "xnli"].set_index(["metric", "method", "scope"])
    assert cells.loc[("cosine_before_after", "fine_tuning", "en"), "published"] == -16.9
    row = cells.loc[("relative_difference", "prompt_tuning", "zh")]
    assert row["published"] == 5.3
    ours = make_alignment().query(
        "task == 'xnli' and method == 'prompt_tuning' and measure == 'relative_difference' and language == 'zh'"
    )["value"]
    assert (row["ours"], row["ours_seeds"]) == (pytest.approx(ours.mean()), 3)
    assert row["difference"] == pytest.approx(ours.mean() - 5.3)
    without_texts = beside(*arguments, [(ENCODER, "xnli")], make_alignment())
    assert not set(without_texts["metric"]) - {"accuracy"}


# Shown apart


def test_the_papers_tables_are_shown_as_printed(published):
    shown = {table.identifier: table for table in published_tables(Report.of(make_inputs()))}
    texts = {
        name: [[cell.text for cell in row.cells] for body in table.bodies for row in body]
        for name, table in shown.items()
    }
    assert "79.9" in texts["published-1"][-1] and "24.3" in texts["published-2"][0]
    assert len(texts["published-3"]) == 4 and len(texts["published-4"]) == 12
    assert "503.0" in texts["published-4"][8]
    rows = languages_as_printed(published, "tydiqa", "f1")
    assert list(rows.columns) == ["method", "run", *TASKS["tydiqa"].languages, "avg"]
    assert list(rows.query("method == 'prompt_tuning' and run == 3").iloc[0, 2:4]) == [73.6, 73.9]
    assert [len(texts[name]) for name in texts if name.startswith("published-tydiqa")] == [10, 10]
    assert list(analysis_as_printed(published, 3).columns) == ["task", "method", "metric", *ANALYSED]


def test_a_file_without_a_column_is_refused(tmp_path):
    (tmp_path / "published.csv").write_text("table,task\n1,xnli\n")
    with pytest.raises(UserError, match="lacks the columns model, method, run"):
        read_published(tmp_path / "published.csv")
    with pytest.raises(UserError, match="cannot be read as a table"):
        read_published(tmp_path / "nothing.csv")

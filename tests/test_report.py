"""The page and the CSV files, from a synthetic experiment: seven languages, three seeds, two prompt lengths."""

import csv
import html
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_experiment import (
    ARMS,
    ENCODER,
    HEIGHT,
    MAJORITY,
    REPOSITORY,
    TEMPLATES,
    hostile_inputs,
    make_alignment,
    make_differences,
    make_examples,
    make_inputs,
    make_projections,
    make_provenance,
    make_report,
    make_runs,
    make_samples,
    make_scores,
)
from paper_tasks import TASKS, metric_names

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.visible import visible
from workflow_scripts.evaluation.tables import read_runs, read_scores
from workflow_scripts.reporting import verdicts
from workflow_scripts.reporting.charts import clipped, linear_axis, log_axis
from workflow_scripts.reporting.files import plain, write_tables
from workflow_scripts.reporting.inputs import COLUMNS, Inputs
from workflow_scripts.reporting.latex import escaped, table_latex
from workflow_scripts.reporting.page import render
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.sections import VIEWS, sections
from workflow_scripts.reporting.table import Table
from workflow_scripts.reporting.tables import problems
from workflow_scripts.reporting.views.corpora import CHANGES, corpora_table, licences_table
from workflow_scripts.reporting.views.languages import sheet
from workflow_scripts.reporting.views.problems import concerns, unknown_codes
from workflow_scripts.reporting.views.representations import analysis_tables, figure, samples_note
from workflow_scripts.reporting.wording import bytes_text, duration_text, rate_text, readable_date

EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """The resources that a browser would load, and the text that a reader would see."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.identifiers: list[str] = []
        self.text = ""
        self._silent = False
        self.feed(source)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._silent = tag in ("script", "style")
        found = dict(attributes)
        self.addresses += [
            found[name] for name in ("src", "href", "srcset", "data", "action", "poster") if name in found
        ]
        if "id" in found:
            self.identifiers.append(found["id"])

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._silent = False

    def handle_data(self, data):
        if not self._silent:
            self.text += data


def tables_of(task: str, **inputs) -> tuple[Table, ...]:
    """The tables by language of a task."""
    return sheet(bare_report(**inputs), task).tables


def bare_report(scores=None, runs=None, **provenance) -> Report:
    """The report of scores and runs alone."""
    scores = make_scores() if scores is None else scores
    runs = make_runs() if runs is None else runs
    return Report.of(Inputs(scores, runs, {**make_provenance(), **provenance}))


def write(folder: Path, scores=None, runs=None, expected=(), alignment=None, **provenance) -> list[Path]:
    """Write the tables of scores and runs, without an analysis unless there are rows of one."""
    report = bare_report(scores, runs, **provenance)
    if alignment is not None:
        report = Report.of(replace(report.inputs, alignment=alignment))
    return write_tables(sections(report), folder, expected)


def rendered(scores=None, runs=None, **benchmark) -> str:
    scores = make_scores() if scores is None else scores
    runs = make_runs() if runs is None else runs
    return render(Inputs(scores, runs, make_provenance(**benchmark)), TEMPLATES)


def test_the_page_states_a_headline_for_every_task():
    text = Page(rendered()).text
    for task in TASKS.values():
        assert f"On {task.title}, prompt tuning (length 16) averages" in text


def test_the_headline_is_computed_from_the_scores():
    values = {("fine_tuning", 0): (80.0, 70.0, 66.0), ("prompt_tuning", 16): (81.0, 76.0, 74.0)}
    scores = make_scores(tasks=["pawsx"], seeds=[1], arms=list(values))
    scores = scores[scores["language"].isin(["en", "de", "zh"])].reset_index(drop=True)
    scores["value"] = [value for arm in values.values() for value in arm]
    text = Page(rendered(scores, make_runs(tasks=["pawsx"], seeds=[1], arms=list(values)))).text
    assert (
        "On PAWS-X, prompt tuning (length 16) averages 77.0 over 3 languages, fine-tuning 72.0: +5.0; transfer gap 6.0"
        " against 12.0." in text
    )
    assert "1 seed cannot distinguish a difference between methods from the effect of the seed." in text


def test_few_seeds_are_said_to_give_little_certainty():
    assert "3 seeds give little certainty" in Page(rendered()).text


def test_five_seeds_are_reported_without_that_caution():
    text = Page(rendered(make_scores(seeds=range(5)), make_runs(seeds=range(5)))).text
    assert "Over 5 seeds, the averages vary by ± " in text
    assert "little certainty" not in text


def test_the_mini_benchmark_is_called_not_comparable_and_xtreme_is_not():
    assert "Generated mini benchmark, not comparable with published numbers." in Page(rendered()).text
    text = Page(rendered(source="xtreme", comparable_with_the_paper=True)).text
    assert "not comparable with published" not in text


def test_the_page_loads_nothing():
    source = rendered()
    page = Page(source)
    assert all(address.startswith("#") for address in page.addresses)
    assert not {"img", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    style = (TEMPLATES / "style.css").read_text()
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in source


def test_every_link_of_the_contents_leads_somewhere():
    page = Page(rendered())
    assert {address.removeprefix("#") for address in page.addresses} <= set(page.identifiers)
    assert len(page.identifiers) == len(set(page.identifiers))


@pytest.mark.parametrize("column", ["encoder", "language"])
def test_markup_in_a_score_is_shown_not_run(column):
    scores = make_scores()
    scores.loc[scores[column] == scores[column].iloc[-1], column] = EVIL
    page = Page(rendered(scores))
    assert page.tags.count("script") == 1
    assert EVIL in page.text


def test_markup_in_the_benchmark_the_problem_and_the_provenance_is_shown_not_run():
    runs = make_runs()
    runs.loc[0, "problem"] = EVIL
    provenance = make_provenance(name=EVIL, description=EVIL)
    provenance["configuration"][EVIL] = provenance["machine"][EVIL] = provenance["versions"][EVIL] = EVIL
    provenance["encoders"][EVIL] = {EVIL: [EVIL]}
    provenance["corpora"].append({"task": "xnli", "language": EVIL, "split": EVIL, "rows": 1, "sha256": EVIL})
    page = Page(render(Inputs(make_scores(), runs, provenance), TEMPLATES))
    assert page.tags.count("script") == 1
    assert page.text.count(EVIL) >= 10


def test_a_missing_seed_and_a_missing_language_are_named_as_problems():
    scores = make_scores()
    gone = (scores["task"] == "xnli") & (scores["method"] == "fine_tuning")
    scores = scores[~(gone & ((scores["seed"] == 2) | (scores["language"] == "ur")))]
    text = Page(rendered(scores)).text
    assert "XNLI · Fine-tuning · seeds 1 and 3 no score for Urdu" in text
    assert "Compared without Urdu" in text
    assert "over 14 languages" in text
    assert "†" in text


def test_a_task_that_was_chosen_on_its_test_set_is_named_as_a_problem():
    provenance = make_provenance()
    provenance["configuration"]["tasks"]["tydiqa"] = {"validation": "test"}
    text = Page(render(Inputs(make_scores(), make_runs(), provenance), TEMPLATES)).text
    assert "TyDiQA-GoldP models were chosen on the reported English test set" in text
    assert "XNLI models were chosen on" not in text


def test_models_that_earlier_metrics_chose_are_a_problem():
    provenance = make_provenance() | {"chosen_by_earlier_metrics": 3}
    text = Page(render(Inputs(make_scores(), make_runs(), provenance), TEMPLATES)).text
    assert "3 models chosen on English validation by an earlier version of the metrics" in text
    assert "earlier version" not in Page(rendered(make_scores(), make_runs())).text


def test_a_score_that_is_empty_counts_as_missing():
    scores = make_scores(tasks=["pawsx"])
    scores.loc[3, "value"] = float("nan")
    assert "no score for" in Page(rendered(scores, make_runs(tasks=["pawsx"]))).text


def test_a_run_that_did_not_learn_stands_at_the_top_and_beside_the_finding():
    runs = make_runs()
    stuck = (runs["task"] == "pawsx") & (runs["method"] == "fine_tuning") & (runs["seed"] > 1)
    runs.loc[stuck, "validation"] = MAJORITY["pawsx"]
    text = Page(rendered(runs=runs)).text
    assert "validation 55.6 is not above the majority class, 55.6" in text
    assert "Fine-tuning has a problem in 2 of its 3 runs" in text


def test_a_losing_candidate_is_no_problem_of_the_results():
    runs = make_runs()
    runs.loc[0, ["validation", "problem"]] = [float("nan"), "loss is not finite"]
    assert not runs.loc[0, "selected"]
    found = problems(runs)
    assert list(found["final"]) == [False]
    assert "None: every model below was trained" in Page(rendered(runs=runs)).text


@pytest.mark.parametrize("arms", [ARMS[:1], ARMS[2:]])
def test_one_method_alone_has_nothing_to_compare_with(arms):
    text = Page(rendered(make_scores(arms=arms), make_runs(arms=arms))).text
    assert "there is nothing to compare: only" in text


def test_one_language_alone_has_no_gap_and_the_page_says_why():
    scores = make_scores(tasks=["xnli"])
    text = Page(rendered(scores[scores["language"] == "en"], make_runs(tasks=["xnli"]))).text
    assert "no language besides the source (English)" in text
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)


def test_no_runs_and_no_corpora_still_make_a_page():
    provenance = {"benchmark": make_provenance()["benchmark"]}
    page = Page(render(Inputs(make_scores(arms=ARMS[:2]), make_runs().iloc[:0], provenance), TEMPLATES))
    assert "On XNLI, prompt tuning (length 8) averages" in page.text
    assert "None: every model" not in page.text


def test_two_encoders_have_a_finding_each():
    scores = pd.concat([make_scores(tasks=["xnli"]), make_scores(tasks=["xnli"]).assign(encoder="xlm-r")])
    runs = pd.concat([make_runs(tasks=["xnli"]), make_runs(tasks=["xnli"]).assign(encoder="xlm-r")])
    text = Page(rendered(scores, runs)).text
    assert "XNLI, multilingual-e5-small" in text
    assert "XNLI, xlm-r" in text


def test_the_best_of_a_column_is_marked_for_each_encoder_by_itself_as_in_latex():
    better = make_scores(tasks=["xnli"]).assign(encoder="xlm-r", value=lambda rows: rows["value"] + 2)
    without_rivals = better[better["method"] == "fine_tuning"].assign(encoder="xlm-v")
    scores = pd.concat([make_scores(tasks=["xnli"]), better, without_rivals], ignore_index=True)
    runs = make_runs(tasks=["xnli"])
    (table,) = tables_of("xnli", scores=scores, runs=runs)
    best = [sum("best" in cell.marks for cell in body[0].cells) for body in table.bodies]
    columns = len(table.columns) - 1
    assert sum(best[:3]) == sum(best[3:6]) == columns
    assert best[6:] == [0]
    assert table_latex(table).count(r"\textbf") == 2 * columns
    assert "for each encoder separately" in Page(rendered(scores, runs)).text
    assert "for each encoder separately" not in Page(rendered()).text


def test_languages_in_their_own_script_say_their_language_and_direction():
    source = rendered()
    assert '<span lang="ar" dir="rtl">العربية</span>' in source
    assert '<span lang="zh" dir="ltr">中文</span>' in source


def test_each_table_says_which_table_of_the_paper_it_is():
    text = Page(rendered()).text
    assert all(f"The paper’s table {number}" in text for number in (1, 2, 5, 6, 7, 8))


def test_the_page_of_the_whole_paper_grid_stays_below_a_megabyte():
    seeds = range(5)
    assert len(rendered(make_scores(seeds=seeds), make_runs(seeds=seeds)).encode()) < 1_000_000


def test_a_table_without_a_column_is_refused_by_name():
    with pytest.raises(UserError, match="lacks the columns value"):
        rendered(make_scores().drop(columns="value"))
    with pytest.raises(UserError, match="lacks the columns majority"):
        rendered(runs=make_runs().drop(columns="majority"))
    for name in ("scores", "runs", "differences", "alignment", "projections", "boundaries"):
        with pytest.raises(UserError, match=r"lacks the columns source$"):
            make_report(**{name: getattr(make_inputs(), name).drop(columns="source")})


def test_the_tables_are_written_under_plain_names(tmp_path):
    written = write(tmp_path)
    names = (
        "table_1_averages table_2_transfer_gaps table_5_xnli table_6_pawsx table_7_xquad table_8_tydiqa table_udpos"
        " prompt_lengths learning_rate_search cost"
    ).split()
    assert {path.name for path in written} == {f"{name}.{suffix}" for name in names for suffix in ("csv", "tex")}
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written} | {".tables.json"}
    table = pd.read_csv(tmp_path / "table_7_xquad.csv")
    assert list(table["metric"].unique()) == ["f1", "exact_match"]
    assert list(pd.read_csv(tmp_path / "table_1_averages.csv").query("headline")["arm"].unique()) == [
        "fine_tuning",
        "prompt_tuning-16",
    ]


def ceilings_of_everything() -> list[dict]:
    """As `collect` writes them: falling by the language, exact match below F1."""
    return [
        {
            "encoder": ENCODER,
            "task": name,
            "metrics": {
                metric: {code: 99.5 - 5 * number - place for place, code in enumerate(sorted(task.languages))}
                for number, metric in enumerate(metric_names(name))
            },
        }
        for name, task in TASKS.items()
        if task.kind == "question_answering"
    ]


def with_ceilings(tasks=("xnli", "xquad", "tydiqa"), arms=None) -> Inputs:
    changes = {} if arms is None else {"arms": arms}
    inputs = Inputs(make_scores(tasks=tasks, **changes), make_runs(tasks=tasks, **changes), make_provenance())
    return replace(inputs, provenance={**inputs.provenance, "ceilings": ceilings_of_everything()})


def test_the_highest_possible_score_stands_below_the_scores_of_question_answering_alone():
    inputs = with_ceilings()
    for task in ("xnli", "xquad", "tydiqa"):
        tables = sheet(Report.of(inputs), task).tables
        for table, metric in zip(tables, metric_names(task), strict=True):
            if task == "xnli":
                assert table.feet == ()
                continue
            ((head, *cells),) = (row.cells for row in table.feet)
            assert head.text == "Highest possible"
            known = next(each for each in inputs.provenance["ceilings"] if each["task"] == task)["metrics"][metric]
            expected = [known[code] for code in TASKS[task].languages]
            assert [cell.text for cell in cells] == [f"{value:.1f}" for value in (*expected, np.mean(expected))]
            assert any(
                note.startswith("Highest possible: the score with the best span of tokens") for note in table.notes
            )


def test_the_highest_possible_score_is_at_the_foot_of_the_page_s_tables():
    page = render(with_ceilings(), TEMPLATES)
    for task in ("xquad", "tydiqa"):
        for metric in ("f1", "exact-match"):
            (figure,) = re.findall(rf'<figure class="[^"]*" id="{task}-{metric}">.*?</figure>', page, re.DOTALL)
            (foot,) = re.findall(r"<tfoot>.*?</tfoot>", figure, re.DOTALL)
            assert "Highest possible" in foot
    assert page.count("<tfoot>") == 4


def test_the_highest_possible_scores_are_a_table_and_a_row_of_the_latex(tmp_path):
    inputs = with_ceilings()
    write_tables(sections(Report.of(inputs)), tmp_path)
    table = pd.read_csv(tmp_path / "ceilings.csv")
    assert list(table.columns) == ["encoder", "task", "metric", "language", "value"]
    assert len(table) == 2 * (11 + 9)
    by_task = table.groupby(["task", "metric"])["value"].mean()
    assert f"{by_task['xquad', 'exact_match']:.1f}" in (tmp_path / "ceilings.tex").read_text()
    assert (tmp_path / "table_7_xquad.tex").read_text().count("Highest possible &") == 2
    write(tmp_path, inputs.scores, inputs.runs)
    assert not list(tmp_path.glob("ceilings.*"))


def test_odd_texts_are_counted_below_the_corpora():
    def record(task: str, language: str, split: str, **counts: int) -> dict:
        return {"encoder": ENCODER, "task": task, "language": language, "split": split, "rows": 9, **counts}

    tokens = [
        record("udpos", "en", "train", cut_words=0, empty_words=0),
        record("udpos", "en", "test", cut_words=1, empty_words=0),
        record("udpos", "zh", "test", cut_words=1200, empty_words=2),
        record("xquad", "en", "test", cut_questions=3, empty_texts=0, absent_answers=0),
    ]
    notes = corpora_table(bare_report(tokens=tokens)).notes
    assert [re.sub(r"^.*: ", "", note) for note in notes] == [
        "1 in UD-POS English test and 1,200 in UD-POS Chinese test.",
        "2 in UD-POS Chinese test.",
        "3 in XQuAD English test.",
    ]
    two_encoders = pd.concat([make_scores(), make_scores().assign(encoder="xlm-r")])
    several = corpora_table(bare_report(two_encoders, tokens=tokens)).notes
    assert several[1].endswith(f"2 in UD-POS Chinese test ({ENCODER}).")
    inputs = with_ceilings(["udpos", "xquad", "tydiqa"])
    page = render(replace(inputs, provenance={**inputs.provenance, "tokens": tokens}), TEMPLATES)
    assert "truncated but still scored: 1 in UD-POS English test" in page


def test_captions_say_which_published_scores_of_udpos_are_counted_alike():
    paper, xtreme, accuracy = tables_of("udpos")
    assert "seqeval 1.2.2 counts them, as in the scores of Tu, Xiong and Zhou (2022)" in paper.caption
    assert "seqeval 0.0.12 counts them" in xtreme.caption
    assert "seqeval" not in accuracy.caption
    page = render(make_inputs(), TEMPLATES)
    assert "those of Hu et al. 2020 and Ruder et al. 2021 as our F1 (XTREME) does" in page


def test_a_task_that_left_the_grid_leaves_no_stale_table(tmp_path):
    write(tmp_path)
    write(tmp_path, make_scores(tasks=["xnli"]), make_runs(tasks=["xnli"]))
    assert not (tmp_path / "table_6_pawsx.csv").exists()
    assert not (tmp_path / "table_6_pawsx.tex").exists()


def test_files_of_the_users_own_stay_among_the_tables_whatever_their_names(tmp_path):
    mine = [tmp_path / name for name in ("notes.txt", "table_6_pawsx.csv", "table_6_pawsx.tex")]
    for file in mine:
        file.write_text("mine")
    for tasks in (["xnli", "udpos"], ["xnli"], ["xnli"]):
        write(tmp_path, make_scores(tasks=tasks), make_runs(tasks=tasks))
        assert (tmp_path / "table_udpos.csv").exists() == ("udpos" in tasks)
        assert {file.read_text() for file in mine} == {"mine"}


@pytest.mark.parametrize("content", ["", "{", "7", '[3, "../table_5_xnli", "table_5_xnli"]'])
def test_a_damaged_list_of_tables_deletes_nothing_elsewhere(tmp_path, content):
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / ".tables.json").write_text(content)
    (tmp_path / "table_5_xnli.csv").write_text("elsewhere")
    write(folder, make_scores(tasks=["xnli"]), make_runs(tasks=["xnli"]))
    assert (folder / "table_5_xnli.csv").exists()
    assert (tmp_path / "table_5_xnli.csv").read_text() == "elsewhere"


def test_a_table_that_is_declared_is_written_even_without_a_row(tmp_path):
    """Such as that of a task all of whose models have failed."""
    scores = make_scores(tasks=["xnli", "pawsx"])
    scores.loc[scores["task"] == "pawsx", "value"] = float("nan")
    write(tmp_path, scores, make_runs(tasks=["xnli", "pawsx"]), ["table_6_pawsx", "beside_the_paper"])
    for name in ("table_6_pawsx", "beside_the_paper"):
        assert pd.read_csv(tmp_path / f"{name}.csv").empty
        assert "% There are no rows." in (tmp_path / f"{name}.tex").read_text()


def test_tables_3_and_4_are_means_and_deviations_over_seeds(tmp_path):
    write(tmp_path, alignment=make_alignment())
    alignment = make_alignment()
    for name, measures in (
        ("table_3_before_and_after", {"before_after"}),
        ("table_4_translations", {"translation", "non_translation", "relative_difference"}),
    ):
        table = pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False, na_values=[""])
        assert set(table["measure"]) == measures
        for row in table.fillna({"task": ""}).to_dict("records"):
            same = pd.Series(True, index=alignment.index)
            for column in ("task", "method", "prompt_length", "measure", "language"):
                same &= alignment[column] == row[column]
            values = alignment[same]["value"]
            assert row["mean"] == pytest.approx(values.mean(), rel=1e-5)
            assert row["seeds"] == len(values)
            if len(values) > 1:
                assert row["std"] == pytest.approx(values.std(ddof=1), rel=1e-4)
        assert len(table) == len(
            alignment[alignment["measure"].isin(measures)].drop_duplicates(
                ["task", "method", "prompt_length", "measure", "language"]
            )
        )


def test_without_an_analysis_there_is_no_table_3_and_a_stale_one_goes(tmp_path):
    write(tmp_path, alignment=make_alignment())
    write(tmp_path)
    assert not list(tmp_path.glob("table_[34]*"))


def test_prompt_lengths_are_shown_on_validation_and_on_the_test_sets(tmp_path):
    scores, runs = make_scores(), make_runs()
    write(tmp_path, scores, runs)
    lengths = pd.read_csv(tmp_path / "prompt_lengths.csv").set_index(["task", "prompt_length"])
    assert set(lengths.index) == {(task, length) for task in TASKS for length in (8, 16)}
    row = lengths.loc[("xquad", 8)]
    by_seed = scores.query("task == 'xquad' and prompt_length == 8 and metric == 'f1'").groupby("seed")["value"].mean()
    assert row["test"] == pytest.approx(by_seed.mean(), abs=1e-3)
    assert row["test_std"] == pytest.approx(by_seed.std(), abs=1e-3)
    # For the search's seed only the winner counts, no other candidate.
    assert row["validation"] == pytest.approx(HEIGHT["xquad"] + 8 / 8 + (0.1 + 0.2 + 0.3) / 3, abs=1e-3)
    assert list(lengths[lengths["chosen"]].index) == [(task, 16) for task in TASKS]


def test_the_search_marks_a_winner_at_the_edge_and_a_best_epoch_that_is_the_last(tmp_path):
    write(tmp_path)
    search = pd.read_csv(tmp_path / "learning_rate_search.csv")
    winner = search.query("task == 'xnli' and method == 'fine_tuning' and selected").iloc[0]
    assert winner["at_the_edge"]
    assert winner["last_epoch_best"]
    write(tmp_path, runs=make_runs().assign(keep="last"))
    assert not pd.read_csv(tmp_path / "learning_rate_search.csv")["last_epoch_best"].any(), "it was not chosen"
    assert not search.query("method == 'prompt_tuning'")["at_the_edge"].any()


def test_the_search_says_which_candidates_left_early_and_which_stopped(tmp_path):
    runs = make_runs().astype({"epochs_taken": float})
    lost = (runs["stage"] == "search") & ~runs["selected"]
    runs.loc[lost, ["left_search_after", "epochs_taken"]] = 0.2, 1
    runs.loc[~lost, ["stopped", "epochs_taken"]] = "no gain in 3 evaluations", 1.5
    runs["searched"] = "dropout 0.1"
    page = Page(rendered(runs=runs)).text
    assert "left the search after 20% of the steps" in page
    assert "stopped after epoch 1.5: no gain in 3 evaluations" in page
    assert "dropout 0.1" in page
    assert "1.5 of 30" in page, "the cost says how long models were trained"


def make_oracle() -> pd.DataFrame:
    arms = [(method, length, seed) for method, length in ARMS for seed in (1, 2)]
    rows = [
        [ENCODER, "xnli", "en", method, length, seed, language, "accuracy", 60.0, 60.0 + 2 * seed, 1.5]
        for method, length, seed in arms
        for language in ("de", "zh")
    ]
    return pd.DataFrame(rows, columns=COLUMNS["oracle"])


def test_the_oracle_has_a_section_of_its_own_and_changes_no_other_table(tmp_path):
    with_it, without = tmp_path / "with", tmp_path / "without"
    report = bare_report()
    write_tables(sections(report), without)
    report = Report.of(replace(report.inputs, oracle=make_oracle()))
    write_tables(sections(report), with_it)
    assert "What a perfect choice of the weights would gain" in Page(render(report.inputs, TEMPLATES)).text
    table = pd.read_csv(with_it / "oracle.csv")
    assert set(table["gain"]) == {3.0} and set(table["seeds"]) == {2}
    for file in without.glob("*.csv"):
        assert file.read_bytes() == (with_it / file.name).read_bytes(), file.name


def test_the_cost_gives_the_tuned_share_in_percent(tmp_path):
    write(tmp_path)
    cost = pd.read_csv(tmp_path / "cost.csv").set_index(["task", "arm"])
    assert cost.loc[("xnli", "fine_tuning"), "tuned_percent"] == pytest.approx(100)
    assert cost.loc[("xnli", "prompt_tuning-16"), "tuned_percent"] == pytest.approx(0.1260, abs=1e-4)
    assert cost.loc[("xnli", "prompt_tuning-16"), "runs"] == 3


def test_memory_and_speed_of_a_model_are_not_those_of_several_trained_at_once(tmp_path):
    runs = make_runs()
    joint = (runs["method"] == "prompt_tuning") & (runs["stage"] == "seed") & (runs["seed"] == 1)
    runs.loc[joint, ["together", "peak_memory_mb", "examples_per_second"]] = 3, 9000, 200.0
    write(tmp_path, runs=runs)
    measures = ["together", "peak_memory_mb", "examples_per_second"]
    cost = pd.read_csv(tmp_path / "cost.csv").set_index(["task", "arm"])[measures]
    assert cost.loc[("xnli", "prompt_tuning-16")].tolist() == [1, 1240, 91.3]
    write(tmp_path, make_scores(seeds=[1]), runs[runs["seed"] == 1])
    cost = pd.read_csv(tmp_path / "cost.csv").set_index(["task", "arm"])[measures]
    assert cost.loc[("xnli", "prompt_tuning-16")].tolist() == [3, 9000, 200.0]


def test_files_round_trip_with_empty_problems_and_odd_names(tmp_path):
    scores, runs = make_scores(tasks=["xnli"]), make_runs(tasks=["xnli"])
    scores["encoder"] = runs["encoder"] = "null"
    scores.to_csv(tmp_path / "scores.csv", index=False)
    runs.to_csv(tmp_path / "runs.csv", index=False)
    assert set(read_scores(tmp_path / "scores.csv")["encoder"]) == {"null"}
    read = read_runs(tmp_path / "runs.csv")
    assert set(read["problem"]) == {""}
    assert read["selected"].dtype == bool


def write_inputs(folder: Path, inputs: Inputs) -> list[str]:
    """Write what the step reads, and return its arguments."""
    arguments = [f"--templates={TEMPLATES}", f"--published={TEMPLATES / 'published.csv'}"]
    for name in (
        "scores",
        "runs",
        "shots",
        "calibration",
        "oracle",
        "differences",
        "source_differences",
        "encoder_differences",
        "ranks",
        "distances",
        "explained",
        "alignment",
        "projections",
        "boundaries",
    ):
        getattr(inputs, name).to_csv(folder / f"{name}.csv", index=False)
        arguments.append(f"--{name.replace('_', '-')}={folder / f'{name}.csv'}")
    for name in ("provenance", "samples", "examples"):
        (folder / f"{name}.json").write_text(json.dumps(getattr(inputs, name)), encoding="utf-8")
        arguments.append(f"--{name}={folder / f'{name}.json'}")
    inputs.curves.to_parquet(folder / "curves.parquet")
    return [*arguments, f"--curves={folder / 'curves.parquet'}"]


def test_the_step_writes_page_and_tables_without_torch(tmp_path):
    tasks = ["xnli"]
    inputs = make_inputs(scores=make_scores(tasks), runs=make_runs(tasks), differences=make_differences(tasks))
    arguments = [
        *write_inputs(tmp_path, inputs),
        f"--output={tmp_path / 'report.html'}",
        f"--summary={tmp_path / 'summary.txt'}",
        f"--tables={tmp_path / 'tables'}",
        f"--log={tmp_path / 'render.log'}",
    ]
    program = (
        "import sys; from workflow_scripts import render as step; step.main(step.parser().parse_args(sys.argv[1:]));"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program, *arguments], cwd=REPOSITORY, check=True)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page == render(inputs, TEMPLATES), "what the files say is what the tables said"
    assert (tmp_path / "tables" / "table_5_xnli.csv").exists()
    assert (tmp_path / "tables" / "published_audit.csv").exists()
    assert not (tmp_path / "tables" / "beside_the_paper.csv").exists()


def with_differences(differences: pd.DataFrame) -> str:
    """What a reader sees of a small experiment with these differences; no-break spaces as spaces."""
    inputs = Inputs(make_scores(["xnli"], [1]), make_runs(["xnli"], [1]), make_provenance(), differences)
    return Page(render(inputs, TEMPLATES)).text.replace("\u00a0", " ")


def a_difference(difference: float, low: float, high: float, p: float, **changes) -> pd.DataFrame:
    """One row of differences: prompt tuning's average on XNLI."""
    row = make_differences(["xnli"]).query("scope == 'average'").iloc[0].to_dict()
    row |= {"difference": difference, "low": low, "high": high, "p_holm": p, "significant": p <= 0.05}
    return pd.DataFrame([row | changes])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ((3.1, 1.0, 5.2, 0.004), "Prompt tuning transfers better by 3.1 points (95 % interval 1.0 to 5.2, p 0.004)."),
        (
            (-3.1, -5.2, -1.0, 0.0004),
            "Prompt tuning transfers worse by 3.1 points (95 % interval 1.0 to 5.2, p < 0.001).",
        ),
        (
            (1.1, -2.1, 4.4, 0.31),
            "The difference between prompt tuning and fine-tuning is not statistically significant: +1.1 points (95 %"
            " interval −2.1 to 4.4, p 0.31).",
        ),
        ((1.1, 0.1, 2.1, 0.07), "(95 % interval 0.1 to 2.1); the permutation test does not exclude chance (p 0.070)."),
        ((1.1, np.nan, np.nan, np.nan), "+1.1 points; no interval can be estimated."),
    ],
)
def test_a_verdict_says_size_interval_and_p_or_that_nothing_is_shown(row, says):
    assert says in with_differences(a_difference(*row))


def test_one_seed_is_said_to_leave_the_seeds_chance_out():
    one = a_difference(3.1, 1.0, 5.2, 0.004, seeds=1)
    assert "With one seed the interval accounts for the test examples only" in with_differences(one)


def test_the_page_says_how_much_strength_was_borrowed_and_what_the_interval_would_be_without():
    one = a_difference(
        3.1, 1.0, 5.2, 0.004, prior_std=0.9, prior_freedom=3.14, seed_std=1.4, low_plain=-2, high_plain=8
    )
    others = [
        a_difference(1.0, -1, 3, 0.4, task=task, prior_std=0.9, prior_freedom=3.14) for task in ("pawsx", "udpos")
    ]
    text = with_differences(pd.concat([one, *others]))
    assert "3 seeds alone say little about how much a difference varies from seed to seed" in text
    assert "they also use what the 3 comparisons of this grid have in common" in text
    assert "typically varies by ± 0.9 points from seed to seed (prior standard deviation)" in text
    assert "This counts as much as 3.1 more seeds would (prior degrees of freedom)" in text
    assert "From seed to seed the difference varies by ± 1.4 points on this task and typically by ± 0.9" in text
    assert "From this task’s own seeds alone it would be −2.0 to 8.0." in text


def test_where_nothing_is_borrowed_the_page_does_not_claim_it():
    text = with_differences(a_difference(3.1, 1.0, 5.2, 0.004, prior_std=np.nan, prior_freedom=0.0))
    assert "Each interval is estimated from the seeds of its own comparison." in text
    assert "typically by" not in text and "borrow strength" not in text


def test_a_task_that_the_paper_has_no_table_of_is_said_to_be_missing_by_language_and_no_other_task_is():
    tags = {task: tables_of(task)[0].paper for task in TASKS}
    expected = {
        name: f"The paper’s table {task.paper_table}" if task.paper_table else "Not in the paper by language"
        for name, task in TASKS.items()
    }
    assert tags == expected


def test_the_headline_counts_the_tasks_on_which_each_method_is_better():
    rows = [
        a_difference(*row, task=task)
        for task, row in zip(
            TASKS,
            [(3.0, 1, 5, 0.01), (4.0, 1, 7, 0.01), (-2.0, -3, -1, 0.01), (0.0, -1, 1, 0.9), (0.1, -1, 1, 0.9)],
            strict=True,
        )
    ]
    other = a_difference(1.0, -1, 3, 0.4, method="bias_tuning", prompt_length=0)
    text = with_differences(pd.concat([*rows, other]))
    assert (
        "Prompt tuning transfers better than fine-tuning on 2 of 5 tasks (by 3.0 to 4.0 points) and worse on 1 (by 2.0"
        " points). On the other 2, the difference is not statistically significant." in text
    )
    assert (
        "bias tuning and fine-tuning: the difference is not statistically significant on the one task; differences of"
        " up to 3.0 points remain possible." in text
    )


def test_the_page_says_where_a_difference_is_shown_and_where_none_is():
    differences = make_differences(["xnli"])
    significant = differences[differences["significant"] & ~differences["scope"].isin(["average", "gap"])]
    most = significant.loc[significant["difference"].abs().idxmax()]
    assert most["scope"] == "tr"
    assert (
        f"Prompt tuning is significantly better than fine-tuning in {len(significant)} of 15 pairs of task and"
        f" language, worse in 0; the largest difference is {most['difference']:+.1f} points in Turkish on XNLI."
        in with_differences(differences)
    )
    none = with_differences(differences.assign(significant=False))
    assert "the difference is not statistically significant in any of 15 pairs of task and language" in none


def test_of_several_encoders_the_largest_difference_names_its_own():
    differences = make_differences(["xnli"])
    larger = differences.assign(encoder="e5-large", difference=differences["difference"] + 1)
    scores, runs = make_scores(["xnli"], [1]), make_runs(["xnli"], [1])
    both = [pd.concat([table, table.assign(encoder="e5-large")], ignore_index=True) for table in (scores, runs)]
    every = pd.concat([differences, larger], ignore_index=True)
    text = Page(render(Inputs(*both, make_provenance(), every), TEMPLATES)).text
    assert re.search(r"of 30 comparisons by encoder, task and language, .* points in Turkish on XNLI, e5-large\.", text)


def test_what_is_printed_as_the_same_is_not_called_more_or_less():
    rows = [("fine_tuning", 0, "linear_accuracy", 77.4), ("prompt_tuning", 2, "linear_accuracy", 76.6)]
    rows += [("fine_tuning", 0, "boundary_angle", 15.0), ("prompt_tuning", 2, "boundary_angle", 26.0)]
    columns = ["encoder", "task", "language", "method", "prompt_length", "measure", "value"]
    alignment = pd.DataFrame([("tiny", "pawsx", "de", *row) for row in rows], columns=columns).assign(
        seed=1, source="en"
    )
    arms = (("fine_tuning", 0), ("prompt_tuning", 2))
    scores, runs = (made(["pawsx"], arms=arms).assign(encoder="tiny") for made in (make_scores, make_runs))
    why = verdicts.answers(make_report(alignment=alignment, scores=scores, runs=runs))[-1]
    assert why.question == "Why?"
    (sentence,) = why.sentences
    assert "English representations is as good on the other languages: 77" in sentence
    assert "rotated farther from that of English: 26° against 15°" in sentence


def test_without_prompt_tuning_the_other_methods_verdict_stands_uncontradicted():
    scores, runs = (
        table.replace({"method": {"prompt_tuning": "lora"}, "prompt_length": {16: 0}})
        for table in (make_scores(["xnli"], arms=ARMS[::2]), make_runs(["xnli"], arms=ARMS[::2]))
    )
    differences = make_differences(["xnli"]).assign(method="lora", prompt_length=0)
    text = Page(render(Inputs(scores, runs, make_provenance(), differences), TEMPLATES)).text
    assert "LoRA transfers better" in text and "there is nothing to compare" not in text
    assert re.search(r"On XNLI, fine-tuning averages [\d.]+ over \d+ languages and LoRA averages [\d.]+", text)


@pytest.mark.parametrize(("kept", "what"), [(True, "kept, each with its own label"), (False, "left out")])
def test_texts_whose_labels_disagree_are_called_what_became_of_them(kept, what):
    (note,) = [
        note for note in samples_note(make_report(samples=make_samples() | {"kept": kept})) if "label differs" in note
    ]
    assert what in note


LONG_CODES = {"en": "eng_Latn", "de": "deu_Latn", "zh": "zho_Hans"}


def test_tasks_that_name_languages_differently_have_one_page_of_one_source():
    """PAWS-X with the codes of SIB-200 beside XNLI with its own: the same page as with the same codes."""
    tables = make_scores(["xnli", "pawsx"]), make_runs(["xnli", "pawsx"]), make_differences(["xnli", "pawsx"])
    differing = [table.copy() for table in tables]
    for table in differing:
        for column in {"source", "language", "scope"} & set(table.columns):
            of_task = table["task"] == "pawsx"
            table.loc[of_task, column] = table.loc[of_task, column].map(lambda code: LONG_CODES.get(code, code))
    pages = [
        Page(render(Inputs(scores, runs, make_provenance(), differences), TEMPLATES)).text
        for scores, runs, differences in (tables, differing)
    ]
    assert pages[0] == pages[1]
    assert "eng_Latn" not in pages[1]


def test_without_fine_tuning_methods_are_described_and_compared_with_the_first():
    """Only prompt tuning and LoRA: costs, representations and findings do not mention fine-tuning."""
    replaced = {"method": {"fine_tuning": "lora"}}
    scores, runs, alignment = (
        table.replace(replaced) for table in (make_scores(["xnli"]), make_runs(["xnli"]), make_alignment())
    )
    text = Page(render(Inputs(scores, runs, make_provenance(), alignment=alignment), TEMPLATES)).text
    assert "LoRA tunes" in text and "of the parameters that prompt tuning tunes" in text
    assert "LoRA compared with prompt tuning, on average over the other languages" in text
    assert re.search(r"On XNLI, prompt tuning \(length 16\) averages [\d.]+ over \d+ languages and LoRA averages", text)
    assert "fine-tuning" not in text.partition("Which method is best overall")[0].partition("The answer")[2]


def test_the_cost_is_stated_as_multiples_of_fine_tunings():
    text = Page(rendered()).text.replace("\u00a0", " ")
    assert (
        "Prompt tuning tunes 0.13 % of the parameters that fine-tuning tunes, stores 600.0 kB instead of 470.0 MB,"
        " takes 0.46 times the time to train and 0.35 times the memory (medians over tasks)." in text
    )


def test_a_smaller_gap_is_called_smaller():
    gap = a_difference(-2.0, -3.0, -1.0, 0.01, scope="gap")
    both = pd.concat([a_difference(3.1, 1.0, 5.2, 0.004), gap])
    text = with_differences(both)
    assert "Its transfer gap is smaller by 2.0 points (95 % interval 1.0 to 3.0, p 0.010)." in text


def test_parts_that_were_not_made_are_named_and_leave_no_empty_box():
    source = rendered()
    text = Page(source).text
    for says in (
        "There is no answer: no two methods were compared by a test.",
        "No difference was tested",
        "Not analysed: this needs a parallel corpus",
        "There are none: no two methods were compared, or they agree on every row.",
        "There are none.",
    ):
        assert says in text
    assert not re.search(r"<(tbody|dl|ul|figure)[^>]*>\s*</", source)


def test_table_3_is_the_mean_over_seeds_with_its_spread():
    alignment = make_alignment()
    (of_file, *_) = analysis_tables(make_report(alignment=alignment))
    (table,) = of_file.tables
    rows = alignment.query("measure == 'before_after' and task == 'pawsx' and method == 'prompt_tuning'")
    row = next(
        body[0]
        for body in table.bodies
        if "trained on PAWS-X" in body[0].cells[0].small and "Prompt" in body[0].cells[0].text
    )
    for cell, column in zip(row.cells[1:], table.columns[1:], strict=True):
        values = rows[rows["language"] == column.language]["value"]
        assert cell.sort == pytest.approx(np.mean(values))
        assert cell.small_print == f"± {np.std(values, ddof=1):.1f}"


def test_the_angle_that_chance_alone_turns_stands_first_beside_the_boundaries_angles():
    table = next(
        table for table in analysis_tables(make_report()) if getattr(table, "identifier", "") == "boundary-angle"
    )
    assert [column.title for column in table.columns[1:3]] == ["en-en", "en-de"]
    untuned = table.bodies[0][0]
    assert (untuned.cells[1].sort, untuned.cells[2].sort) == (90, 9)


def test_figure_2_draws_boundaries_through_the_panel_between_the_points_that_they_divide():
    points, boundaries = make_projections(texts=400)
    drawn = figure(make_report(projections=points, boundaries=boundaries))
    assert sum(len(panel.dots) for panel in drawn.panels) <= 1500
    assert len(drawn.panels) == 5
    keys = ["task", "method", "language"]
    lines = boundaries.set_index(keys)
    for panel, (task, method) in zip(
        drawn.panels, dict.fromkeys(zip(points["task"], points["method"], strict=True)), strict=True
    ):
        assert all(0 <= value <= 100 for line in panel.boundaries for value in (line.x1, line.y1, line.x2, line.y2))
        for line in panel.boundaries:
            weights = lines.loc[(task, method, line.language)]
            dots = [dot for dot in panel.dots if dot.language == line.language]
            drawn_side = [
                (line.x2 - line.x1) * (dot.y - line.y1) - (line.y2 - line.y1) * (dot.x - line.x1) for dot in dots
            ]
            ids = [dot.title.rpartition("text ")[2] for dot in dots]
            true = points[
                (points["task"] == task) & (points["method"] == method) & (points["language"] == line.language)
            ]
            true = true.set_index("id").loc[ids]
            true_side = weights["x_weight"] * true["x"] + weights["y_weight"] * true["y"] + weights["intercept"]
            clear = np.abs(true_side) > 0.1  # the places are rounded
            signs = np.sign(np.array(drawn_side))[clear] * np.sign(true_side.to_numpy())[clear]
            assert len(set(signs)) == 1, f"{panel.title}, {line.language}"


def test_markup_in_an_example_a_sample_and_an_analysis_is_shown_not_run():
    examples = make_examples(["xnli"], each=1)
    examples[0] |= {"inputs": {EVIL: EVIL}, "gold": [EVIL], "predictions": {"fine_tuning": EVIL}, "id": EVIL}
    samples = {
        "task": EVIL,
        "asked": 2,
        "used": 1,
        "languages": [EVIL],
        "disagreeing": [{"id": EVIL, "labels": {EVIL: EVIL}}],
    }
    alignment = make_alignment().replace({"language": {"de": EVIL}})
    points, boundaries = make_projections(texts=10)
    changes = {"language": {"de": EVIL}, "label": {"1": EVIL}}
    inputs = make_inputs(
        examples=examples,
        samples=samples,
        alignment=alignment,
        projections=points.replace(changes),
        boundaries=boundaries.replace({"language": {"de": EVIL}}),
        differences=make_differences().replace({"scope": {"de": EVIL}, "encoder": {ENCODER: EVIL}}),
    )
    page = Page(render(inputs, TEMPLATES))
    assert page.tags.count("script") == 1
    assert page.text.count(EVIL) >= 12


def test_hostile_text_is_text_in_every_section():
    page = render(hostile_inputs(EVIL), TEMPLATES)
    parsed = Page(page)
    assert parsed.tags.count("script") == 1 and not {"img", "iframe", "link", "object"} & set(parsed.tags)
    assert all(address.startswith("#") for address in parsed.addresses)
    found = re.findall(r'<section id="([^"]+)".*?>(.*?)</section>', page, re.DOTALL)
    without = {name for name, content in found if EVIL not in html.unescape(content)}
    assert len(found) == len(VIEWS)
    assert without <= {"published"}  # the paper's own numbers


@pytest.mark.parametrize("text", ["+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "-cmd"])
def test_what_a_spreadsheet_would_compute_is_a_text(text):
    assert plain(text) == visible(f"'{text}")


@pytest.mark.parametrize("value", ["-2.5", "+3", "-1e-5", "a=b", "", "\u22122", -2.5, None])
def test_numbers_and_other_texts_stay_as_they_are(value):
    assert plain(value) == value


def test_no_cell_of_an_exported_table_is_a_formula(tmp_path):
    formula = "=cmd|' /C calc'!A0"
    inputs = hostile_inputs(formula)
    files = [file for file in write_tables(sections(Report.of(inputs)), tmp_path) if file.suffix == ".csv"]
    cells = [cell for file in files for row in csv.reader(file.open(newline="", encoding="utf-8")) for cell in row]
    assert sum(cell == visible(f"'{formula}") for cell in cells) > 100
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r\uff1d")) and not NUMBER.fullmatch(cell)]


NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]\d+)?")
# The commands in our own LaTeX.
COMMANDS = (
    *("begin", "end", "centering", "footnotesize", "setlength", "tabcolsep", "caption", "label", "medskip", "toprule"),
    *("midrule", "bottomrule", "textbf", "quad", "multicolumn", "usepackage", "textbackslash", "textasciitilde"),
    *("textasciicircum", "textless", "textgreater", "pm", "circ", "dagger", "cdot", *"\\&%$#_{}"),
)


def test_hostile_text_runs_no_command_of_latex(tmp_path):
    text = r"[1cm] \input{/etc/passwd} \write18{id} ^^5cinput x % $ & # ~ }{"
    files = write_tables(sections(Report.of(hostile_inputs(text))), tmp_path)
    sources = [file.read_text(encoding="utf-8") for file in files if file.suffix == ".tex"]
    assert sum(escaped(text) in source for source in sources) > 5
    for source in sources:
        assert set(re.findall(r"\\([A-Za-z]+|.)", source)) <= set(COMMANDS)
        assert "^^" not in source and not re.search(r"\\\\\s*[*\[]", source)
        rest = re.sub(r"\\[{}%$&#_]", "", source)
        assert rest.count("{") == rest.count("}") and rest.count("$") % 2 == 0


def test_examples_of_a_right_to_left_language_say_so_and_each_prediction_is_marked_in_words():
    source = render(make_inputs(), TEMPLATES)
    assert '<dd lang="ur" dir="auto">دریا شمال' in source
    assert "✗ wrong" in source and "✓ right" in source
    assert "x NOUN, <s>y ADV</s>" in source


def test_ours_stand_beside_the_papers_only_for_comparable_pairs():
    apart = Page(render(make_inputs(), TEMPLATES)).text
    assert "They are not comparable with the scores on this page." in apart
    assert "Ours beside the paper’s" not in apart
    provenance = make_provenance(comparable_with_the_paper=True, comparable_pairs=[[ENCODER, "xnli"]])
    text = Page(render(make_inputs(provenance=provenance), TEMPLATES)).text
    assert "Ours beside the paper’s" in text


def test_an_axis_holds_its_values_and_places_them_in_order():
    axis, ticks = linear_axis([-2.1, 4.4, 0.0])
    assert axis.low <= -2.1 and axis.high >= 4.4 and 0.0 in ticks
    assert axis.place(axis.low) == 0 and axis.place(axis.high) == 100
    logarithmic, powers = log_axis([1e-4, 1e-2])
    assert set(powers) == {1e-4, 1e-3, 1e-2}
    assert logarithmic.place(1e-3) == pytest.approx(50)
    assert linear_axis([float("nan")])[0].high > linear_axis([float("nan")])[0].low


@pytest.mark.parametrize("line", [(1, 0, -30), (0, 1, -30), (1, 1, -100), (1, -1, 0), (3, -7, 40)])
def test_a_clipped_line_lies_on_the_line_and_ends_at_the_frame(line):
    a, b, c = line
    ends = np.array(clipped(a, b, c, 100.0)).reshape(2, 2)
    assert np.allclose(ends @ [a, b] + c, 0, atol=0.1)
    assert all(np.isclose(end, 0).any() or np.isclose(end, 100).any() for end in ends)


def test_a_line_outside_of_the_frame_is_not_drawn():
    assert clipped(1, 0, 10, 100.0) is None
    assert clipped(0, 0, 1, 100.0) is None


def test_numbers_read_as_people_write_them():
    assert rate_text(5e-5) == "5e-5"
    assert rate_text(0.00025) == "2.5e-4"
    assert duration_text(59.94) == "59.9 s"
    assert duration_text(59.97) == "1 min 00 s"
    assert duration_text(3725) == "1 h 02 min"
    assert bytes_text(4_700_000) == "4.7 MB"
    assert readable_date("2026-11-22T16:07:00+00:00") == "22 November 2026, 16:07"
    assert readable_date("yesterday") == "yesterday"


# Facts about the tasks and their corpora


def of_corpora(corpora: list[dict], definition: dict | None = None, **section) -> Report:
    """The report of a grid of PAWS-X from its Hub source, with these records of corpora."""
    configuration = {
        "corpora": {"source": "hub", "limits": {"train": None, "validation": None, "test": None}},
        "tasks": {"pawsx": {"definition": TASKS["pawsx"].model_dump() | (definition or {}), **section}},
    }
    records = [{"task": "pawsx", "sha256": "7d" * 32, **record} for record in corpora]
    tables = make_scores(["pawsx"]), make_runs(["pawsx"])
    return bare_report(*tables, corpora=records, configuration=configuration)


def corpus(language: str, split: str, rows: int, **counts: int) -> dict:
    return {"language": language, "split": split, "rows": rows, "origin": {"counts": counts}}


def problems_of(report: Report) -> list[str]:
    return [f"{concern.where}: {concern.what}" for concern in concerns(report)]


@pytest.mark.parametrize(("commercial", "words"), [(True, "permitted"), (False, "not permitted"), (None, "not known")])
def test_each_task_states_its_licence_whether_it_permits_commercial_use_and_what_to_cite(commercial, words):
    facts = {"licence": "CC BY 4.0", "commercial": commercial, "citation": "Me (2026)", "url": "https://example.org"}
    (row,) = (row for body in licences_table(of_corpora([], facts)).bodies for row in body)
    assert [cell.text for cell in row.cells] == ["PAWS-X", "CC BY 4.0", words, "Me (2026)"]
    assert row.cells[-1].small == "https://example.org"
    page = Page(render(of_corpora([], facts).inputs, TEMPLATES)).text
    assert f"PAWS-XCC BY 4.0{words}Me (2026) https://example.org" in page  # the text of neighbouring cells


def test_generated_rows_have_no_licence_of_their_dataset():
    assert licences_table(of_corpora([], source="mini")).bodies == ()
    assert licences_table(of_corpora([], source="xtreme")).bodies != ()


def test_what_was_changed_in_a_corpus_is_counted_below_the_corpora_with_the_place():
    counts = {"repaired tags": 1200, "rows with repaired tags": 7, "dropped rows": 3, "rows that occur twice": 2}
    report = of_corpora(
        [corpus("de", "train", 9, **counts), corpus("zh", "test", 8, **{"unusual rows": 4}), corpus("ko", "test", 8)]
    )
    assert list(corpora_table(report).notes) == [
        "Tags that were not valid IOB2, repaired: 1,200 in PAWS-X German train.",
        "Rows with such tags: 7 in PAWS-X German train.",
        "Rows that the task file excludes from training: 3 in PAWS-X German train.",
        "Repeated rows, used once: 2 in PAWS-X German train.",
        "Unusual rows, kept: 4 in PAWS-X Chinese test.",
    ]


def test_every_count_of_the_rooms_that_read_rows_is_in_the_report():
    text = (REPOSITORY / "workflow_scripts" / "corpora" / "rows.py").read_text(encoding="utf-8")
    assert set(re.findall(r'counts\["([^"]+)"\]', text)) == set(CHANGES)


def test_another_number_of_rows_than_the_task_file_says_is_a_problem():
    tested = [corpus("de", "test", 1999), corpus("ko", "test", 2001), corpus("zh", "test", 2000)]
    report = of_corpora([corpus("en", "train", 49401), corpus("en", "validation", 2000), *tested])
    assert problems_of(report) == [
        "PAWS-X: 1,999 test rows in German where the task file says 2,000; the numbers of 1 more language differ, too"
    ]
    left_out = {"dropped rows": 300, "rows that occur twice": 20}
    assert problems_of(of_corpora([corpus("de", "train", 49401 - 320, **left_out)])) == []
    assert problems_of(of_corpora([corpus("de", "train", 49401, **left_out)])) == []
    assert len(problems_of(of_corpora([corpus("de", "train", 49401 - 321, **left_out)]))) == 1


def test_with_limits_the_number_of_rows_is_no_problem():
    few = [corpus("en", "train", 64)]
    assert len(problems_of(of_corpora(few))) == 1
    assert problems_of(of_corpora(few, limits={"train": 64})) == []
    assert problems_of(of_corpora(few, source="xtreme")) == problems_of(of_corpora(few))


def test_a_split_is_counted_with_those_that_are_cut_from_it():
    sources = TASKS["pawsx"].model_dump()["sources"]
    sources["hub"]["splits"] = {
        "train": "train",
        "validation": {"from": "train", "share": 0.1},
        "test": {"name": "test", "task": "xnli"},
    }
    cut = {"sources": sources}
    whole = [corpus("en", "train", 44401), corpus("en", "validation", 5000), corpus("en", "test", 17)]
    assert problems_of(of_corpora(whole, cut)) == []
    lacks = problems_of(of_corpora([corpus("en", "train", 44401), corpus("en", "validation", 4999)], cut))
    assert lacks == ["PAWS-X: 49,400 train rows in English where the task file says 49,401"]
    # With selection on the test set, nothing is cut from training.
    tested = [corpus("en", "train", 49401), corpus("en", "validation", 2000)]
    report = of_corpora(tested, cut, validation="test")
    assert [problem for problem in problems_of(report) if "rows" in problem] == []


def test_a_language_code_that_no_registry_has_is_named_below_the_problems_and_is_none_of_them():
    scores = make_scores(["xnli"]).replace({"language": {"sw": "qzz", "ur": "madeup"}})
    report = bare_report(scores, make_runs(["xnli"]))
    assert unknown_codes(report) == ["qzz", "madeup"]
    assert concerns(report) == []
    assert "No registry has the language codes qzz and madeup" in Page(rendered(scores, make_runs(["xnli"]))).text
    assert "No registry has" not in Page(rendered()).text

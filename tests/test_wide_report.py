"""The report of very many languages and of several training sources: complete, small enough, and right."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from made_up_experiment import ENCODER, TEMPLATES, make_inputs, make_report, make_runs, make_scores
from paper_tasks import TASKS as PAPER_TASKS
from wide_experiment import ARMS, LANGUAGES, SEEDS, TASKS, wide_report, wide_scores

from workflow_scripts.core.languages import language
from workflow_scripts.reporting.charts import LINE, Label, without_overlap
from workflow_scripts.reporting.files import write_tables
from workflow_scripts.reporting.page import render_page
from workflow_scripts.reporting.parts import Folded, Section
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.sections import sections, sheets
from workflow_scripts.reporting.table import Sheet, Table

REPORTING = Path(__file__).resolve().parent.parent / "workflow_scripts" / "reporting"
SOURCES = ("en", "deu_Latn", "en+deu_Latn")


@pytest.fixture(scope="module")
def report() -> Report:
    return wide_report()


@pytest.fixture(scope="module")
def made(report) -> list[Section]:
    return sections(report)


@pytest.fixture(scope="module")
def several() -> Report:
    return wide_report(SOURCES)


@pytest.fixture(scope="module")
def made_of_several(several) -> list[Section]:
    return sections(several)


def table(made: list[Section], identifier: str) -> Table:
    found = [each for sheet in sheets(made).values() for each in sheet.tables if each.identifier == identifier]
    assert len(found) == 1
    return found[0]


def test_205_languages_with_six_methods_and_five_seeds_stay_below_8_megabytes(report, made, several, made_of_several):
    assert len(LANGUAGES) == 205 and len(ARMS) == 6 and len(SEEDS) == 5
    assert len(render_page(report, made, TEMPLATES).encode()) < 8_000_000
    assert len(render_page(several, made_of_several, TEMPLATES).encode()) < 8_000_000


def test_many_languages_are_rows_below_the_mean_of_their_family(made):
    shown = table(made, "xnli-accuracy")
    assert shown.collapses
    scores = wide_scores().query("task == 'xnli'")
    means = scores.groupby(["method", "language"])["value"].mean()
    families = [body[0].cells[0].text for body in shown.bodies if body[0].kind == "family"]
    assert len(families) == len(set(families)) > 10
    codes = [row.language for body in shown.bodies for row in body if row.kind == "language"]
    assert sorted(codes) == sorted(LANGUAGES)
    for body in shown.bodies:
        languages = [row.language for row in body if row.kind == "language"]
        assert len({language(code).family for code in languages}) == 1
        for row in body:
            own = languages if row.kind == "family" else [row.language]
            for (method, _), cell in zip(ARMS, row.cells[1:], strict=True):
                assert cell.sort == pytest.approx(means[method][own].mean())
        if len(languages) > 1:
            assert body[0].cells[0].text == language(languages[0]).family


def test_the_file_has_every_language_and_seed_and_the_latex_the_families(made, tmp_path):
    write_tables(made, tmp_path)
    (csv,) = tmp_path.glob("table_*xnli.csv")
    frame = pd.read_csv(csv)
    assert len(frame) == len(ARMS) * len(SEEDS) and set(LANGUAGES) < set(frame.columns)
    rows = csv.with_suffix(".tex").read_text(encoding="utf-8").count(r"\\" + "\n")
    assert rows == 2 + len(table(made, "xnli-accuracy").bodies) + 1, "two rows of heads, families, the average"


def test_a_chart_of_many_languages_has_the_ends_open_and_the_others_on_demand(made):
    (section,) = [section for section in made if section.identifier == "differences"]
    charts = next(part for part in section.parts if part.template == "forests").charts
    for chart in charts:
        total = len(TASKS["xnli" if chart.title == "Topics" else "pawsx"].languages)
        assert len(chart.intervals) + len(chart.middle) + len(chart.last) == total + 1
        assert len(chart.intervals) + len(chart.last) == 21
        places = [each.place for each in (*chart.intervals[1:], *chart.middle, *chart.last)]
        assert places == sorted(places, reverse=True)


def test_too_many_differences_leave_the_largest_on_the_page_and_say_so(several, made_of_several):
    total = len(several.differences)
    (section,) = [section for section in made_of_several if section.identifier == "differences"]
    (folded,) = [part for part in section.parts if isinstance(part, Folded)]
    (shown,) = folded.parts
    rows = [row for body in shown.bodies for row in body]
    assert len(rows) == 2500 < total
    assert any(f"largest of {total:,} differences" in note for note in shown.page_notes)
    sizes = several.differences[~several.differences["scope"].isin(["average", "gap"])]["difference"].abs()
    summaries = sum(row.kind == "winner" for row in rows)
    smallest = min(abs(row.cells[2].sort) for row in rows if row.kind != "winner")
    assert smallest == pytest.approx(sizes.nlargest(2500 - summaries).min())


def test_the_charts_by_family_and_by_script_are_means_of_scores_and_gaps(report, made):
    (section,) = [section for section in made if section.identifier == "families"]
    titles = [part.title for part in section.parts if part.template == "heading"]
    assert titles == ["By family", "By script", "By pretraining"]
    charts = [part for part in section.parts if part.template == "dots"]
    means = wide_scores().query("task == 'xnli' and method == 'lora'").groupby("language")["value"].mean()
    turkic = means[[code for code in LANGUAGES if language(code).family == "Turkic"]].mean()
    expected = (turkic, means["en"] - turkic)
    for chart, value in zip(charts[0].charts[:2], expected, strict=True):
        (row,) = [row for row in chart.rows if row.label == "Turkic"]
        (mark,) = [mark for mark in row.marks if "LoRA" in mark.title]
        assert mark.title == f"Turkic: LoRA {value:.1f}"
    scripts = {row.label for row in charts[1].charts[0].rows}
    assert {"Latin", "Cyrillic", "Ethiopic", "Han"} < scripts and not {"Simplified", "Traditional"} & scripts


def test_the_training_language_is_no_language_of_its_family_in_these_charts(report, made):
    (section,) = [section for section in made if section.identifier == "families"]
    charts = next(part for part in section.parts if part.template == "dots")
    (row,) = [row for row in charts.charts[0].rows if row.label == "Indo-European"]
    family = [code for code in LANGUAGES if language(code).family == "Indo-European"]
    assert row.small == str(len(family) - 1)


def test_labels_beside_a_plot_do_not_overlap_and_too_many_are_left_out():
    placed = without_overlap([Label(float(place % 3), f"label {place}") for place in range(12)])
    heights = [label.y for label in placed]
    assert all(below - above >= LINE for above, below in pairwise(heights))
    assert without_overlap([Label(0.0, str(place)) for place in range(13)]) == ()


def test_only_so_many_examples_of_each_language_are_on_the_page(report, made):
    (section,) = [section for section in made if section.identifier == "examples"]
    for task in section.parts[1:]:
        assert [len(each.examples) for each in task.languages] == [1] * len(task.languages)
        assert {each.left_out for each in task.languages} == {4}


# Sources


def test_with_one_source_there_is_no_matrix_and_the_words_name_it():
    assert "sources" not in [section.identifier for section in sections(make_report())]
    german = {
        name: getattr(make_inputs(), name).assign(source="de")
        for name in ("scores", "runs", "differences", "alignment", "projections", "boundaries")
    }
    examples = [{**example, "source": "de"} for example in make_inputs().examples]
    report = Report.of(replace(make_inputs(), **german, examples=examples))
    page = render_page(report, sections(report), TEMPLATES)
    assert "Tuned on German alone, which way of tuning transfers best to other languages?" in page
    assert "The ring is German" in page and "German minus the average of the other languages" in page
    assert "Hyperparameter search on German validation" in page


def test_the_matrix_has_a_row_for_each_source_and_its_scores(made_of_several, several):
    frame = sheets(made_of_several)["source_by_target"].frame
    assert len(frame) == sum(len(task.languages) for task in TASKS.by_name.values()) * len(ARMS) * len(SOURCES)
    scores = wide_scores(SOURCES)
    own = scores.query("task == 'xnli' and method == 'bitfit' and source == 'deu_Latn' and language == 'fra_Latn'")
    row = frame.query("task == 'xnli' and method == 'bitfit' and source == 'deu_Latn' and language == 'fra_Latn'")
    assert row["value"].item() == pytest.approx(own["value"].mean())
    assert row["std"].item() == pytest.approx(own["value"].std(ddof=1))
    assert row["seeds"].item() == len(SEEDS)
    shown = table(made_of_several, "matrix-1")
    assert [column.title for column in shown.columns] == ["Tested in", "English", "German", "English and German"]
    (german,) = [row for body in shown.bodies for row in body if row.language == "deu_Latn"]
    assert ["own" in cell.marks for cell in german.cells[1:]] == [False, True, True]


def few(several: Report, **changes) -> Report:
    """The same with few languages, which are columns of the matrix."""
    kept = ["en", "deu_Latn", "fra_Latn", "fin_Latn"]
    frames = {"scores": several.scores[several.scores["language"].isin(kept)]}
    scopes = [*kept, "average", "gap"]
    frames["differences"] = several.differences[several.differences["scope"].isin(scopes)]
    return Report.of(replace(several.inputs, **frames, **changes), TASKS)


def test_with_few_languages_the_matrix_has_sources_as_rows(several):
    report = few(several)
    shown = table(sections(report), "matrix-1")
    (body,) = shown.bodies
    assert [row.cells[0].text for row in body] == ["English", "German", "English and German"]
    assert [column.title for column in shown.columns[1:]] == ["en", "deu_Latn", "fin_Latn", "fra_Latn", "avg"]
    means = report.scores.query("task == 'xnli' and method == 'fine_tuning'")
    means = means.groupby(["source", "language"])["value"].mean()
    for source, row in zip(SOURCES, body, strict=True):
        for column, cell in zip(shown.columns[1:-1], row.cells[1:], strict=False):
            assert cell.sort == pytest.approx(means[source, column.title])


def test_the_best_source_of_a_language_has_its_lead_and_the_interval_that_was_given(several):
    report = few(several)
    frame = sheets(sections(report))["best_source"].frame
    means = report.by_source.set_index(["task", "method", "language", "source"])["value"].sort_index()
    for row in frame.to_dict("records"):
        of_language = means[row["task"], row["method"], row["language"]].sort_values(ascending=False)
        assert row["value"] == of_language.iloc[0] and row["lead"] == of_language.iloc[0] - of_language.iloc[1]
        assert of_language[row["source"]] == row["value"]
    assert frame["low"].isna().all()
    row = frame.query("task == 'xnli' and method == 'lora' and language == 'deu_Latn'").iloc[0]
    tested = pd.DataFrame(
        [
            {
                "encoder": ENCODER,
                "task": "xnli",
                "method": "lora",
                "language": "deu_Latn",
                "source": row["next"],
                "other": row["source"],
                "difference": -row["lead"],
                "low": -7.0,
                "high": -1.0,
                "significant": True,
            }
        ]
    )
    again = few(several, source_differences=tested)
    shown = table(sections(again), "best-source")
    (line,) = [each for body in shown.bodies for each in body if each.kind == "winner"]
    assert [cell.text for cell in line.cells][-1] == "1.0 to 7.0"


def test_sources_with_the_same_printed_score_tie(several):
    """Differences below the printed digits do not affect the order."""
    report = few(several)
    scores = report.scores.copy()
    cell = (scores["task"] == "xnli") & (scores["method"] == "lora")
    made_up = {"deu_Latn": (70.04, 70.0, 60.0), "fin_Latn": (71.0, 71.04, 71.0), "fra_Latn": (70.0, 72.0, 71.9)}
    for code, values in made_up.items():
        for source, value in zip(SOURCES, values, strict=True):
            scores.loc[cell & (scores["language"] == code) & (scores["source"] == source), "value"] = value
    made = sections(make_report(scores=scores, runs=report.runs))
    frame = sheets(made)["best_source"].frame.query("task == 'xnli' and method == 'lora'").set_index("language")
    assert list(frame.loc["deu_Latn", ["source", "tied"]]) == [SOURCES[0], SOURCES[1]]
    assert frame.loc["fin_Latn", "source"] == SOURCES[1]
    assert set(frame.loc["fin_Latn", "tied"].split()) == {SOURCES[0], SOURCES[2]}
    text = {cell.text for body in table(made, "best-source").bodies for row in body for cell in row.cells}
    assert "tie: English; German" in text and "tie: German; English; English and German" in text
    assert list(frame.loc["fra_Latn", ["source", "tied"]]) == [SOURCES[1], ""]


# One place for facts about tasks


def test_only_one_module_reads_the_catalogues_tasks_and_none_compares_a_kind():
    for file in REPORTING.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if file.name != "tasks.py":
            assert not re.search(r"import [^\n]*\bTASKS\b", text), file.name
        assert not re.search(r"sentence_pair|question_answering|\"tagging\"|\.kind\b *[!=]= *\"[a-z]+_", text), (
            file.name
        )


def test_every_view_exports_a_section_and_every_part_has_a_template(made):
    templates = {file.name.removesuffix(".html.j2") for file in (TEMPLATES / "parts").iterdir()}

    def parts(found):
        for part in found:
            yield part
            yield from parts(part.parts if isinstance(part, Folded) else part.tables if isinstance(part, Sheet) else ())

    used = {part.template for section in made for part in parts(section.parts)}
    assert used <= templates
    modules = {file.stem for file in (REPORTING / "views").glob("*.py")} - {"__init__"}
    listed = {
        view.__name__.rpartition(".")[2]
        for view in __import__("workflow_scripts.reporting.sections", fromlist=["VIEWS"]).VIEWS
    }
    assert listed == modules


# A few rows of the target language


def with_shots(languages: list[str], counts: tuple[int, ...] = (16, 64)) -> Report:
    """The made-up report, with models that have each seen some rows of one of these languages."""
    scores = make_scores(["xnli"])
    of_targets = scores[scores["language"].isin(languages)]
    shots = [of_targets.assign(shots=count, value=of_targets["value"] + count / 8) for count in counts]
    return make_report(scores=scores, runs=make_runs(["xnli"]), shots=pd.concat(shots, ignore_index=True))


def test_without_rows_of_target_languages_there_is_no_section_of_them(made):
    assert "shots" not in [section.identifier for section in made]


def test_the_curve_is_the_mean_over_languages_then_seeds_and_starts_with_the_scores_without_such_rows():
    report = with_shots(["de", "sw"])
    frame = sheets(sections(report))["shots"].frame
    assert set(frame["prompt_length"]) == {0, 16}, "the length that validation chose, and no other"
    scores = report.scores.query("method == 'prompt_tuning' and prompt_length == 16 and language in ['de', 'sw']")
    of_seeds = scores.groupby("seed")["value"].mean()
    means = frame.query("method == 'prompt_tuning' and language == 'average'").set_index("shots")
    assert means["value"].to_dict() == pytest.approx({n: of_seeds.mean() + n / 8 for n in (0, 16, 64)})
    assert list(means["std"]) == pytest.approx([of_seeds.std(ddof=1)] * 3)
    german = frame.query("method == 'prompt_tuning' and language == 'de'").set_index("shots")
    expected = scores.query("language == 'de'")["value"].mean()
    assert german["value"].to_dict() == pytest.approx({n: expected + n / 8 for n in (0, 16, 64)})
    assert set(frame["seeds"]) == {3}


def test_a_seed_that_lacks_a_language_is_no_part_of_the_average():
    report = with_shots(["de", "sw"])
    shots = report.inputs.shots
    gone = (shots["language"] == "sw") & (shots["seed"] == 2) & (shots["shots"] == 64)
    frame = make_report(scores=report.scores, runs=report.runs, shots=shots[~gone]).shots
    seeds = frame.query("language == 'average' and method == 'fine_tuning'").set_index("shots")["seeds"]
    assert seeds.to_dict() == {0: 3, 16: 3, 64: 2}


def shots_section(report: Report) -> Section:
    (section,) = [section for section in sections(report) if section.identifier == "shots"]
    return section


def test_few_target_languages_have_a_chart_each_and_many_the_mean_alone():
    charts = next(part for part in shots_section(with_shots(["de", "sw"])).parts if part.template == "plots").plots
    assert [chart.title for chart in charts] == ["XNLI: mean over 2 languages", "XNLI: German", "XNLI: Swahili"]
    for chart in charts:
        assert [tick.text for tick in chart.x_ticks] == ["0", "16", "64"]
        assert len(chart.marks) == 2 * 3 and len(chart.segments) == 2 * 2
        assert sorted({mark.x for mark in chart.marks}) == [tick.place for tick in chart.x_ticks]
    many = [language for language in PAPER_TASKS["xnli"].languages if language != "en"]
    charts = next(part for part in shots_section(with_shots(many)).parts if part.template == "plots").plots
    assert [chart.title for chart in charts] == ["XNLI: mean over 14 languages"]


def test_a_single_target_language_needs_no_average():
    report = with_shots(["sw"])
    assert set(report.shots["language"]) == {"sw"}
    charts = next(part for part in shots_section(report).parts if part.template == "plots").plots
    assert [chart.title for chart in charts] == ["XNLI: Swahili"]
    shown = table(sections(report), "shots-table")
    assert [row.cells[0].text for body in shown.bodies for row in body] == ["XNLI, Swahili"] * 2


def test_the_table_of_few_rows_is_the_files_as_page_and_latex(tmp_path):
    report = with_shots(["de", "sw"])
    made = sections(report)
    shown = table(made, "shots-table")
    assert [column.title for column in shown.columns] == ["Task", "0 rows", "16 rows", "64 rows"]
    frame = report.shots
    for method, body in zip(("fine_tuning", "prompt_tuning"), shown.bodies, strict=True):
        for scope, row in zip(("average", "de", "sw"), body, strict=True):
            own = frame[(frame["method"] == method) & (frame["language"] == scope)].sort_values("shots")
            assert [cell.sort for cell in row.cells[1:]] == pytest.approx(list(own["value"]))
    write_tables(made, tmp_path)
    assert len(pd.read_csv(tmp_path / "shots.csv")) == len(frame)
    assert f"{frame['value'].iloc[0]:.1f} ({frame['std'].iloc[0]:.1f})" in (tmp_path / "shots.tex").read_text()
    page = render_page(report, made, TEMPLATES)
    assert 'id="shots-table"' in page and "rows of the target language" in page

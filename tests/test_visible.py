"""Characters that affect the text around them are escaped wherever data is shown; other invisible ones stay."""

import subprocess
import sys
import unicodedata

import pytest
from made_up_experiment import ENCODER, TEMPLATES, make_examples, make_inputs, make_provenance, make_runs, make_scores

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.visible import visible
from workflow_scripts.reporting.files import write_tables
from workflow_scripts.reporting.inputs import Inputs
from workflow_scripts.reporting.page import render
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.sections import sections

# Bell, escape, backspace, delete, a control sequence in one character, next line, line separator, override, isolate.
BAD = "a\x00b\x07c\x1b[2Jd\x08e\x7ff\x9b2Jg\x85h\u2028i\u202ej\u2066k\u2069l\rm"
SHOWN = r"a\u0000b\u0007c\u001b[2Jd\u0008e\u007ff\u009b2Jg\u0085h\u2028i\u202ej\u2066k\u2069l\u000dm"


def acts(text: str) -> set[str]:
    """By Unicode's own data: control characters, line separators, embeddings, overrides and isolates."""
    formats = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    found = {letter for letter in text if unicodedata.category(letter) in ("Cc", "Zl", "Zp", "Cs")}
    return (found | {letter for letter in text if unicodedata.bidirectional(letter) in formats}) - {"\t", "\n"}


def test_all_that_acts_on_its_surroundings_is_escaped_and_nothing_else_is_touched():
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        text = f"x{character}y"
        if character in "\u200e\u200f\u061c" or acts(character):
            assert visible(text) == f"x\\u{number:04x}y"
        else:
            assert visible(text) == text
    assert visible(BAD) == SHOWN == visible(SHOWN)


@pytest.mark.parametrize(
    "text",
    [
        "می\u200cخواهم",  # Persian: a non-joiner within a word
        "क्\u200dष र्\u200dय",  # Hindi: joiners that choose a form
        "👩\u200d👩\u200d👧 ❤\ufe0f 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "e\u0301 ก็ a\u0308",
        "السعر 5\u200f$ و\u061c3",  # marks beside letters that run from right to left
        "one\r\ntwo\tthree\n",
        "soft\u00adhyphen ไทย\u200bภาษา",
    ],
)
def test_what_words_and_emoji_are_made_of_stays(text):
    assert visible(text) == text


def test_the_report_shows_escapes_wherever_a_text_comes_from_data():
    runs = make_runs()
    runs.loc[runs["stage"] == "seed", "problem"] = BAD
    examples = make_examples(["xnli"], each=1)
    examples[0] |= {"inputs": {BAD: BAD}, "gold": [BAD], "predictions": {"fine_tuning": BAD}, "id": BAD}
    page = render(
        make_inputs(
            scores=make_scores().assign(encoder=BAD),
            runs=runs.assign(encoder=BAD),
            examples=examples,
            provenance=make_provenance(name=BAD, description=BAD) | {"configuration": {"methods": BAD}},
            samples={
                "task": BAD,
                "asked": 2,
                "used": 1,
                "languages": ["en"],
                "disagreeing": [{"id": BAD, "labels": {"en": BAD}}],
                "missing": {},
            },
        ),
        TEMPLATES,
    )
    assert acts(page) == set()
    assert page.count(SHOWN) > 12


def test_the_tables_show_escapes_as_csv_and_as_latex(tmp_path):
    def renamed(frame):
        return frame.replace({"encoder": {ENCODER: BAD}})

    inputs = Inputs(renamed(make_scores()), renamed(make_runs().assign(problem=BAD)), make_provenance())
    written = write_tables(sections(Report.of(inputs)), tmp_path)
    texts = {file.name: file.read_text(encoding="utf-8") for file in written}
    assert {character for text in texts.values() for character in acts(text)} == set()
    assert SHOWN in texts["learning_rate_search.csv"] and SHOWN in texts["table_1_averages.csv"]


def test_latex_shows_escapes():
    from workflow_scripts.reporting.latex import escaped

    assert escaped("a\x1b_\u202eb") == r"a\textbackslash{}u001b\_\textbackslash{}u202eb"


STEP = """
import argparse, logging
from pathlib import Path
from workflow_scripts.core.errors import UserError
from workflow_scripts.core.step import run, step_parser
from workflow_scripts.core.visible import visible

BAD = {bad!r}

def main(arguments):
    logging.getLogger("crossprompt").warning("warns: %s", BAD)
    if {defect}:
        raise RuntimeError(BAD)
    raise UserError(f"row {{BAD}}\\nsecond")

run(main, step_parser(None))
"""


@pytest.mark.parametrize("defect", [False, True])
def test_the_terminal_and_the_log_show_escapes_and_an_error_stays_one_line(tmp_path, defect):
    log = tmp_path / "step.log"
    code = STEP.format(bad=BAD, defect=defect)
    outcome = subprocess.run([sys.executable, "-c", code, "--log", str(log)], capture_output=True, text=True)
    assert outcome.returncode == 1
    for text in (outcome.stderr, log.read_text(encoding="utf-8")):
        assert acts(text) == set()
        assert f"warns: {SHOWN}" in text
        if defect:
            assert f"RuntimeError: {SHOWN}" in text
        else:
            assert text.split("\n")[-3:] == [f"error: row {SHOWN}", "error: second", ""]


def test_an_error_that_ends_the_plan_shows_escapes():
    """Snakemake prints those, and no formatter of ours."""
    assert str(UserError(BAD)) == SHOWN

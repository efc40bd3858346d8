"""The report: one HTML file that holds all it needs and loads nothing.

`findings` and `views` turn scores and runs into small view objects, and the templates of `report/` turn those into
markup. A template shows what it is given and computes nothing; every text is escaped there.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from workflow_scripts.evaluation.aggregate import check_runs, check_scores, tasks_of
from workflow_scripts.experiment.errors import UserError
from workflow_scripts.reporting.findings import choices_on_test, concerns, findings, gaps_in_the_grid
from workflow_scripts.reporting.views import (
    averages_table,
    checksums_table,
    corpora_table,
    cost_table,
    gaps_table,
    language_tables,
    lengths_table,
    search_table,
)
from workflow_scripts.reporting.wording import Names, read_languages, readable_date

BENCHMARK = ("name", "source", "comparable_with_the_paper", "description")
PROVENANCE = ("configuration", "encoders", "corpora", "versions", "machine", "git_commit", "date")


def render(scores: pd.DataFrame, runs: pd.DataFrame, provenance: dict[str, Any], template_folder: Path) -> str:
    """Render the page.

    Args:
        scores: the long score table (see `aggregate`).
        runs: one row for each training run (see `tables.read_runs`).
        provenance: `benchmark`, and those of `PROVENANCE` that are known.
        template_folder: the folder `report/`.

    Raises:
        UserError: a table lacks a column, or the provenance a key of its benchmark.
    """
    check_scores(scores)
    check_runs(runs)
    absent = [key for key in BENCHMARK if key not in provenance.get("benchmark", {})]
    if absent:
        raise UserError(f"the provenance does not say what was run: add benchmark.{', benchmark.'.join(absent)}")
    names = Names(
        languages=read_languages(template_folder / "languages.csv"),
        several_encoders=len(set(scores["encoder"]) | set(runs["encoder"])) > 1,
    )
    generated = provenance["benchmark"]["source"] == "mini"
    script = (template_folder / "script.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False, default=str)
    final, lost = concerns(runs, names)
    choices = choices_on_test(provenance.get("configuration") or {})
    return environment.get_template("template.html.j2").render(
        # Style and script are our own files; nothing of an experiment is ever marked as safe.
        style=Markup((template_folder / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=script_hash(script),
        benchmark=provenance["benchmark"],
        provenance={**dict.fromkeys(PROVENANCE), **provenance},
        date=readable_date(provenance.get("date") or ""),
        encoders=sorted(set(scores["encoder"]) | set(runs["encoder"])),
        findings=findings(scores, runs, names),
        runs_known=not runs.empty,
        final_concerns=choices + final + gaps_in_the_grid(scores, runs, names),
        lost_concerns=lost,
        summary_tables=[averages_table(scores, runs, names), gaps_table(scores, runs, names)],
        language_tables=[
            table for task in tasks_of(scores) for table in language_tables(scores, runs, task, names, generated)
        ],
        search_tables=[table for table in (lengths_table(runs, names), search_table(runs, names)) if table.bodies],
        cost_table=cost_table(runs, names),
        corpora_table=corpora_table(provenance.get("corpora") or [], names),
        checksums_table=checksums_table(provenance.get("corpora") or [], names),
    )


def script_hash(script: str) -> str:
    """The content security policy's name for the page's one script: no other can run, whatever slips into the page."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

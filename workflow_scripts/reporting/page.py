"""The report: one self-contained HTML file that loads nothing.

`verdicts`, `findings` and `views` turn tables into small view objects; the templates in `report/` turn these into
markup. Templates compute nothing, and they escape every text.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from workflow_scripts.evaluation.aggregate import headline_arms, tasks_of
from workflow_scripts.experiment.visible import visible
from workflow_scripts.reporting.findings import (
    choices_by_earlier_metrics,
    choices_on_test,
    concerns,
    findings,
    gaps_in_the_grid,
    made_by_earlier_code,
)
from workflow_scripts.reporting.inputs import Inputs
from workflow_scripts.reporting.published import audit, audit_in_words
from workflow_scripts.reporting.verdicts import answers, borrowed_strength, headline
from workflow_scripts.reporting.views.analysis import analysis_tables, figure, samples_note
from workflow_scripts.reporting.views.corpora import checksums_table, corpora_table
from workflow_scripts.reporting.views.differences import differences_table, forests, overview
from workflow_scripts.reporting.views.examples import examples_by_task
from workflow_scripts.reporting.views.published import audit_table, beside_table, published_tables
from workflow_scripts.reporting.views.scores import averages_table, gaps_table, language_tables
from workflow_scripts.reporting.views.trade_offs import cost_plots, legend, length_plots, rate_plots
from workflow_scripts.reporting.views.training import cost_table, lengths_table, search_table
from workflow_scripts.reporting.wording import Names, read_languages, readable_date

PROVENANCE = ("configuration", "encoders", "corpora", "versions", "trained_on", "machine", "git_commit", "date")


def render(inputs: Inputs, template_folder: Path) -> str:
    """Render the page.

    Args:
        inputs: everything that the page shows.
        template_folder: the folder `report/`.

    Raises:
        UserError: a table lacks a column, or the provenance a key of its benchmark.
    """
    inputs.check()
    names = names_for(inputs, template_folder)
    script = (template_folder / "script.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["json"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return environment.get_template("template.html.j2").render(
        # Style and script are our own files; nothing of an experiment is ever marked as safe.
        style=Markup((template_folder / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=script_hash(script),
        **_head(inputs, names),
        **_results(inputs, names),
        **_explanations(inputs, names),
    )


def names_for(inputs: Inputs, template_folder: Path) -> Names:
    """The names of languages, methods and encoders in the report of these inputs."""
    return Names(
        languages=read_languages(template_folder / "languages.csv"),
        several_encoders=len(set(inputs.scores["encoder"]) | set(inputs.runs["encoder"])) > 1,
    )


def _shown(value: Any) -> Any:
    """The value of a template's expression with control characters escaped; markup is unchanged."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _head(inputs: Inputs, names: Names) -> dict[str, Any]:
    """The start and the end of the page: what was run, the answer, the problems, the provenance."""
    scores, runs, provenance = inputs.scores, inputs.runs, inputs.provenance
    final, lost = concerns(runs, names)
    corpora = provenance.get("corpora") or []
    return {
        "benchmark": provenance["benchmark"],
        "provenance": {**dict.fromkeys(PROVENANCE), **provenance},
        "date": readable_date(provenance.get("date") or ""),
        "encoders": sorted(set(scores["encoder"]) | set(runs["encoder"])),
        "headline": headline(inputs.differences, names),
        "borrowed_strength": borrowed_strength(inputs.differences),
        "answers": answers(inputs.differences, runs, inputs.alignment, headline_arms(scores, runs), names),
        "runs_known": not runs.empty,
        "final_concerns": choices_on_test(provenance.get("configuration") or {})
        + choices_by_earlier_metrics(provenance.get("chosen_by_earlier_metrics", 0))
        + made_by_earlier_code(provenance.get("made_by_earlier_code", 0))
        + final
        + gaps_in_the_grid(scores, runs, names),
        "lost_concerns": lost,
        "corpora_table": corpora_table(corpora, names, provenance.get("tokens") or []),
        "checksums_table": checksums_table(corpora, names),
    }


def _results(inputs: Inputs, names: Names) -> dict[str, Any]:
    """The scores, how certain their differences are, and what they cost."""
    scores, runs, differences = inputs.scores, inputs.runs, inputs.differences
    generated = inputs.provenance["benchmark"]["source"] == "mini"
    return {
        "overview": overview(differences, names),
        "findings": findings(scores, runs, differences, names),
        "forests": forests(differences, names),
        "differences_table": differences_table(differences, names),
        "summary_tables": [averages_table(scores, runs, names), gaps_table(scores, runs, names)],
        "language_tables": [
            table
            for task in tasks_of(scores)
            for table in language_tables(scores, runs, task, names, generated, inputs.ceilings)
        ],
        "search_tables": [table for table in (lengths_table(runs, names), search_table(runs, names)) if table.bodies],
        "length_plots": length_plots(scores, runs, names),
        "rate_plots": rate_plots(runs, names),
        "cost_plots": cost_plots(scores, runs, names),
        "cost_table": cost_table(runs, names),
        "methods": legend(runs),
        "methods_with_prompts": legend(runs[runs["prompt_length"] > 0]),
    }


def _explanations(inputs: Inputs, names: Names) -> dict[str, Any]:
    """The analyses of section 5, single predictions, and the paper's own numbers."""
    benchmark = inputs.provenance["benchmark"]
    found = audit(inputs.published)
    return {
        "analysis_tables": analysis_tables(inputs.alignment, names),
        "figure": figure(inputs.projections, inputs.boundaries, names),
        "samples": inputs.samples,
        "samples_note": samples_note(inputs.samples, names),
        "examples": examples_by_task(inputs.examples, names),
        "published_tables": published_tables(inputs.published),
        "beside_table": beside_table(
            inputs.published, inputs.scores, inputs.runs, inputs.comparable_pairs, inputs.alignment, names
        ),
        "why_not_comparable": benchmark.get("why_not_comparable", []),
        "audit_table": audit_table(found),
        "audit_in_words": audit_in_words(found),
    }


def script_hash(script: str) -> str:
    """The hash by which the content security policy allows the page's script, and no other, to run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

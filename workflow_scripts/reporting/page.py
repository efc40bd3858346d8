"""The report: one self-contained HTML file that loads nothing.

`views` turn the report's frames into sections; the templates in `report/` turn these into markup. Each kind of part has
a template in `report/parts/`. Templates compute nothing, and they escape every text.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from workflow_scripts.core.visible import visible
from workflow_scripts.reporting.inputs import Inputs
from workflow_scripts.reporting.parts import Section
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.sections import sections
from workflow_scripts.reporting.wording import readable_date


def render(inputs: Inputs, template_folder: Path) -> str:
    """The page of some inputs, with the built-in tasks. Raises UserError if an input lacks a part."""
    report = Report.of(inputs)
    return render_page(report, sections(report), template_folder)


def render_page(report: Report, made: list[Section], template_folder: Path) -> str:
    """The page.

    Args:
        report: for the head of the page.
        made: the sections of the report.
        template_folder: the folder `report/`.
    """
    script = (template_folder / "script.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    return environment.get_template("template.html.j2").render(
        # Style and script are our own files; nothing of an experiment is ever marked as safe.
        style=Markup((template_folder / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=script_hash(script),
        benchmark=report.benchmark,
        why_not_comparable=report.benchmark.get("why_not_comparable", []),
        question=question(report),
        encoders=report.encoders,
        sources=[report.names.source(source) for source in report.names.sources],
        commit=report.inputs.provenance.get("git_commit"),
        date=readable_date(report.inputs.provenance.get("date") or ""),
        sections=made,
    )


def question(report: Report) -> str:
    """What the report answers."""
    if report.names.several_sources:
        return "Tuned on one language, which way of tuning transfers best to others?"
    return f"Tuned on {report.names.reference} alone, which way of tuning transfers best to other languages?"


def _shown(value: Any) -> Any:
    """The value of a template's expression with control characters escaped; markup is unchanged."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def script_hash(script: str) -> str:
    """The hash by which the content security policy allows the page's script, and no other, to run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

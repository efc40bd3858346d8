"""How the report writes numbers, and its names for languages, methods and metrics."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pandas as pd

from workflow_scripts.experiment.catalogue import METHODS, TASKS
from workflow_scripts.experiment.names import UNTUNED

NOTHING = "–"
METRICS = {"accuracy": "accuracy", "f1": "F1", "f1_xtreme": "F1 (XTREME)", "exact_match": "exact match"}
# Notes on metrics that published numbers define in two ways, by kind of task and metric.
METRIC_NOTES = {
    ("tagging", "f1"): (
        "Chunks as seqeval 1.2.2 counts them, as in the scores of Tu, Xiong and Zhou (2022); XTREME’s published scores"
        " use seqeval 0.0.12."
    ),
    ("tagging", "f1_xtreme"): (
        "Chunks as seqeval 0.0.12 counts them, with the whole tag for the type, as in XTREME’s published scores; those"
        " of Tu, Xiong and Zhou (2022) use seqeval 1.2.2."
    ),
}


@dataclass(frozen=True)
class Names:
    """The names of languages, methods and encoders in this report."""

    languages: dict[str, dict[str, str]]
    several_encoders: bool = False
    fallback: dict[str, str] = field(default_factory=lambda: {"name": "", "native": "", "direction": "auto"})

    def language(self, code: str) -> str:
        """The English name of a language, or its code if the name is unknown."""
        return self.languages.get(code, self.fallback)["name"] or code

    def arm(self, method: str, prompt_length: int, encoder: str = "") -> str:
        """The title of an arm: `Prompt tuning, length 16`, with its encoder if there are several."""
        parts = [method_title(method)]
        if prompt_length:
            parts.append(f"length {prompt_length}")
        if encoder and self.several_encoders:
            parts.append(encoder)
        return ", ".join(parts)


def read_languages(path: Path) -> dict[str, dict[str, str]]:
    """English name, own name and writing direction of each language code."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["code"]: row for row in csv.DictReader(file)}


def method_title(method: str) -> str:
    """The title of a method; a method that is not in the catalogue keeps its name."""
    if method == UNTUNED:
        return "Untuned encoder"
    return METHODS[method].title if method in METHODS else method.replace("_", " ")


def method_words(method: str) -> str:
    """`method_title` within a sentence: lower case, except for proper names such as LoRA."""
    title = method_title(method)
    known = method == UNTUNED or method in METHODS
    return title.lower() if known and title[1:].islower() else title


def metric_title(metric: str) -> str:
    """The title of a metric."""
    return METRICS.get(metric, metric.replace("_", " "))


def score_text(value: float | None) -> str:
    """A percentage with one digit, as the paper prints it; a dash if there is none."""
    return NOTHING if value is None or pd.isna(value) else f"{round(value, 1) + 0.0:.1f}".replace("-", "−")


def signed_text(value: float) -> str:
    """A difference with its sign; 0.0 has none."""
    return f"{value:+.1f}".replace("-", "−") if round(value, 1) else "0.0"


def interval_text(low: float, high: float) -> str:
    """An interval in words: `−2.1 to 4.4`."""
    return f"{score_text(low)} to {score_text(high)}"


def p_text(p: float) -> str:
    """A p-value with two or three digits: `p 0.31`, `p 0.004`, `p < 0.001`."""
    if pd.isna(p):
        return "p not known"
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}" if p < 0.0995 else f"p {p:.2f}"


def spread_text(std: float | None) -> str:
    """A standard deviation; empty with one seed."""
    return "" if std is None or pd.isna(std) else f"± {std:.1f}"


def rate_text(rate: float | None) -> str:
    """A learning rate as in a configuration: 5e-5."""
    if rate is None or pd.isna(rate):
        return NOTHING
    mantissa, exponent = f"{rate:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def count_text(count: float) -> str:
    """A whole number with thousands separators."""
    return NOTHING if pd.isna(count) else f"{count:,.0f}"


def bytes_text(size: float) -> str:
    """A size on disk in decimal units."""
    if pd.isna(size):
        return NOTHING
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} B"


def duration_text(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if pd.isna(seconds):
        return NOTHING
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def readable_date(date: str) -> str:
    """`2026-11-22T16:07:00+00:00` as `22 November 2026, 16:07`; anything else as it is."""
    try:
        moment = datetime.fromisoformat(date)
    except (TypeError, ValueError):
        return str(date)
    return f"{moment.day} {moment:%B %Y}, {moment:%H:%M}"


def plural(count: int, thing: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def metric_note(task: str, metric: str, alone: bool = False) -> str:
    """How a task's metric relates to published numbers, with the names of task and metric unless it is `alone`.

    Empty if the metric has only one definition.
    """
    note = METRIC_NOTES.get((TASKS[task].kind, metric), "")
    return note if alone or not note else f"{TASKS[task].title}, {metric_title(metric)}: {note[0].lower()}{note[1:]}"

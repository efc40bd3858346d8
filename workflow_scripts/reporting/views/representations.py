"""Section 5 of the paper: the effect of tuning on representations and on the decision boundaries of languages."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from workflow_scripts.evaluation.aggregate import in_table_order
from workflow_scripts.experiment import table_names
from workflow_scripts.reporting.charts import clipped
from workflow_scripts.reporting.families import MOST_COLUMNS, family_bodies
from workflow_scripts.reporting.parts import Folded, Part, Section, lead, paragraph
from workflow_scripts.reporting.report import Report
from workflow_scripts.reporting.table import Cell, Column, Row, Sheet, Table, arm_cell, number_cell, paper_table
from workflow_scripts.reporting.wording import NOTHING, listed, plural

MOST_POINTS = 1500  # in all panels of figure 2 together: more cannot be distinguished and enlarge the page
SIDE = 100.0  # of a panel, in units of its view box
MARGIN = 4.0
MOST_DRAWN = 24  # languages in the figure
COLOURS = 8  # that the style has for languages
FILLS = ("hollow", "filled", "faint")  # by label

MODEL = ["encoder", "task", "source", "method", "prompt_length"]


@dataclass(frozen=True)
class Dot:
    """One text's point, in units of the panel; `colour` counts languages, `fill` is the class of its label."""

    x: float
    y: float
    colour: int
    fill: str
    language: str
    title: str


@dataclass(frozen=True)
class Boundary:
    """A language's decision boundary, clipped to the panel."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: int
    language: str
    title: str


@dataclass(frozen=True)
class Panel:
    """One model's projection."""

    title: str
    dots: tuple[Dot, ...]
    boundaries: tuple[Boundary, ...]
    description: str


@dataclass(frozen=True)
class Figure:
    """Figure 2: the panels, and what colours and fills mean: (colour, language, code) and (fill, label)."""

    template: ClassVar[str] = "figure"
    panels: tuple[Panel, ...]
    languages: tuple[tuple[int, str, str], ...]
    labels: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Disagreeing:
    """The texts whose label differs between languages: (id, its labels by language)."""

    template: ClassVar[str] = "disagreeing"
    texts: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


def section(report: Report) -> Section:
    """Tables 3 and 4, the classifiers and figure 2, with the texts that they are of."""
    identifier, title = "analysis", "What tuning does to representations"
    tables, drawn = analysis_tables(report), figure(report)
    if not tables and drawn is None:
        nothing = (
            "Not analysed: this needs a parallel corpus with labels in"
            f" {report.names.reference} and another language, and a model that was tuned on a task of its kind."
        )
        return Section(identifier, title, (paragraph(nothing),), "Representations")
    parts: list[Part] = [lead(note) for note in samples_note(report)]
    texts = report.inputs.samples.get("disagreeing") or []
    if texts:
        shown = tuple((text["id"], tuple(text["labels"].items())) for text in texts)
        parts.append(Folded("Which, and their labels", (Disagreeing(shown),), "disagreeing"))
    parts += [*tables, drawn or paragraph("There is no projection.")]
    return Section(identifier, title, tuple(parts), "Representations")


@dataclass(frozen=True)
class Measures:
    """What one table shows: measures with the titles of their rows, if there are several.

    `prefix`: the languages are compared with the reference, and the columns say so.
    """

    identifier: str
    title: str
    caption: str
    paper: str
    titles: dict[str, str]
    file: str = ""
    compared: bool = False


def _shown(reference: str, language: str) -> tuple[Measures, ...]:
    """The four tables; reference: its code, language: its name."""
    drawn = paper_table(None, "Figure 2 of the paper shows it as a drawing")
    return (
        Measures(
            "table-3",
            "Change of the representations by tuning",
            "Cosine similarity of each text’s representation before and after tuning, in percent: 100 is unchanged.",
            paper_table(3),
            {"before_after": "before and after"},
            table_names.BEFORE_AFTER,
        ),
        Measures(
            "table-4",
            "Similarity of translations",
            "Mean cosine similarity of translations and of other pairs of texts, in percent, and by how many percent"
            " the first is above the second.",
            paper_table(4),
            {
                "translation": "translations",
                "non_translation": "other pairs",
                "relative_difference": "relative difference",
            },
            table_names.TRANSLATIONS,
            compared=True,
        ),
        Measures(
            "linear-accuracy",
            f"A classifier fitted on {language}, by language",
            f"Accuracy in percent of a linear classifier fitted on {language} representations alone.",
            drawn,
            {"linear_accuracy": ""},
        ),
        Measures(
            "boundary-angle",
            "Angle between decision boundaries",
            f"Angle in degrees between the linear decision boundary of a language and that of {language}: 0 is aligned."
            f" The angle {reference}-{reference} is between the boundaries of two halves of the {language} texts: it"
            " shows how far chance alone rotates them. If it is near 90, the representations do not predict the label,"
            " and the other angles have no meaning.",
            drawn,
            {"boundary_angle": ""},
            compared=True,
        ),
    )


def analysis_tables(report: Report) -> list[Part]:
    """Tables 3 and 4, and the accuracy and angle of linear classifiers, for the measures that exist."""
    made: list[Part] = []
    reference = report.analysis_reference
    for measures in _shown(reference, report.names.language(reference)):
        own = {"split_half_angle": "boundary_angle"}
        frame = report.representations([*measures.titles, *(old for old, new in own.items() if new in measures.titles)])
        # The reference is compared with itself by two halves of its texts, and comes first.
        if frame["measure"].isin(own).any():
            frame = frame.replace({"measure": own}).sort_values(
                "language", key=lambda codes: codes != reference, kind="stable"
            )
        if not frame.empty:
            table = _table(report, measures, frame)
            made.append(Sheet(measures.file, frame, (table,)) if measures.file else table)
    return made


def _table(report: Report, measures: Measures, frame: pd.DataFrame) -> Table:
    languages = list(dict.fromkeys(frame["language"]))
    several = len(measures.titles) > 1
    prefix = f"{report.analysis_reference}-" if measures.compared else ""
    values = {
        key: model.set_index(["measure", "language"])[["mean", "std", "seeds"]]
        for key, model in _in_order(report, frame)
    }
    lines = [
        (key, measure, title, found.loc[measure])
        for key, found in values.items()
        for measure, title in measures.titles.items()
        if measure in found.index
    ]
    texts: dict[str, Any] = {
        "identifier": measures.identifier,
        "title": measures.title,
        "paper": measures.paper,
        "caption": f"{measures.caption} Mean over seeds, with the standard deviation.",
    }
    if len(languages) > MOST_COLUMNS:
        return _of_families(report, languages, lines, texts)
    bodies: dict[tuple, list[Row]] = {}
    for key, _, title, found in lines:
        encoder, task, source, method, length = key
        where = f"trained on {report.tasks.title(task)}" if task else ""
        small = " · ".join(filter(None, (where, title if several else "")))
        first = arm_cell(method, report.names.arm(method, int(length), encoder, source), small)
        body = bodies.setdefault(key, [])
        head = Cell(title, marks=("indented",)) if body else first
        body.append(Row((head, *(_value(found, language) for language in languages))))
    names = report.names
    return Table(
        columns=(
            Column("Model", "head", second="Measure" if several else "Trained on"),
            *(Column(f"{prefix}{code}", hint=names.language(code), language=code) for code in languages),
        ),
        bodies=tuple(map(tuple, bodies.values())),
        kind="heat analysis",
        sorts="bodies",
        **texts,
    )


def _of_families(report: Report, languages: list[str], lines: list[tuple], texts: dict[str, Any]) -> Table:
    """The same with languages as rows, by family."""
    means = pd.DataFrame([found["mean"].reindex(languages) for *_, found in lines]).reset_index(drop=True).T
    columns = []
    for (encoder, task, source, method, length), _, title, _ in lines:
        trained = report.tasks.title(task) if task else ""
        small = tuple(filter(None, (trained, title if len(lines) > 1 else "")))
        columns.append(Column(report.names.arm(method, int(length), encoder, source), small=small))
    return Table(
        columns=(Column("Language", "head"), *columns),
        bodies=family_bodies(report.names, means, lambda row, _: [number_cell(value) for value in row]),
        kind="heat families",
        sorts="bodies",
        collapses=True,
        **texts,
    )


def _in_order(report: Report, rows: pd.DataFrame) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """The models: untuned first, then by training task, fine-tuning first."""
    for task in ["", *report.tasks.in_order(set(rows["task"]) - {""})]:
        of_task = rows[rows["task"] == task]
        if len(of_task):
            yield from in_table_order(of_task).groupby(MODEL, sort=False)


def _value(values: pd.DataFrame, language: str) -> Cell:
    if language not in values.index or pd.isna(values.loc[language, "mean"]):
        return Cell(NOTHING, marks=("missing",))
    mean, std, seeds = values.loc[language]
    return number_cell(mean, spread=std, title=plural(int(seeds), "seed"))


def figure(report: Report) -> Figure | None:
    """Figure 2: a panel for each model, at one seed; None without a projection.

    With more than `MOST_POINTS` in total, only every n-th text is shown, the same in each panel and language.
    """
    projections, names = report.inputs.projections, report.names
    if projections.empty:
        return None
    every = list(dict.fromkeys(projections["language"]))
    languages = every[:MOST_DRAWN]
    seeds = projections.groupby(MODEL)["seed"].transform("min")
    points = projections[(projections["seed"] == seeds) & projections["language"].isin(languages)]
    texts = sorted(set(points["id"]))
    step = -(-len(points) // MOST_POINTS)
    kept = set(texts[::step])
    labels = sorted(set(points["label"]))
    panels = tuple(_panel(report, key, rows, kept, (languages, labels)) for key, rows in _in_order(report, points))
    notes = ["Each panel has its own scale: directions and distances cannot be compared between panels."]
    if len(every) > len(languages):
        notes.append(f"The first {len(languages)} of {len(every)} languages are shown.")
    if step > 1:
        notes.append(f"{len(kept)} of {len(texts)} texts are shown; the boundaries are fitted on all of them.")
    tuned = points[points["task"] != ""]
    if len(tuned):
        notes.append(f"Tuned models of seed {listed([str(seed) for seed in sorted(set(tuned['seed']))])}.")
    return Figure(
        panels=panels,
        languages=tuple((place % COLOURS, names.language(code), code) for place, code in enumerate(languages)),
        labels=tuple((_fill(labels, label), str(label)) for label in labels),
        notes=tuple(notes),
    )


def _fill(labels: list, label: Any) -> str:
    return FILLS[min(labels.index(label), len(FILLS) - 1)]


def _panel(report: Report, key: tuple, rows: pd.DataFrame, kept: set, kinds: tuple[list, list]) -> Panel:
    encoder, task, source, method, length = key
    languages, labels = kinds
    names, boundaries = report.names, report.inputs.boundaries
    low_x, low_y = rows["x"].min(), rows["y"].min()
    width, height = rows["x"].max() - low_x, rows["y"].max() - low_y
    # The same scale for both axes, so that angles are correct.
    scale = (SIDE - 2 * MARGIN) / (max(width, height) or 1.0)
    left = (SIDE - scale * width) / 2 - scale * low_x
    bottom = (SIDE + scale * height) / 2 + scale * low_y
    dots = tuple(
        Dot(
            x=round(left + scale * row["x"], 1),
            y=round(bottom - scale * row["y"], 1),
            colour=languages.index(row["language"]) % COLOURS,
            fill=_fill(labels, row["label"]),
            language=row["language"],
            title=f"{names.language(row['language'])}, label {row['label']}, text {row['id']}",
        )
        for row in rows[rows["id"].isin(kept)].to_dict("records")
    )
    same = (
        (boundaries["encoder"] == encoder)
        & (boundaries["task"] == task)
        & (boundaries["source"] == source)
        & (boundaries["method"] == method)
        & (boundaries["prompt_length"] == length)
        & (boundaries["seed"] == rows["seed"].iloc[0])
    )
    lines = []
    for row in boundaries[same].to_dict("records"):
        # x_weight * x + y_weight * y + intercept = 0 in units of the panel, whose y grows downwards.
        a, b = row["x_weight"] / scale, -row["y_weight"] / scale
        ends = clipped(a, b, row["intercept"] - a * left - b * bottom, SIDE)
        if ends is not None and row["language"] in languages:
            colour = languages.index(row["language"]) % COLOURS
            title = f"decision boundary of {names.language(row['language'])}"
            lines.append(Boundary(*ends, colour, row["language"], title))
    arm = names.arm(method, int(length), encoder, source)
    title = f"{arm}, on {report.tasks.title(task)}" if task else f"Untuned{names.where(encoder)}"
    return Panel(
        title, dots, tuple(lines), f"{title}: {len(dots)} texts, {plural(len(lines), 'decision boundary line')}"
    )


def samples_note(report: Report) -> list[str]:
    """The texts of the analyses: how many, in which languages, and which were left out or disagree."""
    samples, names = report.inputs.samples, report.names
    if not samples:
        return []
    languages = names.languages(samples.get("languages", []))
    title = report.tasks.title(samples["task"]) if "task" in samples else "the corpus"
    used = f"{samples['used']:,} of {samples['asked']:,} requested texts of {title}"
    notes = [f"{used}, each in {languages}."]
    missing = {code: count for code, count in samples.get("missing", {}).items() if count}
    if missing:
        counts = listed([f"{names.language(code)} {count:,}" for code, count in missing.items()])
        notes.append(f"Left out because a language lacks their translation: {counts}.")
    if samples.get("disagreeing"):
        what = "kept, each with its own label in every language" if samples.get("kept") else "left out"
        notes.append(f"{plural(len(samples['disagreeing']), 'text')} whose label differs between languages, {what}:")
    return notes

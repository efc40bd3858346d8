"""Section 5 of the paper: the effect of tuning on representations and on the decision boundaries of languages."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from workflow_scripts.evaluation.aggregate import in_table_order
from workflow_scripts.experiment.catalogue import TASKS
from workflow_scripts.experiment.grid import SOURCE_LANGUAGE
from workflow_scripts.reporting.charts import clipped
from workflow_scripts.reporting.views.table import Cell, Column, Row, Table, arm_cell, paper_table
from workflow_scripts.reporting.wording import (
    NOTHING,
    Names,
    listed,
    plural,
    score_text,
    spread_text,
)

MOST_POINTS = 1500  # in all panels of figure 2 together: more cannot be distinguished and enlarge the page
SIDE = 100.0  # of a panel, in units of its view box
MARGIN = 4.0
COLOURS = 8  # that the style has for languages
FILLS = ("hollow", "filled", "faint")  # by label

MODEL = ["encoder", "task", "method", "prompt_length"]


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

    panels: tuple[Panel, ...]
    languages: tuple[tuple[int, str, str], ...]
    labels: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def analysis_tables(alignment: pd.DataFrame, names: Names) -> list[Table]:
    """Tables 3 and 4, and the accuracy and angle of linear classifiers, for the measures that exist."""
    made = [
        _table(
            alignment,
            ["before_after"],
            names,
            identifier="table-3",
            title="Change of the representations by tuning",
            paper=paper_table(3),
            caption=(
                "Cosine similarity of each text’s representation before and after tuning, in percent: 100 is unchanged."
            ),
        ),
        _table(
            alignment,
            ["translation", "non_translation", "relative_difference"],
            names,
            identifier="table-4",
            title="Similarity of translations",
            paper=paper_table(4),
            prefix="en-",
            caption=(
                "Mean cosine similarity of translations and of other pairs of texts, in percent, and by how many"
                " percent the first is above the second."
            ),
        ),
        _table(
            alignment,
            ["linear_accuracy"],
            names,
            identifier="linear-accuracy",
            title="A classifier fitted on English, by language",
            paper=paper_table(None, "Figure 2 of the paper shows it as a drawing"),
            caption="Accuracy in percent of a linear classifier fitted on English representations alone.",
        ),
        _table(
            # English is compared with itself by two halves of its texts, and comes first.
            alignment.replace({"measure": {"split_half_angle": "boundary_angle"}}).sort_values(
                "language", key=lambda codes: codes != SOURCE_LANGUAGE, kind="stable"
            ),
            ["boundary_angle"],
            names,
            identifier="boundary-angle",
            title="Angle between decision boundaries",
            paper=paper_table(None, "Figure 2 of the paper shows it as a drawing"),
            prefix="en-",
            caption=(
                "Angle in degrees between the linear decision boundary of a language and that of English: 0 is aligned."
                " The angle en-en is between the boundaries of two halves of the English texts: it shows how far chance"
                " alone rotates them. If it is near 90, the representations do not predict the label, and the other"
                " angles have no meaning."
            ),
        ),
    ]
    return [table for table in made if table is not None]


MEASURES = {
    "translation": "translations",
    "non_translation": "other pairs",
    "relative_difference": "relative difference",
}


def _table(alignment: pd.DataFrame, measures: list[str], names: Names, prefix: str = "", **texts: Any) -> Table | None:
    rows = alignment[alignment["measure"].isin(measures)]
    if rows.empty:
        return None
    languages = list(dict.fromkeys(rows["language"]))
    bodies = []
    for (encoder, task, method, length), model in _in_order(rows):
        body: list[Row] = []
        for measure in measures:
            values = model[model["measure"] == measure].groupby("language")["value"].agg(["mean", "std", "size"])
            if values.empty:
                continue
            label = names.arm(method, int(length), encoder)
            where = f"trained on {TASKS[task].title}" if task in TASKS else task
            first = arm_cell(method, label, where)
            if body:
                first = Cell(MEASURES[measure], marks=("indented",))
            elif len(measures) > 1:
                first = arm_cell(method, label, " · ".join(filter(None, (where, MEASURES[measure]))))
            body.append(Row((first, *(_value(values, language) for language in languages))))
        bodies.append(tuple(body))
    return Table(
        columns=(
            Column("Model", "head"),
            *(
                Column(f"{prefix}{language}", hint=names.language(language), language=language)
                for language in languages
            ),
        ),
        bodies=tuple(bodies),
        kind="heat analysis",
        sorts="bodies",
        **texts,
    )


def _in_order(rows: pd.DataFrame) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """The models: untuned first, then by training task as the catalogue has them, fine-tuning first."""
    known = ["", *TASKS]
    for task in sorted(set(rows["task"]), key=lambda task: known.index(task) if task in known else len(known)):
        yield from in_table_order(rows[rows["task"] == task]).groupby(MODEL, sort=False)


def _value(values: pd.DataFrame, language: str) -> Cell:
    if language not in values.index or pd.isna(values.loc[language, "mean"]):
        return Cell(NOTHING, marks=("missing",))
    mean, std, seeds = values.loc[language]
    return Cell(score_text(mean), small=spread_text(std), sort=float(mean), title=plural(int(seeds), "seed"))


def figure(projections: pd.DataFrame, boundaries: pd.DataFrame, names: Names) -> Figure | None:
    """Figure 2: a panel for each model, at one seed; None without a projection.

    With more than `MOST_POINTS` in total, only every n-th text is shown, the same in each panel and language.
    """
    if projections.empty:
        return None
    seeds = projections.groupby(MODEL)["seed"].transform("min")
    points = projections[projections["seed"] == seeds]
    texts = sorted(set(points["id"]))
    step = -(-len(points) // MOST_POINTS)
    kept = set(texts[::step])
    languages = list(dict.fromkeys(points["language"]))
    labels = sorted(set(points["label"]))
    panels = tuple(_panel(key, rows, kept, boundaries, (languages, labels), names) for key, rows in _in_order(points))
    notes = ["Each panel has its own scale: directions and distances cannot be compared between panels."]
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


def _panel(
    key: tuple,
    rows: pd.DataFrame,
    kept: set,
    boundaries: pd.DataFrame,
    kinds: tuple[list, list],
    names: Names,
) -> Panel:
    encoder, task, method, length = key
    languages, labels = kinds
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
    arm = names.arm(method, int(length), encoder)
    untuned = f"Untuned{', ' + encoder if names.several_encoders else ''}"
    title = f"{arm}, on {TASKS[task].title if task in TASKS else task}" if task else untuned
    return Panel(
        title, dots, tuple(lines), f"{title}: {len(dots)} texts, {plural(len(lines), 'decision boundary line')}"
    )


def samples_note(samples: dict[str, Any], names: Names) -> list[str]:
    """The texts of the analyses: how many, in which languages, and which were left out or disagree."""
    if not samples:
        return []
    languages = [names.language(code) for code in samples.get("languages", [])]
    title = TASKS[samples["task"]].title if samples.get("task") in TASKS else samples.get("task", "the corpus")
    used = f"{samples['used']:,} of {samples['asked']:,} requested texts of {title}"
    notes = [f"{used}, each in {listed(languages)}."]
    missing = {code: count for code, count in samples.get("missing", {}).items() if count}
    if missing:
        counts = listed([f"{names.language(code)} {count:,}" for code, count in missing.items()])
        notes.append(f"Left out because a language lacks their translation: {counts}.")
    if samples.get("disagreeing"):
        what = "kept, each with its own label in every language" if samples.get("kept") else "left out"
        notes.append(f"{plural(len(samples['disagreeing']), 'text')} whose label differs between languages, {what}:")
    return notes

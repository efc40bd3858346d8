"""Tables 5 to 8: the scores by language. With very many languages the rows are languages, by family."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from workflow_scripts.core.names import NO_SEED, OUTSIDE
from workflow_scripts.experiment import table_names
from workflow_scripts.experiment.table_names import task_table
from workflow_scripts.reporting.families import MOST_COLUMNS, family_bodies
from workflow_scripts.reporting.parts import Folded, Part, Section, lead
from workflow_scripts.reporting.report import MODEL, Report, ScoresByLanguage
from workflow_scripts.reporting.table import (
    Cell,
    Column,
    Row,
    Sheet,
    Table,
    arm_cell,
    method_class,
    number_cell,
    number_column,
    paper_table,
    plain_table,
    shading,
    text_column,
)
from workflow_scripts.reporting.tasks import Metric, Task
from workflow_scripts.reporting.wording import NOTHING, method_title, score_text

CEILING_NOTE = (
    "Highest possible: the score with the best span of tokens for each question. An answer is a span of tokens, no"
    " longer than decoding allows, so no model with this tokenizer can score higher."
)


def section(report: Report) -> Section:
    """A sheet for each task, and the highest possible scores."""
    each = ", for each encoder separately" if report.names.several_encoders else ""
    reading = (
        "The tint is darker for higher scores, from the majority class (or the table’s lowest score) to the highest."
        f" Bold is the best mean of a language{each}."
    )
    sheets = [sheet(report, task) for task in report.by_language]
    parts: list[Part] = [lead(reading), *sheets]
    if not report.ceilings.empty:
        parts.append(Folded("Highest possible scores, on average", (ceilings(report),)))
    entries = tuple((table.identifier, table.title) for one in sheets for table in one.tables)
    return Section("languages", "Scores by language", tuple(parts), "By language", entries)


def sheet(report: Report, task: str) -> Sheet:
    """A task's scores by language: a table for each metric."""
    metrics = report.by_language[task]
    frame = pd.concat([scores.frame.assign(metric=metric) for metric, scores in metrics.items()], ignore_index=True)
    front = [*MODEL, "arm", "seed", "metric"]
    frame = frame[[*front, *(column for column in frame if column not in front)]]
    tables = tuple(_Scores(report, report.tasks[task], metric, scores).table() for metric, scores in metrics.items())
    return Sheet(task_table(task, report.tasks[task].paper_table), frame, tables)


@dataclass(frozen=True)
class _Scores:
    """The scores of a task by one metric, on their way to a table."""

    report: Report
    task: Task
    metric_name: str
    scores: ScoresByLanguage

    @property
    def metric(self) -> Metric:
        return self.task.metric(self.metric_name)

    @property
    def languages(self) -> tuple[str, ...]:
        return self.scores.languages

    def table(self) -> Table:
        """The table, with the languages as columns or as rows."""
        many = len(self.languages) > MOST_COLUMNS
        return self._of_families() if many else self._of_languages()

    def majority(self) -> float | None:
        """The majority class's score on the validation set by this metric, if the runs have it."""
        runs = self.report.runs
        known = runs[(runs["task"] == self.task.name) & (runs["metric"] == self.metric_name)]["majority"].dropna()
        return float(known.max()) if len(known) else None

    def ceilings(self) -> dict[str, pd.Series]:
        """By encoder, the best scores that the tokens allow: each language, then `avg`, unweighted. NaN if unknown."""
        table = self.report.ceilings
        rows = table[(table["task"] == self.task.name) & (table["metric"] == self.metric_name)]
        found = {}
        for encoder, own in rows.groupby("encoder", sort=False):
            values = own.set_index("language")["value"].reindex(list(self.languages))
            values["avg"] = values.mean(skipna=False)
            found[str(encoder)] = values
        return found

    def models(self) -> list[tuple[tuple, pd.DataFrame]]:
        """The seeds of each arm."""
        return list(self.scores.frame.groupby(MODEL, sort=False))

    def winners(self) -> dict[tuple, pd.Series]:
        """By encoder and source, the best printed number of each column of means, if there are rivals."""
        grouped = self.scores.means.round(1).groupby(level=["encoder", "source"])
        return {key: own.max() for key, own in grouped if len(own) > 1 and key[0] != OUTSIDE}

    def cell(self, value: float, language: str, best: pd.Series | None, majority: float | None, count: int) -> Cell:
        """The cell of one score; `count`: of how many languages the row has a score."""
        if pd.isna(value):
            return Cell(NOTHING, marks=("missing", "average") if language == "avg" else ("missing",))
        average, lacks = language == "avg", count < len(self.languages)
        marks = ["best"] if best is not None and round(value, 1) == best[language] else []
        if average:
            marks.append("average")
        elif majority is not None and value <= majority:
            marks.append("below")
        dagger = "†" if average and lacks else ""
        return number_cell(
            value,
            lambda shown: score_text(shown) + dagger,
            shade=None if average else self.shade(majority)(value),
            marks=tuple(marks),
            title=f"over {count} of {len(self.languages)} languages" if dagger else "",
        )

    def shade(self, majority: float | None):  # type: ignore[no-untyped-def]
        values = self.scores.frame[list(self.languages)]
        low = values.min().min() if majority is None else majority
        return shading(low, values.max().max())

    def texts(self) -> dict[str, Any]:
        """Identifier, title, tag and caption."""
        identifier = f"{self.task.name}-{self.metric_name.replace('_', '-')}"
        several = len(self.task.metrics) > 1
        return {
            "identifier": identifier,
            "title": f"{self.task.title}, {self.metric.title}" if several else self.task.title,
            "paper": paper_table(self.task.paper_table, "Not in the paper by language"),
            "caption": self.caption(),
        }

    def caption(self) -> str:
        """What the numbers are: metric, training corpus, and how many of the task's languages there are."""
        total, found = len(self.task.languages), len(self.languages)
        corpus = "generated sentences" if self.report.generated else self.task.trains_on
        corpus = f" ({corpus})" if corpus else ""
        whole = set(self.languages) >= set(self.task.languages)
        tested = (
            f"All {total} test languages of the task." if whole else f"{found} of the task’s {total} test languages."
        )
        title = self.metric.title[0].upper() + self.metric.title[1:]
        return (
            f"{title} in percent, tuned on {self.report.names.reference}{corpus}. {tested} {self.metric.note}".strip()
        )

    def page_notes(self, bodies: Sequence[Sequence[Row]], majority: float | None) -> Iterator[str]:
        if any("below" in cell.marks for body in bodies for row in body for cell in row.cells):
            yield (
                f"Dotted underline: not above {majority:.1f}, the score of the majority class on"
                f" {self.report.names.validation}."
            )

    def notes(self) -> Iterator[str]:
        if (self.scores.frame["languages"] < len(self.languages)).any():
            yield "† The average is over fewer languages: not comparable with a row that has all of them."
        if self.ceilings():
            yield CEILING_NOTE

    def _of_languages(self) -> Table:
        columns, majority = self.scores.columns, self.majority()
        means, winners = self.scores.means, self.winners()

        def cells(values: pd.Series, best: pd.Series | None, count: int) -> list[Cell]:
            return [self.cell(values[language], language, best, majority, count) for language in columns]

        bodies = []
        for place, ((encoder, source, method, length), models) in enumerate(self.models()):
            label = self.report.names.arm(method, length, encoder, source)
            seed = models["seed"].iloc[0]
            alone = "made elsewhere" if encoder == OUTSIDE and seed == NO_SEED else f"seed {seed}"
            first = arm_cell(method, label, "mean" if len(models) > 1 else alone)
            shown = cells(means.iloc[place], winners.get((encoder, source)), int(models["languages"].min()))
            rows = [Row((first, *shown), kind="mean")]
            if len(models) > 1:
                rows += self._seeds(models, cells)
            bodies.append(tuple(rows))
        names = self.report.names
        return Table(
            columns=(
                Column("Method", "head", second="Seed"),
                *(Column(code, hint=names.language(code), language=code) for code in self.languages),
                Column("avg", hint="unweighted average over the languages"),
            ),
            bodies=tuple(bodies),
            notes=tuple(self.notes()),
            page_notes=tuple(self.page_notes(bodies, majority)),
            feet=tuple(self._foot(encoder, values) for encoder, values in self.ceilings().items()),
            kind="heat wide" if len(self.languages) > 20 else "heat",
            sorts="bodies",
            **self.texts(),
        )

    def _seeds(self, models: pd.DataFrame, cells) -> Iterator[Row]:  # type: ignore[no-untyped-def]
        spread = models[self.scores.columns].std(ddof=1)
        shown = [Cell(NOTHING if pd.isna(value) else f"{value:.1f}") for value in spread]
        title = f"sample standard deviation over {len(models)} seeds"
        yield Row((Cell("± over seeds", marks=("indented",), title=title), *shown), kind="deviation")
        for _, model in models.iterrows():
            first = Cell(f"seed {model['seed']}", marks=("indented",))
            yield Row((first, *cells(model, None, int(model["languages"]))), kind="seed")

    def _foot(self, encoder: str, values: pd.Series) -> Row:
        head = Cell("Highest possible", small=encoder if self.report.names.several_encoders else "")
        return Row((head, *(Cell(score_text(value)) for value in values)), kind="ceiling")

    def _of_families(self) -> Table:
        """Languages as rows, by family; arms as columns, with the mean over seeds."""
        majority, names = self.majority(), self.report.names
        keys = [key for key, _ in self.models()]
        means = self.scores.means.reset_index(drop=True).T
        shade = self.shade(majority)
        counts = [int(models["languages"].min()) for _, models in self.models()]

        def cells(values: pd.Series, is_mean: bool) -> list[Cell]:
            return [self._family_cell(value, values, place, keys, shade, majority) for place, value in values.items()]

        bodies = family_bodies(names, means.loc[list(self.languages)], cells)
        average = [self.cell(means.loc["avg", place], "avg", None, None, counts[place]) for place in range(len(keys))]
        feet = [Row((Cell("average over all languages"), *average), kind="average")]
        feet += [self._foot_by_arm(keys)] if self.ceilings() else []
        notes = ["The mean of a family is unweighted. Click a family to see its languages. The CSV has every seed."]
        return Table(
            columns=(
                Column("Language", "head"),
                *(
                    Column(
                        method_title(method), small=self._arm_small(encoder, source, length), hint=method_class(method)
                    )
                    for encoder, source, method, length in keys
                ),
            ),
            bodies=bodies,
            notes=tuple(self.notes()),
            page_notes=(*notes, *self.page_notes(bodies, majority)),
            feet=tuple(feet),
            kind="heat families",
            sorts="bodies",
            collapses=True,
            **self.texts(),
        )

    def _arm_small(self, encoder: str, source: str, length: int) -> tuple[str, ...]:
        parts = [f"length {length}"] if length else []
        where = self.report.names.where(encoder, source).removeprefix(", ")
        text = ", ".join([*parts, *([where] if where else [])])
        return (text,) if text else ()

    def _family_cell(self, value, values, place, keys, shade, majority) -> Cell:  # type: ignore[no-untyped-def]
        if pd.isna(value):
            return Cell(NOTHING, marks=("missing",))
        rivals = [values[other] for other, key in enumerate(keys) if key[:2] == keys[place][:2]]
        best = len(rivals) > 1 and round(value, 1) == round(max(rivals), 1) and keys[place][0] != OUTSIDE
        below = majority is not None and value <= majority
        marks = tuple(name for name, holds in (("best", best), ("below", below)) if holds)
        return number_cell(value, shade=shade(value), marks=marks)

    def _foot_by_arm(self, keys: Sequence[tuple]) -> Row:
        ceilings = self.ceilings()
        cells = [Cell(score_text(ceilings[key[0]]["avg"] if key[0] in ceilings else None)) for key in keys]
        return Row((Cell("Highest possible"), *cells), kind="ceiling")


def ceilings(report: Report) -> Sheet:
    """The highest possible scores. The CSV lists every language, the table the averages."""
    keys = ["task", "encoder", "metric"]
    means = report.ceilings.groupby(keys, as_index=False, sort=False)["value"].mean()
    table = plain_table(
        means,
        (
            text_column("Task", lambda row: report.tasks.title(row["task"]), "head"),
            text_column("Encoder", lambda row: row["encoder"]),
            text_column("Metric", lambda row: report.tasks.metric_title(row["task"], row["metric"])),
            number_column("Highest possible", "value"),
        ),
        identifier="ceilings",
        title="Highest possible scores",
        caption="Averages over the test languages, in percent.",
        notes=(CEILING_NOTE,),
    )
    return Sheet(table_names.CEILINGS, report.ceilings, (table,))

"""The model card of an export: `README.md` with the metadata that the Hugging Face Hub reads.

    run.json, scores.csv, units.parquet of the run        what was trained, its scores, and their uncertainty
    scores.csv, runs.csv, differences.csv of the grid     how the other methods did on the same rows
    provenance.json of the grid                           titles, licences, what to cite

A card can be written before the grid is finished. It then has the run's own facts and says what is missing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from huggingface_hub import EvalResult, ModelCardData

from workflow_scripts.core.files import read_json, written
from workflow_scripts.core.languages import subtag
from workflow_scripts.core.names import source_languages
from workflow_scripts.core.places import ROOT
from workflow_scripts.evaluation.aggregate import final_runs
from workflow_scripts.evaluation.contributions import read_units
from workflow_scripts.evaluation.differences import AVERAGE
from workflow_scripts.evaluation.intervals import score_interval
from workflow_scripts.kinds import part
from workflow_scripts.publishing.export import Export
from workflow_scripts.reporting.inputs import read_differences, read_table
from workflow_scripts.reporting.tasks import Task, tasks_of
from workflow_scripts.reporting.verdicts import average_sentence
from workflow_scripts.reporting.wording import (
    NOTHING,
    Names,
    count_text,
    duration_text,
    interval_text,
    listed,
    name_methods,
    rate_text,
    score_text,
    spread_text,
)
from workflow_scripts.tuning.finished import FinishedRun

NAME = "README.md"
TEMPLATE = "card.md.j2"
ARM = ["method", "prompt_length"]


@dataclass(frozen=True)
class Grid:
    """The tables of a run's grid; empty ones if it is not finished."""

    scores: pd.DataFrame
    runs: pd.DataFrame
    differences: pd.DataFrame
    provenance: dict[str, Any]

    @classmethod
    def read(cls, results: Path) -> "Grid":
        """The tables in a results folder."""

        def table(name: str, read: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
            return read(results / name) if (results / name).is_file() else pd.DataFrame()

        return cls(
            scores=table("scores.csv", read_table),
            runs=table("runs.csv", read_table),
            differences=table("differences.csv", read_differences),
            provenance=read_json(results / "provenance.json") if (results / "provenance.json").is_file() else {},
        )


@dataclass(frozen=True)
class Card:
    """The facts of a card, each as the template shows it.

    Attributes:
        run, export: what the card describes.
        grid: the run's grid.
        licence: the licence of the weights as the Hub names it, such as `mit`; None if it is not known.
        note: how the model was chosen; may be empty.
    """

    run: FinishedRun
    export: Export
    grid: Grid
    licence: str | None = None
    note: str = ""

    @cached_property
    def task(self) -> Task:
        """The facts about the task."""
        return tasks_of(self.grid.provenance, [self.run.settings.task])[self.run.settings.task]

    @cached_property
    def names(self) -> Names:
        """Names of methods and languages."""
        methods = (self.grid.provenance.get("configuration") or {}).get("methods") or {}
        name_methods({name: one["title"] for name, one in methods.items() if one.get("title")})
        return Names(sources=(self.run.settings.source,))

    @property
    def method(self) -> str:
        """The arm's title."""
        return self.names.arm(self.run.settings.method, self.run.settings.prompt_length)

    @property
    def source(self) -> str:
        """The training languages in words."""
        return self.names.source(self.run.settings.source)

    @cached_property
    def encoder(self) -> dict[str, Any]:
        """The encoder's record."""
        record: dict[str, Any] = read_json(self.run.encoder / "encoder.json")
        return record

    @property
    def base(self) -> str:
        """The pretrained model's name: its repository, if it is one of the Hub's."""
        return str(
            self.encoder["source"].get("repository") or self.encoder["source"].get("package") or self.encoder["name"]
        )

    @property
    def title(self) -> str:
        """The card's heading."""
        return f"{self.base} tuned on {self.data}: {self.method}"

    @property
    def data(self) -> str:
        """The training data."""
        name = self.task.trains_on or self.task.title
        return f"generated rows in the form of {name}" if self.task.generated else name

    @property
    def summary(self) -> str:
        """What the model is, in two sentences."""
        languages = [code for code in self.own_scores["language"].unique() if code not in self.training_languages]
        tested = f" It was also tested in {self.names.languages(languages)}." if languages else ""
        tuned = f"`{self.base}` tuned on {self.data} in {self.source}.{tested}"
        return f"{tuned} {self.note}".strip()

    @property
    def training_languages(self) -> list[str]:
        """The languages that the model was trained on."""
        return source_languages(self.run.settings.source)

    @cached_property
    def own_scores(self) -> pd.DataFrame:
        """The run's scores: `language`, `metric`, `value`; empty if it was not scored."""
        file = self.run.folder / "scores.csv"
        return read_table(file) if file.is_file() else pd.DataFrame(columns=["language", "metric", "value"])

    @property
    def scores(self) -> Iterator[dict[str, Any]]:
        """A row for each language: every metric, the main one with its interval, and the number of test rows."""
        by_language = self.own_scores.pivot(index="language", columns="metric", values="value")
        units = read_units(self.run.folder / "units.parquet", self.task.main.name) if len(by_language) else {}
        for code in self.task.in_order(by_language.index):
            texts = [score_text(by_language.loc[code].get(metric.name)) for metric in self.task.metrics]
            if code in units:
                numerators, denominators = np.array(list(units[code].values())).T
                low, high = score_interval(numerators, denominators, self.task.main.low)
                texts[0] += f" ({interval_text(low, high)})"
            yield {"language": f"{self.names.language(code)} (`{code}`)", "texts": texts, "rows": self.test_rows(code)}

    def test_rows(self, code: str) -> str:
        """The number of rows of a test set."""
        found = [
            one["rows"]
            for one in self.grid.provenance.get("corpora") or []
            if (one["task"], one["language"], one["split"]) == (self.run.settings.task, code, "test")
        ]
        return count_text(found[0]) if found else NOTHING

    @property
    def scores_lead(self) -> str:
        """What the table of scores shows."""
        if self.own_scores.empty:
            return "The model has not been scored yet: run the workflow, then export it again."
        return (
            f"In percent, with 95 % intervals of {self.task.main.title} over the test rows. Another training, with"
            " another seed, would give another model; the intervals do not account for that."
        )

    @cached_property
    def rivals(self) -> pd.DataFrame:
        """The main scores of all arms with the same encoder, task and source."""
        if self.grid.scores.empty:
            return self.grid.scores
        scores = self.beside_it(self.grid.scores)
        return scores[scores["metric"] == self.task.main.name].dropna(subset="value")

    def beside_it(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows with the run's encoder, task and source."""
        keys = ("encoder", "task", "source")
        return table[np.logical_and.reduce([table[key] == getattr(self.run.settings, key) for key in keys])]

    @property
    def arms(self) -> Iterator[list[str]]:
        """A row for each arm: name, source score, mean of the other languages, seeds and costs."""
        if self.rivals.empty:
            return
        settings, runs = self.run.settings, final_runs(self.beside_it(self.grid.runs))
        for (method, length), models in self.rivals.groupby(ARM, sort=False):
            own = models["language"].isin(self.training_languages)
            means = [models[which].groupby("seed")["value"].mean() for which in (own, ~own)]
            texts = [f"{score_text(one.mean())} {spread_text(one.std())}".strip() for one in means]
            cost = runs[(runs["method"] == method) & (runs["prompt_length"] == length)]
            name = self.names.arm(method, length)
            is_this = (method, length) == (settings.method, settings.prompt_length)
            yield [
                f"**{name}** (this model's)" if is_this else name,
                *texts,
                str(models["seed"].nunique()),
                count_text(cost["tuned_parameters"].max()),
                duration_text(cost["seconds"].mean()),
            ]

    @property
    def arms_lead(self) -> str:
        """What the table of arms shows."""
        if self.rivals.empty:
            return "The grid is not finished: there are no other methods to compare with yet."
        seeds = self.rivals["seed"].nunique()
        spread = ", with the standard deviation over seeds" if seeds > 1 else ""
        return (
            f"{self.task.main.title[0].upper()}{self.task.main.title[1:]} of every method that was tuned from the same"
            f" model on the same rows: means{spread}. This model is the one of seed {self.run.settings.seed}."
        )

    @property
    def tested(self) -> list[str]:
        """The comparison of this model's method with the grid's baseline, if it was tested."""
        if self.grid.differences.empty:
            return []
        settings, rows = self.run.settings, self.beside_it(self.grid.differences)
        rows = rows[(rows["metric"] == self.task.main.name) & (rows["scope"] == AVERAGE)]
        own = (rows["method"] == settings.method) & (rows["prompt_length"] == settings.prompt_length)
        mine = rows[own | (rows["baseline"] == settings.method)]
        return [average_sentence(row) for row in mine.to_dict("records")]

    @property
    def training(self) -> Iterator[tuple[str, str]]:
        """How the model was tuned, and what it cost."""
        record, settings = self.run.record, self.run.settings
        yield (
            "Pretrained model",
            f"`{self.base}`" + (f" at {commit}" if (commit := self.encoder["source"].get("commit")) else ""),
        )
        yield "Data", f"{self.data}, {self.source}"
        rows = [
            one["rows"]
            for one in self.grid.provenance.get("corpora") or []
            if one["task"] == settings.task and one["split"] == "train" and one["language"] in self.training_languages
        ]
        if rows:
            yield "Training rows", count_text(sum(rows))
        yield "Method", self.method
        share = record["tuned_parameters"] / record["encoder_parameters"]
        yield "Tuned parameters", f"{record['tuned_parameters']:,} ({share:.2%} of the pretrained model)"
        yield "Learning rate", rate_text(record["learning_rate"])
        yield "Epochs", f"{record['epochs_taken']:g} of {record['epochs']:g}, weights kept by `{settings.keep}`"
        yield "Batch size", str(settings.batch_size)
        yield "Longest input", f"{settings.max_length} tokens"
        yield "Seed", str(settings.seed)
        yield "Time", f"{duration_text(record['seconds'])} on {record['device']}"
        yield "Memory", f"{record['peak_memory_mb']:,.0f} MB at most"

    @property
    def untested(self) -> Iterator[str]:
        """What a reader must not conclude from the scores."""
        languages = self.task.in_order(self.own_scores["language"].unique())
        if self.task.generated:
            yield "Any real text: the rows of this task were generated from templates, to try out the workflow."
        yield f"Other languages than {self.names.languages(languages)}." if languages else "Any language."
        yield f"Texts other than those of {self.task.title}: other domains, dialects, or a noisier way of writing."
        yield f"Texts of more than {self.run.settings.max_length} tokens, which are cut or split."
        yield "Bias, robustness against adversarial inputs, and any use in which an error harms people."

    @property
    def licences(self) -> Iterator[str]:
        """The licences of the data and of the pretrained model."""
        definition = self.task.definition
        data = definition.licence if definition else None
        yield f"{self.task.title}: {data or 'not recorded; see its publication'}."
        if definition and definition.commercial is False:
            yield "The licence of the training data does not permit commercial use."
        base = self.licence or "its licence was not recorded. It also applies to these weights"
        yield f"`{self.base}`: {base}."

    @property
    def citations(self) -> Iterator[str]:
        """What to cite."""
        definition = self.task.definition
        if definition and definition.citation:
            yield f"The dataset: {definition.citation}" + (f", {definition.url}" if definition.url else "")
        yield "The pretrained model: see its own card."
        yield "The workflow: crossprompt; `CITATION.cff` in its repository says how."
        yield "The comparison of methods that it repeats: Tu, Xiong and Zhou (2022), arXiv:2210.12360."

    @property
    def metadata(self) -> str:
        """The YAML header that the Hub reads, `model-index` included."""
        source, kind = self.encoder["source"], self.run.settings.kind
        hub_task = getattr(part(kind, "facts"), "HUB_TASK", None)
        data = self.run.corpus.get("repository")
        results = [
            EvalResult(
                task_type=hub_task or "other",
                dataset_type=data or self.run.settings.task,
                dataset_name=self.task.title,
                dataset_config=row["language"],
                dataset_split="test",
                metric_type=row["metric"],
                metric_name=self.task.metric(row["metric"]).title,
                metric_value=round(float(row["value"]), 2),
            )
            for row in self.own_scores.dropna(subset="value").to_dict("records")
        ]
        codes = [*self.training_languages, *self.own_scores["language"].unique()]
        values = ModelCardData(
            language=list(dict.fromkeys(map(subtag, codes))),
            license=self.licence,
            library_name={"transformers": "transformers", "peft": "peft"}.get(self.export.loads_with),
            pipeline_tag=hub_task,
            tags=["crossprompt", "cross-lingual-transfer", self.run.settings.method.replace("_", "-")],
            datasets=[data] if data else None,
            base_model=source.get("repository"),
            metrics=list(dict.fromkeys(self.own_scores["metric"])) or None,
            model_name=self.title if results else None,
            eval_results=results or None,
        )
        return f"---\n{values.to_yaml()}\n---\n"

    @property
    def how_to_read(self) -> str:
        """What the model's outputs mean."""
        temperature = self.run.record.get("temperature")
        labels = self.run.settings.labels
        parts = []
        if labels:
            parts.append(f"The outputs are, in this order: {listed([f'`{label}`' for label in labels])}.")
        if temperature:
            parts.append(
                f"Divide the logits by {temperature:.3g} before the softmax for calibrated probabilities (temperature"
                " scaling on the validation set of the training languages)."
            )
        parts.append("`crossprompt.json` says how texts were tokenised.")
        return " ".join(parts)


def cell(text: str) -> str:
    """A text that fits into a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", r"\|")


def write_card(run: FinishedRun, export: Export, licence: str | None = None, note: str = "") -> Path:
    """Write the card into an exported folder; return its path.

    Args:
        run: the run.
        export: the folder that holds its model.
        licence: of the weights, as the Hub names it.
        note: how the model was chosen.
    """
    card = Card(run, export, Grid.read(run.results), licence, note)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "report"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown; `cell` makes texts fit for a table
    )
    names = ("metadata", "title", "summary", "how_to_read", "scores_lead", "arms_lead", "source")
    lists: Sequence[str] = ("training", "scores", "arms", "tested", "untested", "licences", "citations")
    environment.filters["cell"] = cell
    text = environment.get_template(TEMPLATE).render(
        {name: getattr(card, name) for name in names}
        | {name: list(getattr(card, name)) for name in lists}
        | {"metrics": [metric.title for metric in card.task.metrics], "usage": export.usage()}
    )
    file = export.folder / NAME
    with written(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return file

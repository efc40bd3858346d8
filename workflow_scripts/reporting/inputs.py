"""The inputs of the page: reading and checking the tables and records of earlier steps."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import read_json
from workflow_scripts.core.names import in_other_codes
from workflow_scripts.evaluation.aggregate import check_runs, check_scores

MODEL = ["encoder", "task", "source", "method", "prompt_length"]
RUN = ["seed", "stage", "learning_rate", "searched"]
COLUMNS = {
    "differences": [
        *MODEL,
        "metric",
        "baseline",
        "scope",
        "difference",
        "low",
        "high",
        "p_interval",
        "p_permutation",
        "p_holm",
        "significant",
        "seeds",
        "units",
        "low_plain",
        "high_plain",
        "p_plain",
        "seed_std",
        "prior_std",
        "prior_freedom",
    ],
    "source_differences": [
        "encoder",
        "task",
        "method",
        "language",
        "source",
        "other",
        "difference",
        "low",
        "high",
        "significant",
    ],
    "encoder_differences": [
        *MODEL,
        "other_encoder",
        "other_method",
        "other_prompt_length",
        "chosen",
        "scope",
        "difference",
        "low",
        "high",
        "significant",
    ],
    "ranks": [
        "encoder",
        "source",
        "method",
        "prompt_length",
        "mean_rank",
        "low",
        "high",
        "first",
        "low_here",
        "high_here",
        "first_here",
        "arms",
        "tasks",
        "languages",
        "seeds",
    ],
    "distances": [
        "encoder",
        "task",
        "source",
        "language",
        "syntactic",
        "genetic",
        "other_script",
        "premium",
        "unknown",
    ],
    "explained": [*MODEL, "baseline", "measure", "correlation", "low", "high", "languages"],
    "shots": [*MODEL, "shots", "seed", "language", "metric", "value"],
    "calibration": [
        *MODEL,
        "seed",
        "temperature",
        "language",
        "answers",
        "error",
        "error_uncalibrated",
        "confidence",
        "confidence_uncalibrated",
        "accuracy",
    ],
    "curves": [*MODEL, *RUN, "step", "epoch", "quantity", "value", "kept"],
    "oracle": [*MODEL, "seed", "language", "metric", "kept", "best", "best_epoch"],
    "alignment": [*MODEL, "seed", "language", "measure", "value"],
    "projections": [*MODEL, "seed", "language", "id", "label", "x", "y"],
    "boundaries": [*MODEL, "seed", "language", "x_weight", "y_weight", "intercept"],
    "published": ["table", "task", "model", "method", "run", "language", "metric", "value", "std", "note", "half"],
}
TEXT = [
    "encoder",
    "task",
    "source",
    "method",
    "metric",
    "baseline",
    "scope",
    "language",
    "other",
    "other_encoder",
    "other_method",
    "measure",
    "id",
    "label",
    "model",
    "note",
]
OF_LANGUAGES = ("source", "language", "scope", "other")  # columns with languages or training sources
EXAMPLE = ("encoder", "task", "source", "language", "id", "inputs", "gold", "predictions", "right", "seed", "answers")
BENCHMARK = ("name", "source", "comparable_with_the_paper", "description")


def empty(name: str) -> pd.DataFrame:
    """An input table without rows."""
    return pd.DataFrame(columns=COLUMNS[name])


@dataclass(frozen=True)
class Inputs:
    """Everything that the page shows; a missing part is empty, and the page says so.

    Attributes:
        scores: the long score table (see `aggregate`).
        runs: one row for each training run (see `tables.read_runs`).
        provenance: `benchmark`, and further keys of `results/provenance.json`.
        differences: each method minus the baseline, by scope: a language, `average` or `gap`; percentage points.
        source_differences: for each language, one training source minus another, of the same method; percentage points.
        encoder_differences: one encoder minus another, by the same method or by the best one of each (`chosen`).
        ranks: the mean rank of each arm, the best first, by encoder and source (see `evaluation.ranks`).
        distances: measures of each target language (see `evaluation.explained`).
        explained: the rank correlation of these measures with the transfer gap, and with its difference from that of
            the baseline.
        shots: scores of the models that were tuned with a few rows of a target language, in this language.
        calibration: mean probability, accuracy and calibration error of each model by language, percent.
        curves: points of the training curves (see `evaluation.curves`), by run: of the search or of a seed (`stage`).
        oracle: the validation score in other languages, of the kept weights and of the best ones for each language.
        alignment: the measures of section 5, by model, seed and language; the untuned encoder's rows have no task.
        projections, boundaries: the points and lines of figure 2.
        samples: which texts the representations are of.
        examples: predictions of single rows, where the methods disagree.
        published: the paper's numbers (see `published.read_published`).
    """

    scores: pd.DataFrame
    runs: pd.DataFrame
    provenance: dict[str, Any]
    differences: pd.DataFrame = field(default_factory=lambda: empty("differences"))
    source_differences: pd.DataFrame = field(default_factory=lambda: empty("source_differences"))
    encoder_differences: pd.DataFrame = field(default_factory=lambda: empty("encoder_differences"))
    ranks: pd.DataFrame = field(default_factory=lambda: empty("ranks"))
    distances: pd.DataFrame = field(default_factory=lambda: empty("distances"))
    explained: pd.DataFrame = field(default_factory=lambda: empty("explained"))
    shots: pd.DataFrame = field(default_factory=lambda: empty("shots"))
    calibration: pd.DataFrame = field(default_factory=lambda: empty("calibration"))
    curves: pd.DataFrame = field(default_factory=lambda: empty("curves"))
    oracle: pd.DataFrame = field(default_factory=lambda: empty("oracle"))
    alignment: pd.DataFrame = field(default_factory=lambda: empty("alignment"))
    projections: pd.DataFrame = field(default_factory=lambda: empty("projections"))
    boundaries: pd.DataFrame = field(default_factory=lambda: empty("boundaries"))
    samples: dict[str, Any] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    published: pd.DataFrame = field(default_factory=lambda: empty("published"))

    @property
    def comparable_pairs(self) -> list[tuple[str, str]]:
        """The encoders and tasks whose scores are comparable with the paper's."""
        return [(encoder, task) for encoder, task in self.provenance["benchmark"].get("comparable_pairs", [])]

    def in_other_codes(self, codes: Mapping[str, str]) -> "Inputs":
        """The same tables, samples and examples with other codes for some languages; the provenance is as it was."""
        if not codes:
            return self
        changed: dict[str, Any] = {}
        for name, frame in ((one.name, getattr(self, one.name)) for one in fields(self)):
            if isinstance(frame, pd.DataFrame):
                columns = [column for column in OF_LANGUAGES if column in frame]
                changed[name] = frame.assign(
                    **{column: [in_other_codes(value, codes) for value in frame[column]] for column in columns}
                )
        changed["examples"] = [
            example | {key: in_other_codes(example[key], codes) for key in ("source", "language")}
            for example in self.examples
        ]
        listed = [codes.get(code, code) for code in self.samples.get("languages", ())]
        changed["samples"] = self.samples | ({"languages": listed} if listed else {})
        return replace(self, **changed)

    def check(self) -> None:
        """Raise a UserError that names the table and the column or key if an input cannot be shown."""
        check_runs(self.runs)
        check_scores(self.scores)
        absent = [key for key in BENCHMARK if key not in self.provenance.get("benchmark", {})]
        if absent:
            raise UserError(f"the provenance does not say what was run: add benchmark.{', benchmark.'.join(absent)}")
        for name, columns in COLUMNS.items():
            lacking = [column for column in columns if column not in getattr(self, name)]
            if lacking:
                raise UserError(f"the table of {name} lacks the columns {', '.join(lacking)}")
        for place, example in enumerate(self.examples):
            lacking = [key for key in EXAMPLE if key not in example]
            if lacking:
                raise UserError(
                    f"example {place} lacks {', '.join(lacking)}: delete the file and run the workflow again"
                )


def read_table(path: Path) -> pd.DataFrame:
    """Read one of the tables. Only an empty field is a missing value, not `na` or `null`. Raises UserError."""
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(TEXT, "str"), keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from error
    # An untuned encoder has no task, and a row may have no note.
    return table.fillna({column: "" for column in TEXT if column in table})


def read_curves(path: Path) -> pd.DataFrame:
    """Read the training curves. Raises UserError."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from error


def read_differences(path: Path) -> pd.DataFrame:
    """Read the differences; `significant` and `chosen` become true or false. Raises UserError."""
    table = read_table(path)
    for column in {"significant", "chosen"} & set(table.columns):
        table[column] = table[column].astype(str).str.lower() == "true"
    return table


def read_examples(path: Path) -> list[dict[str, Any]]:
    """Read the examples. Raises UserError that names the file if it has no list."""
    examples = read_json(path)
    if not isinstance(examples, list):
        raise UserError(f"{path} has no list of examples but {json.dumps(examples)[:40]}: delete it and run again")
    return examples

"""The section `arms` of the configuration: predictions that were made elsewhere, as arms of their own."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from workflow_scripts.core.section import (
    NUMERIC,
    Count,
    Distinct,
    InputPath,
    NonNegativeNumber,
    PositiveNumber,
    Section,
    Text,
    about,
)
from workflow_scripts.experiment.sections import TrainingSource

PLACEHOLDERS = ("task", "language", "seed")
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab", ".parquet")
DEFAULT_FILE, DEFAULT_FILE_OF_SEED = "{task}/{language}.jsonl", "{task}/{language}/{seed}.jsonl"
OutsideSeed = Annotated[int, Field(ge=1, lt=2**32), NUMERIC]  # 0 is for predictions without a seed


class ArmTask(Section):
    """The files of one task, where they differ from those of the arm's other tasks."""

    languages: Annotated[list[Text] | None, *Distinct, about(["en", "de"])] = None
    """The languages that have predictions. `null` is all test languages of the task."""

    file: Annotated[Text | None, about("samples_xnli_{language}_*.jsonl")] = None
    """The path of each file, instead of the arm's."""

    id: Annotated[Text | None, about("idx")] = None
    """The column with the id of a row, instead of the arm's."""

    values: Annotated[dict[str, Text] | None, about({"0": "contradiction"})] = None
    """Other spellings of answers, instead of the arm's."""


class ArmCost(Section):
    """What an arm cost, for the report's table and charts. Omit what you do not know."""

    tuned_parameters: Annotated[Count | None, about(1_000_000, unit="parameters")] = None
    """The trained parameters."""

    encoder_parameters: Annotated[Count | None, about(8_000_000_000, unit="parameters")] = None
    """All parameters of the model."""

    seconds: Annotated[NonNegativeNumber | None, about(3600, unit="seconds")] = None
    """The training time; for a prompted model, the time to answer."""

    examples_per_second: Annotated[PositiveNumber | None, about(12.5)] = None
    """The throughput."""

    peak_memory_mb: Annotated[PositiveNumber | None, about(80_000, unit="MB")] = None
    """The peak memory of the device."""

    stored_bytes: Annotated[NonNegativeNumber | None, about(4_000_000, unit="bytes")] = None
    """The bytes stored for each task."""


class OutsideArm(Section):
    """Predictions that were made elsewhere, such as by a prompted language model or another toolkit.

    They are checked against the test rows, and scored and tested like those of the grid's own models. See
    `docs/outside_predictions.md`.
    """

    predictions: Annotated[InputPath, about("my/llama")]
    """The folder with the predictions."""

    file: Annotated[Text | None, about("{task}/{language}.csv")] = None
    """The path of each file in this folder. `{task}`, `{language}` and `{seed}` are filled in, and `*` is any text.
    `null` is `{task}/{language}.jsonl`, or `{task}/{language}/{seed}.jsonl` for an arm with `seeds`."""

    format: Annotated[Literal["plain", "lm_eval"], about("lm_eval")] = "plain"
    """The format of a file: `plain` has a record for each row, as JSON lines, JSON, CSV, TSV or parquet by its suffix;
    `lm_eval` is a sample log of lm-evaluation-harness."""

    id: Annotated[Text, about("idx")] = "id"
    """The column with the id of a row; for `lm_eval` a key of the document, or `doc_id`. A dot accesses nested
    columns."""

    prediction: Annotated[Text, about("answer")] = "prediction"
    """The column with the prediction. `lm_eval` ignores this key."""

    filter: Annotated[Text | None, about("strict-match")] = None
    """The filter of lm-evaluation-harness whose answers to use, if a file has those of several."""

    values: Annotated[dict[str, Text], about({"yes": "entailment", "no": "contradiction"})] = {}
    """Other spellings of answers. If lm-evaluation-harness scored choices, the spelling is a choice's index, counted
    from 0."""

    unknown: Annotated[Literal["refuse", "wrong"], about("wrong")] = "refuse"
    """What to do with an answer that is not a label or choice: `refuse` the file, or count the answer as `wrong`. The
    report says how many there are."""

    seeds: Annotated[list[OutsideSeed] | None, *Distinct, about([13, 42])] = None
    """The seeds of the predictions, each with its own files. A seed is compared with the same seed of the grid. `null`:
    the predictions have no seed, and are compared with every seed of the grid."""

    trained_on: Annotated[TrainingSource | None, about("en")] = None
    """The training languages. The arm is then compared with methods tuned on the same ones, if there are any, and has a
    transfer gap. `null`: it was not trained on specific languages, and is compared with methods of every source."""

    title: Annotated[Text | None, about("Llama 3.1 8B, 5 examples")] = None
    """The arm's name in the report. `null` is made from its name."""

    tasks: Annotated[dict[str, ArmTask], about({"xnli": {"languages": ["en", "de"]}})] = {}
    """The tasks that have predictions. None listed: all tasks, in all of their languages."""

    cost: ArmCost = ArmCost()
    """What the arm cost."""

    @model_validator(mode="after")
    def _files_are_distinct(self) -> Self:
        """Each language and seed has its own file."""
        for key, pattern in self._patterns():
            found = re.findall(r"\{(\w*)\}", pattern)
            for name in found:
                if name not in PLACEHOLDERS:
                    listed = ", ".join(f"{{{other}}}" for other in PLACEHOLDERS)
                    raise ValueError(f"{key}: {{{name}}} is not a placeholder; use {listed}")
            if "language" not in found:
                raise ValueError(f"{key}: found {pattern!r}; it needs {{language}}: each language has its own file")
            if ("seed" in found) != (self.seeds is not None):
                wanted = "it needs {seed}" if self.seeds else "{seed} needs the key `seeds`"
                raise ValueError(f"{key}: found {pattern!r}; {wanted}")
            if self.format == "plain" and not pattern.removesuffix(".gz").endswith(SUFFIXES):
                raise ValueError(f"{key}: found {pattern!r}; it must end in one of {', '.join(SUFFIXES)}")
        return self

    def _patterns(self) -> list[tuple[str, str]]:
        own = [(f"tasks.{task}.file", section.file) for task, section in self.tasks.items()]
        return [(key, pattern) for key, pattern in [("file", self.file), *own] if pattern is not None]

    def file_of(self, task: str) -> str:
        """The path of a task's files in the folder, with placeholders."""
        section = self.tasks.get(task, ArmTask())
        return section.file or self.file or (DEFAULT_FILE_OF_SEED if self.seeds else DEFAULT_FILE)

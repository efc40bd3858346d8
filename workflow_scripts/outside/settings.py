"""The settings of the import of predictions."""

from typing import Literal

from workflow_scripts.core.settings import StepSettings


class ImportSettings(StepSettings):
    """The files of one task and seed.

    Attributes:
        arm, task: their names, for messages.
        kind, labels: the task's.
        languages: in the order of the test sets.
        files: of each language, a path in which `*` is any text.
        format: `plain`, or `lm_eval` for the sample logs of lm-evaluation-harness.
        id, prediction: the columns with the id of a row and with the prediction; `lm_eval` has no `prediction`.
        filter: the filter of the harness whose answers to take; None if the file has those of one filter.
        values: other spellings of answers, by spelling.
        unknown: whether to refuse an answer that is no label, or to count it as wrong.
    """

    arm: str
    task: str
    kind: str
    labels: list[str]
    languages: list[str]
    files: list[str]
    format: Literal["plain", "lm_eval"]
    id: str
    prediction: str
    filter: str | None = None
    values: dict[str, str] = {}
    unknown: Literal["refuse", "wrong"]

"""The settings that the parts of a kind get."""

from collections.abc import Sequence
from typing import Literal

from workflow_scripts.core.settings import Settings, StepSettings


class Words(Settings):
    """How a row is turned into text.

    Attributes:
        template: with the field `{answer}` and fields of the row.
        answers: the words of each label. A label without an entry is its own answer.
        new_tokens: the most tokens of a generated answer; None for kinds that do not generate.
    """

    template: str
    answers: dict[str, str]
    new_tokens: int | None = None


class TokeniseSettings(StepSettings):
    """The settings of `tokenise`.

    Attributes:
        task: the task's name, for messages.
        kind, labels: the task's.
        split: of the corpus.
        max_length: the most tokens of a feature.
        stride: the tokens that neighbouring windows share; None for kinds without the key.
        labelled_subword: the subword that predicts a word's tag; None for kinds without the key. `tokenise` replaces
            `auto` by what suits the model.
        words: for answers in words; else None.
        reads: what kind of model it is; `tokenise` replaces `auto` by it.
    """

    task: str
    kind: str
    labels: list[str]
    split: Literal["train", "validation", "test"]
    max_length: int
    stride: int | None = None
    labelled_subword: Literal["auto", "first", "first_visible", "last"] | None = None
    words: Words | None = None
    reads: Literal["auto", "encoder", "decoder", "encoder-decoder"] | None = None


class ScoringSettings(Settings):
    """What metrics depend on besides rows and predictions.

    Attributes:
        language: of the rows.
        labels: the task's.
        normalisation: how answers are normalised before they are compared; None for kinds without the key.
    """

    language: str
    labels: Sequence[str] = ()
    normalisation: str | None = None

"""What the parts of a kind define. Each protocol below describes one module of a kind's folder.

A row is a dictionary with the columns `id` (unique in its file), `group` and those of `Rows.FIELDS`. Rows of one group
are not independent of each other, such as the questions about one context: the statistics resample groups. A *feature*
is one input of the encoder; a row may give several.

`settings` are `TokeniseSettings` and `scoring` are `ScoringSettings`, both of `kinds/settings.py`. Nearly all steps
import this module, so it does not import that one: an edit of these classes would rerun all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

Row = dict[str, Any]
Columns = dict[str, list[Any]]
Counts = dict[str, int]
Sums = list[tuple[float, float]]  # numerator and denominator of each row
Fillers = dict[str, "int | OwnLength | None"]
IGNORED = -100  # a target that does not count; PyTorch's cross-entropy skips it by default

# The names that each part defines: a user's file has all of them.
PARTS = {
    "facts": (
        "METRICS",
        "INPUTS",
        "TASK_KEYS",
        "TRAINING_KEYS",
        "SCORING_KEYS",
        "NEEDS_LABELS",
        "BOUNDED",
        "ANALYSABLE",
    ),
    "rows": ("FIELDS", "from_record", "problem", "oddity", "group"),
    "model": ("LEVEL", "HEAD_DROPOUT", "TARGETS", "TOGETHER", "outputs", "tokenise", "loss", "counted", "decode"),
    "metrics": ("score", "baseline", "contributions"),
    "examples": ("ANSWERS", "differ", "goodness", "shown"),
}
# The names of the part that only kinds with `BOUNDED` have.
CEILING = {"ceiling": ("ceilings",)}
# The part that reads predictions which were made elsewhere. A user's kind may define its functions, or none.
PREDICTIONS: dict[str, tuple[str, ...]] = {"predictions": ()}


@dataclass(frozen=True)
class OwnLength:
    """The filler for a column whose lists have another length than the tokens."""

    filler: int


@dataclass(frozen=True)
class Metric:
    """A score.

    Attributes:
        name: the name in tables, such as `exact_match`.
        title: the name that readers know, such as `exact match`.
        note: how it relates to published numbers, in sentences; empty if it has only one definition.
        low: the lowest value, in percent; the highest is 100.
    """

    name: str
    title: str
    note: str = ""
    low: float = 0.0


class Facts(Protocol):
    """`facts.py`: what the configuration and the report need to know. It imports no large package.

    Attributes:
        METRICS: the scores, the main one first: it selects epochs and learning rates.
        INPUTS: the names of the texts of a row in the report; a task can override them.
        TASK_KEYS: the keys of a task in the configuration that only this kind reads.
        TRAINING_KEYS: the same for the keys of `training`.
        SCORING_KEYS: the keys of a task's description that its metrics read.
        NEEDS_LABELS: whether a task must name its labels.
        ANALYSABLE: whether the representation analysis can compare its texts: rows have `text`, `text_pair`, `label`.
        TEMPLATE: the fields of a template for answers in words; missing where the kind has none.
        GENERATES: whether answers in words are generated, not chosen; missing where they are not.
        BOUNDED: whether tokens limit the best possible score; the kind then has a module `ceiling`.
        HUB_TASK: how the Hugging Face Hub names such tasks (`pipeline_tag`); missing where it has no name.
    """

    METRICS: tuple[Metric, ...]
    INPUTS: tuple[str, ...]
    TASK_KEYS: tuple[str, ...]
    TRAINING_KEYS: tuple[str, ...]
    SCORING_KEYS: tuple[str, ...]
    TEMPLATE: tuple[str, ...]
    GENERATES: bool
    HUB_TASK: str
    NEEDS_LABELS: bool
    BOUNDED: bool
    ANALYSABLE: bool


class Rows(Protocol):
    """`rows.py`: the row schema.

    Attributes:
        FIELDS: the type of each column besides `id` and `group`.
    """

    FIELDS: Mapping[str, "pa.DataType"]

    # Optional: `check_labels(labels)` raises UserError for labels of a task that the kind cannot use, and
    # `labels_in(row)` returns the labels of a row, so that a training set with a single label is refused.
    # `placeholder(record, labels)` returns the gold columns that `from_record` needs, with any valid values, for texts
    # to predict; without it, a record to predict needs them itself.

    def from_record(self, record: Mapping[str, Any], where: str) -> Row:
        """The fields of a row, from the values that a source has in their place.

        `where` names the record for the reader. Raises UserError for values of another type.
        """

    def problem(self, row: Row, labels: Sequence[str]) -> str:
        """Why a task with these labels cannot use the row for training or scoring; empty for a valid row."""

    def oddity(self, row: Row) -> str:
        """What is unusual about a row that can still be used; empty for an ordinary row."""

    def group(self, row: Row) -> str:
        """The value shared by rows that are not independent of each other, such as their context."""


class Model(Protocol):
    """`model.py`: rows to model inputs, and logits to predictions.

    A kind whose answers can be words (`words.py`) has a module `words` with the same names.

    Attributes:
        LEVEL: whether the head reads one vector a text ("sequence") or one a token ("token"), or is the pretrained
            output layer ("words").
        HEAD_DROPOUT: whether dropout acts on what the head reads.
        TARGETS: the columns that the loss reads, with the filler of the ragged ones.
        READ: the columns that the model reads besides the tokenizer's; missing where there are none.
        TOGETHER: whether the loss compares the features of a row. They are then always in the same micro-batch, one
            after the other in their order in the token folder, and a batch of size 32 holds 32 rows, not 32 features.
    """

    LEVEL: str
    HEAD_DROPOUT: bool
    TARGETS: Fillers
    READ: Fillers
    TOGETHER: bool

    def outputs(self, labels: Sequence[str]) -> int:
        """How many numbers the head outputs for each vector."""

    def tokenise(self, rows: Sequence[Row], tokenizer: Any, settings: Any) -> tuple[Columns, Counts]:
        """The columns of a token folder, and how many unusual rows or words there are, by what was done.

        A column holds whole numbers, lists of whole numbers, or Python floats, which are stored as float32.
        """

    def loss(self, logits: "torch.Tensor", batch: dict[str, "torch.Tensor"]) -> "torch.Tensor":
        """The mean loss of a batch."""

    def counted(self, batch: dict[str, "torch.Tensor"]) -> int:
        """How many targets that mean is over."""

    def decode(
        self, logits: Sequence["np.ndarray"], tokens: Any, rows: Sequence[Row], labels: Sequence[str]
    ) -> dict[str, Any]:
        """The prediction of each row by its id, from the logits of each feature, or from its text (`Writer`)."""

    # Optional functions:
    #
    # `probabilities(logits, tokens, rows, labels, temperature)` returns, by row id, the probabilities that belong to
    # what `decode` returns, from the same logits divided by a temperature: a dictionary by label, a list (of the
    # choices in their order, or of each word's predicted tag), or that of the answer alone. A training then chooses the
    # temperature with the lowest `loss` on the validation set, which must be a negative log-likelihood.
    #
    # `places(logits, tokens, rows)` returns, by row id, where in the row's texts the prediction is: (column, first
    # character, the one after the last).

    # Only in a module `words` of a kind with `Facts.GENERATES`: `writer(folder)` returns the `Writer` for the tokenizer
    # in an encoder's folder. Its token folders have a column `prompt`, the number of tokens that the model continues.


class Writer(Protocol):
    """Turns generated tokens into text.

    Attributes:
        ends: the tokens that end a text.
    """

    ends: set[int]

    def ended(self, ids: Sequence[int]) -> bool:
        """Whether a text is complete after these tokens."""

    def text(self, ids: Sequence[int]) -> str:
        """The text of some tokens."""


class Metrics(Protocol):
    """`metrics.py`: the scores, in percent.

    Rows of several languages, on which a union of training sets is validated, name their own `language`.
    """

    def score(self, rows: Sequence[Row], predictions: Sequence[Any], scoring: Any) -> dict[str, float]:
        """The value of each metric in `Facts.METRICS`. Both sequences have the same length and are not empty."""

    def baseline(self, rows: Sequence[Row], scoring: Any) -> float:
        """The main metric of the best constant prediction, without reading the texts."""

    def contributions(self, rows: Sequence[Row], predictions: Sequence[Any], scoring: Any) -> dict[str, Sums]:
        """The data of intervals and tests: every metric is `100 * sum(numerators) / sum(denominators)`."""

    # Optional: `correct(rows, predictions, scoring)` returns, for each row, whether each of its answers is correct: a
    # list of one for a label or a text, of one for each word for tags. The calibration of probabilities needs it.


class Ceiling(Protocol):
    """`ceiling.py`: the best possible scores of a tokenizer. Only kinds with `BOUNDED` have it."""

    def ceilings(self, rows: Sequence[Row], tokens: Any, scoring: Any) -> dict[str, float]:
        """The highest value of each metric that predictions made of these tokens can have."""


class Predictions(Protocol):
    """`predictions.py`: predictions that were made elsewhere, in the form that `Model.decode` returns.

    A user's kind may leave either function out: predictions are then taken as they are, and choices are refused.
    """

    def prediction_of(self, value: Any, row: Row, labels: Sequence[str]) -> Any:
        """The prediction of a row, from a value in a file.

        Raises UserError, or its `NotAnAnswerError` for a value that is not a valid answer.
        """

    # Optional: `choice_of(place, choices, row, labels)` returns the prediction for the answer that a model chose among
    # the labels or choices: its place, counted from 0, and how many there were.


class Examples(Protocol):
    """`examples.py`: single predictions as readable texts.

    Attributes:
        ANSWERS: what gold and predictions are: names of `labels`, `text` in the row's language, or `words` of the row
            with their tags, joined by `, ` in the same order.
    """

    ANSWERS: Literal["labels", "text", "words"]

    def differ(self, predictions: Sequence[Any]) -> bool:
        """Whether the predictions of one row differ."""

    def goodness(self, row: Row, prediction: Any) -> float:
        """The score of one prediction, from 0 to 100."""

    def shown(self, row: Row, predictions: Mapping[str, Any]) -> tuple[list[str], list[str], dict[str, str]]:
        """The texts of the row, its gold texts, and the text of each arm's prediction."""

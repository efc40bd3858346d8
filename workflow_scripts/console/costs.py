"""How long a job takes on a machine of known speed, from operation counts.

A step that runs the encoder takes

    start + operations / speed + the rest

* operations: a forward pass takes 2 for each parameter outside the embeddings and token, and 4 x keys x width for
  each layer and token for attention. The backward pass takes as much again with respect to activations, and again with
  respect to weights. So fine-tuning takes 3 forward passes, and a method that leaves the encoder's matrices alone 2.
* speed: measured by `probe.py`.
* the rest: memory and Python limit everything but matrix products (dropout, normalisation, activations, the optimizer)
  and the start of a step. Constants were measured on one machine; for other machines they are scaled by the speed of
  Python there.

The number of rows and their mean length are keys of the task's file (`rows`, `length`). If it lacks them, they come
from token folders or corpora on this machine, or else they are guessed: a length from the task's other languages and
splits, if it states those. The estimate excludes downloads and cluster waiting times.
"""

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts.core.names import UNTUNED, parse_model, shots_of, source_languages
from workflow_scripts.corpora.description import Split
from workflow_scripts.experiment.configuration import BundledEncoder, Configuration, FolderEncoder
from workflow_scripts.experiment.grid import Arm, Grid, Paths, parse_arm
from workflow_scripts.experiment.sections import Training

ANALYSIS_MARGIN = 1.2  # of `analysis/samples.py`: this many more texts than samples get a vector


@dataclass(frozen=True)
class Size:
    """An encoder's layers and width, on which its arithmetic depends."""

    layers: int
    width: int

    def body(self) -> int:
        """The parameters outside the embeddings: four projections of attention, and two of 4 x width."""
        return self.layers * 12 * self.width**2

    def forward(self, tokens: float, length: float) -> float:
        """The operations of a forward pass of `tokens` tokens, each of which attends to `length` keys."""
        return tokens * (2 * self.body() + 4 * length * self.width * self.layers)


E5_SMALL = Size(12, 384)


@dataclass(frozen=True)
class Speed:
    """What a machine computes in a second.

    Attributes:
        operations: of matrix products, floating-point operations a second of one job while all jobs run.
        python: speed of Python code, relative to the machine that the constants were measured on.
        precision: the one that the operations were measured in.
        device: "cpu" or "cuda".
    """

    operations: float
    python: float
    precision: str
    device: str = "cpu"


@dataclass(frozen=True)
class Rows:
    """The rows of a corpus: how many, and their mean length in tokens."""

    count: float
    length: float

    @property
    def tokens(self) -> float:
        """The tokens of all rows."""
        return self.count * self.length


# For a corpus that neither its task's file nor a file on this machine describes. These are guesses: the size of
# SIB-200, and a pair of sentences.
GUESSED_ROWS = {"train": 700, "validation": 100, "test": 200}
GUESSED_LENGTH = 45.0

# Measured on one core of an AMD Zen 4 (28 November 2026) by training the bundled encoder on the mini benchmark: the
# remaining time after subtracting the matrix products at the probed speed. With these, five trainings (pairs, tagging,
# questions; both methods; both precisions) took 0.92 to 1.04 times their estimate.
STARTS = {  # seconds of a whole job without arithmetic, most of them imports; by rule
    "fetch_encoder": 7.5,
    "fetch_corpus": 0.8,
    "check_parallel": 0.5,
    "tokenise": 3.5,
    "search": 3.2,
    "select": 0.3,
    "train": 3.2,
    "train_and_drop": 3.2,
    "predict": 3.0,
    "represent": 2.7,
    "all": 0.0,
    "default": 1.2,
}
TOKEN_SECONDS = 0.15e-3  # a token's forward and backward pass, beside the matrix products
FORWARD_SHARE = 1 / 3  # of the above in a forward pass alone
STEP_SECONDS = 0.04  # a training step: batches, dropout masks, the optimizer
WEIGHT_SECONDS = 4.5e-9  # a step and tuned weight: gradient clipping and AdamW

# The share of the probed speed that a GPU reaches in training: 111 to 154 TFLOP/s of an H200's 600 with short texts.
GPU_SHARE = 0.2
GPU_STEP_SECONDS = 0.02

ENCODER_RULES = ("train", "train_and_drop", "search", "predict", "represent")


def uses_the_encoder(rule: str) -> bool:
    """Whether a rule's jobs compute with the encoder."""
    return rule in ENCODER_RULES


@dataclass(frozen=True)
class Work:
    """What a job does.

    Attributes:
        start: seconds until its step computes.
        operations: of matrix products.
        beside: seconds of the rest on a CPU, on the machine that the constants were measured on.
        steps: of training.
    """

    start: float
    operations: float = 0.0
    beside: float = 0.0
    steps: int = 0

    def seconds(self, speed: Speed) -> float:
        """The time of the job while as many jobs run as when the speed was measured."""
        start = self.start / speed.python
        if speed.device == "cuda":
            return start + self.operations / (GPU_SHARE * speed.operations) + self.steps * GPU_STEP_SECONDS
        return start + self.operations / speed.operations + self.beside / speed.python


def epochs_and_evaluations(training: Training, rows: Rows) -> tuple[float, int]:
    """How many epochs a training takes without early stopping, and how often it is evaluated."""
    steps_an_epoch = math.ceil(rows.count / training.batch_size)
    steps = min(steps_an_epoch * training.epochs, training.max_steps or math.inf)
    return steps / steps_an_epoch, math.ceil(steps / (training.evaluate_every or steps_an_epoch))


class Costs:
    """The work of every job of a configuration.

    Args:
        configuration: of the workflow.
        folder: the working folder, in which fetched encoders and corpora are found.

    Attributes:
        guessed: the tasks for which a size was guessed.
    """

    def __init__(self, configuration: Configuration, folder: Path = Path()) -> None:
        self.configuration = configuration
        self.grid = Grid(configuration)
        self.folder = folder
        self.sizes: dict[str, Size | None] = {}
        self.guessed: set[str] = set()
        self._corpora: dict[tuple[str, str, str], Rows] = {}

    def work(self, rule: str, wildcards: Mapping[str, str]) -> Work | None:
        """The work of a job; None where the encoder's size is not known."""
        start = STARTS.get(rule, STARTS["default"])
        if not uses_the_encoder(rule):
            return Work(start)
        size = self.size(wildcards["encoder"])
        if size is None:
            return None
        if rule == "represent":
            return self._representation(size, wildcards, start)
        arm = parse_arm(*(wildcards[name] for name in ("encoder", "task", "source", "arm")))
        if rule == "predict":
            languages = self.grid.group(arm.task, wildcards["languages"])
            return self._forward(size, [self.rows(arm.task, language, "test") for language in languages], arm, start)
        if rule == "search":
            passes = self.grid.search_group(arm, wildcards["group"])
            return self._training(size, arm, self.grid.trainings_of_search(passes), start)
        if self._was_searched(arm, wildcards["seed"]):
            return Work(STARTS["default"])  # the search's winner is linked
        return self._training(size, arm, 1, start)

    def trainings(self, rule: str, wildcards: Mapping[str, str]) -> int:
        """The models that a job trains: one for each candidate of a search; none for a seed that was searched."""
        if rule not in ("search", "train", "train_and_drop"):
            return 0
        arm = parse_arm(*(wildcards[name] for name in ("encoder", "task", "source", "arm")))
        if rule == "search":
            return sum(map(len, self.grid.search_group(arm, wildcards["group"])))
        return 0 if self._was_searched(arm, wildcards["seed"]) else 1

    def size(self, encoder: str) -> Size | None:
        """The size of an encoder; None for one that is not on this machine yet."""
        if encoder not in self.sizes:
            self.sizes[encoder] = self._find_size(encoder)
        return self.sizes[encoder]

    def _find_size(self, encoder: str) -> Size | None:
        source = self.configuration.encoders[encoder]
        if isinstance(source, BundledEncoder):
            return Size(source.layers or E5_SMALL.layers, E5_SMALL.width)
        fetched = self.folder / Paths.of(self.configuration).encoder(encoder)
        with contextlib.suppress(OSError, ValueError, KeyError):
            record = json.loads(fetched.read_text(encoding="utf-8"))
            return Size(record["layers"], record["hidden_size"])
        if isinstance(source, FolderEncoder):
            with contextlib.suppress(OSError, ValueError, KeyError):
                config = json.loads((Path(source.path) / "config.json").read_text(encoding="utf-8"))
                return Size(source.layers or config["num_hidden_layers"], config["hidden_size"])
        return None

    def rows(self, task: str, language: str, split: Split) -> Rows:
        """A corpus, as the configuration limits it."""
        corpus = task, language, split
        if corpus not in self._corpora:
            self._corpora[corpus] = self._find_rows(task, language, split)
        return self._corpora[corpus]

    def _find_rows(self, task: str, language: str, split: Split) -> Rows:
        configuration = self.configuration
        limit = configuration.limit_of(task, configuration.split_read(task, split))
        count, length = configuration.size_of(task, language, split)
        if count is None or length is None:
            found_count, found_length = self._files_on_this_machine(task, language, split)
            count, length = count or found_count, length or found_length
        if length is None or (count is None and limit is None):
            self.guessed.add(task)
        count = count or limit or GUESSED_ROWS[split]
        longest = configuration.longest_row(task)
        length = length or configuration.other_length(task, split) or GUESSED_LENGTH
        return Rows(min(count, limit or count), min(length, longest or length))

    def _files_on_this_machine(self, task: str, language: str, split: Split) -> tuple[float | None, float | None]:
        """Rows and mean length of a corpus by its tokens of any encoder, or its rows alone; None if it is not there."""
        paths = Paths.of(self.configuration)
        for encoder in self.configuration.encoders:
            with contextlib.suppress(OSError, ValueError, KeyError, ZeroDivisionError):
                record = json.loads((self.folder / paths.tokens(encoder, task, language, split)).read_text("utf-8"))
                return record["rows"], record["tokens"] / record["rows"]
        file = self.folder / paths.corpus(task, language, split)
        if file.is_file():
            import pyarrow.parquet

            with contextlib.suppress(OSError, pyarrow.ArrowException):
                return pyarrow.parquet.read_metadata(file).num_rows, None
        return None, None

    def training_rows(self, arm: Arm, split: Split = "train") -> Rows:
        """The training or the validation set of an arm, in all its training languages."""
        parts = [self.rows(arm.task, language, split) for language in source_languages(arm.source)]
        if split == "train" and self.configuration.union == "balanced":
            smallest = min(part.count for part in parts)
            parts = [Rows(smallest, part.length) for part in parts]
        shots = shots_of(arm.source)
        if shots and split == "train":
            parts.append(Rows(shots[0], self.rows(arm.task, shots[1], "train").length))
        count = sum(part.count for part in parts)
        return Rows(count, sum(part.tokens for part in parts) / count)

    def _was_searched(self, arm: Arm, seed: str) -> bool:
        return self.grid.is_searched(arm) and int(seed) == self.configuration.search.seed

    def _forward(self, size: Size, corpora: Sequence[Rows], arm: Arm | None, start: float, times: float = 1) -> Work:
        prompts = arm.prompt_length if arm else 0
        operations = sum(size.forward(rows.tokens, rows.length + prompts) for rows in corpora)
        tokens = sum(rows.tokens for rows in corpora)
        return Work(start, times * operations, times * tokens * TOKEN_SECONDS * FORWARD_SHARE)

    def _training(self, size: Size, arm: Arm, models: float, start: float) -> Work:
        """Training and the evaluations on the validation set; early stopping may make it shorter."""
        training = self.configuration.training_of(arm.task, arm.method)
        rows, validation = self.training_rows(arm), self.training_rows(arm, "validation")
        # Nothing is known about the user's own methods: they count as fine-tuning.
        own = self.configuration.methods[arm.method].module is not None
        tunes_all = own or self.configuration.method(arm.method).stores_encoder
        passes = 3 if tunes_all else 2
        epochs, evaluations = epochs_and_evaluations(training, rows)
        tokens = models * epochs * rows.tokens
        steps = math.ceil(models * epochs * rows.count / training.batch_size)
        step = STEP_SECONDS + (size.body() * WEIGHT_SECONDS if tunes_all else 0)
        checked = self._forward(size, [validation], arm, 0, models * evaluations)
        return Work(
            start,
            operations=passes * size.forward(tokens, rows.length + arm.prompt_length) + checked.operations,
            beside=tokens * TOKEN_SECONDS + steps * step + checked.beside,
            steps=steps,
        )

    def _representation(self, size: Size, wildcards: Mapping[str, str], start: float) -> Work | None:
        analysed = self.grid.analysed_task()
        if analysed is None:
            return None
        arm = None
        if wildcards["model"] != UNTUNED:
            task, source, name, _ = parse_model(wildcards["model"])
            arm = parse_arm(wildcards["encoder"], task, source, name)
        most = ANALYSIS_MARGIN * self.configuration.analysis.samples
        languages = self.grid.group(analysed, wildcards["languages"])
        corpora = [self.rows(analysed, language, "test") for language in languages]
        return self._forward(size, [Rows(min(rows.count, most), rows.length) for rows in corpora], arm, start)

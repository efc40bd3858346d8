"""The settings of a training."""

from collections.abc import Sequence
from typing import Any, Literal

from workflow_scripts.core.names import Values
from workflow_scripts.core.settings import Settings, StepSettings
from workflow_scripts.kinds.settings import ScoringSettings


class TrainingSettings(StepSettings):
    """The settings of `train` and `search`: the merged settings of one training, without its learning rate.

    `experiment.sections.Training` describes the keys that the user sets. Keys of other methods, of other kinds of task
    and of other schedules are None.

    Attributes:
        encoder, task, method: their names.
        kind, labels, normalisation: the task's.
        source: the training languages, such as `en` or `en+de`, and the added rows, such as `en+16de`.
        shots: the number of added rows of a target language.
        union: how several training sets are joined.
        prompt_length: 0 for methods without prompts.
        max_length: the most tokens of a feature.
        micro_batch_size: not from the workflow, which passes it in an environment variable.
        module: the file of a user's own method.
        oracle: the other languages on whose validation sets every evaluation is scored.
        new_tokens: the most tokens of a generated answer; None where none is generated.
        peft: `peft_type` and the keys of PEFT's configuration class, of a method that PEFT implements.
    """

    encoder: str
    task: str
    kind: str
    labels: list[str]
    normalisation: str | None = None
    source: str
    shots: int | None = None
    union: str | None = None
    method: str
    module: str | None = None
    peft: dict[str, Any] | None = None
    prompt_length: int
    seed: int
    max_length: int
    epochs: int
    batch_size: int
    micro_batch_size: int | None = None
    schedule: Literal["linear", "exponential", "constant"]
    decay: float | None = None
    warmup: float
    weight_decay: float
    gradient_clipping: float
    dropout: float
    max_steps: int | None = None
    evaluate_every: int | None = None
    patience: int | None = None
    keep: Literal["best_metric", "best_loss", "last", "average", "average_best"]
    averaged: int = 1
    precision: Literal["auto", "bfloat16", "float32"]
    quantise: Literal["nf4", "int8"] | None
    compile: bool
    gradient_checkpointing: bool
    attention: Literal["pretrained", "bidirectional"]
    answers: Literal["head", "words"]
    new_tokens: int | None = None
    oracle: Sequence[str] = ()
    sentence_vector: Literal["pooler", "first_token", "mean"] | None = None
    prompt_std: float | None = None
    prompt_depth: int | None = None
    prompt_projection: int | None = None
    lora_rank: int | None = None
    lora_alpha: float | None = None
    lora_dropout: float | None = None
    lora_targets: list[str] | None = None
    adapter_placement: Literal["houlsby", "pfeiffer", "parallel"] | None = None
    adapter_width: int | None = None

    def scoring(self, language: str) -> ScoringSettings:
        """What the task's metrics depend on, for rows in a language."""
        return ScoringSettings(language=language, labels=self.labels, normalisation=self.normalisation)


class Halving(Settings):
    """How candidates are dropped from a search early.

    Attributes:
        factor: after each rung, of n candidates ceil(n / factor) remain.
        rungs: shares of the steps, ascending.
    """

    factor: int
    rungs: list[float]


class SearchSettings(TrainingSettings):
    """The settings of `search`.

    Attributes:
        passes: the candidates, in the groups that share a frozen encoder's forward and backward passes.
        halving: how candidates leave the search early; None trains all to the end.
    """

    passes: list[list[Values]]
    halving: Halving | None = None

    def training(self) -> TrainingSettings:
        """The settings of a candidate's training, without what the candidates vary."""
        own = {name: getattr(self, name) for name in self.model_fields_set - {"passes", "halving"}}
        return TrainingSettings(**own)

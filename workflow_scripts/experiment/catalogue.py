"""The tuning methods that the workflow knows.

The steps that tokenise, train, predict, score and analyse do not import this module: their settings hold what they
need. So a new entry reruns none of their jobs. The steps that summarise the grid (`collect`, `compare`, `exemplify`,
`render`) do import it, and run again after an edit.

To add a method, add an entry to `METHODS` and the module `tuning/methods/NAME.py`; or name a Python file of yours in
the configuration (`methods.NAME.module`) and edit nothing here. Tasks are in `tasks/`, kinds of task in `kinds/`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One way of tuning.

    Attributes:
        name: the name in configurations, paths and tables; `tuning/methods/NAME.py` holds what it does.
        title: the name that readers know.
        has_prompts: whether it is run at a prompt length.
        freezes: whether it leaves the encoder as it is, so that candidates of a search can share it.
        trains_encoder: whether it trains weights of the checkpoint itself, which then cannot be quantised.
        stores_encoder: whether its weights are as large as the encoder, so that `keep_weights: false` drops them.
        keys: the keys of `training` that belong to it; other methods are run without those, whatever they are set to.
    """

    name: str
    title: str
    has_prompts: bool = False
    freezes: bool = False
    trains_encoder: bool = False
    stores_encoder: bool = False
    keys: tuple[str, ...] = ()


METHODS = {
    method.name: method
    for method in (
        Method("fine_tuning", "Fine-tuning", trains_encoder=True, stores_encoder=True),
        Method(
            "prompt_tuning",
            "Prompt tuning",
            has_prompts=True,
            freezes=True,
            keys=("prompt_lengths", "prompt_std", "prompt_depth", "prompt_projection"),
        ),
        Method("input_prompt_tuning", "Input prompt tuning", has_prompts=True, freezes=True, keys=("prompt_lengths",)),
        Method("linear_probe", "Linear probe", freezes=True),
        Method("bitfit", "BitFit", trains_encoder=True),
        Method("lora", "LoRA", keys=("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")),
    )
}

# The keys of `training` that belong to some methods and not to all.
METHOD_KEYS = {key for method in METHODS.values() for key in method.keys}

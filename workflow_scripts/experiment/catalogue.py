"""The tuning methods that the workflow knows.

The steps that tokenise, train, predict, score and analyse do not import this module: their settings hold what they
need. So a new entry reruns none of their jobs. The steps that summarise the grid (`collect`, `compare`, `exemplify`,
`explain`, `render`) do import it, and rerun after an edit.

To add a method, add an entry to `METHODS` and the module `tuning/methods/NAME.py`; or name a Python file of yours in
the configuration (`methods.NAME.module`) and edit nothing here. Tasks are in `tasks/`, kinds of task in `kinds/`.
"""

from dataclasses import dataclass

# Learning rates of methods without their own: those of a user's file, and types of PEFT that are not listed below.
OTHER_RATES = (1e-3, 1e-4, 1e-2)


@dataclass(frozen=True)
class Method:
    """One way of tuning.

    Attributes:
        name: the name in configurations, paths and tables; `tuning/methods/NAME.py` holds what it does.
        title: the name that readers know.
        has_prompts: whether it is run at a prompt length.
        freezes: whether it leaves the encoder unchanged, so that candidates of a search can share it.
        trains: whether it trains anything.
        trains_encoder: whether it trains weights of the checkpoint itself, which then cannot be quantised.
        stores_encoder: whether its weights are as large as the encoder, so that `keep_weights: false` drops them.
        keys: the keys of `training` that belong to it; other methods ignore them.
        rates: the usual learning rate, then further candidates for a search.
        origin: where the rates are from.
    """

    name: str
    title: str
    has_prompts: bool = False
    freezes: bool = False
    trains: bool = True
    trains_encoder: bool = False
    stores_encoder: bool = False
    keys: tuple[str, ...] = ()
    rates: tuple[float, ...] = OTHER_RATES
    origin: str = "ours"


METHODS = {
    method.name: method
    for method in (
        Method(
            "fine_tuning",
            "Fine-tuning",
            trains_encoder=True,
            stores_encoder=True,
            rates=(2e-5, 3e-5, 5e-5),
            origin="Devlin et al. 2019, appendix A.3",
        ),
        Method(
            "prompt_tuning",
            "Prompt tuning",
            has_prompts=True,
            freezes=True,
            keys=("prompt_lengths", "prompt_std", "prompt_depth", "prompt_projection"),
            rates=(5e-3, 1e-2, 1e-3),
            origin="the scripts of Tu et al. 2022",
        ),
        Method(
            "input_prompt_tuning",
            "Input prompt tuning",
            has_prompts=True,
            freezes=True,
            keys=("prompt_lengths",),
            rates=(3e-2, 1e-2, 3e-1),
            origin="ours; 3e-1 is from Lester et al. 2021, with Adafactor",
        ),
        Method("linear_probe", "Linear probe", freezes=True, rates=(1e-3, 1e-2, 3e-3)),
        Method(
            "bitfit",
            "BitFit",
            trains_encoder=True,
            rates=(1e-3, 4e-4, 1e-4),
            origin="1e-3 is the default of the code of Ben Zaken et al. 2022; the others are ours",
        ),
        Method(
            "lora",
            "LoRA",
            keys=("lora_rank", "lora_alpha", "lora_dropout", "lora_targets"),
            rates=(5e-4, 2e-4, 1e-3),
            origin="the scripts of Hu et al. 2022 for RoBERTa-base on MNLI (5e-4) and GPT-2 (2e-4); 1e-3 is ours",
        ),
        Method(
            "adapter",
            "Adapter tuning",
            keys=("adapter_placement", "adapter_width"),
            rates=(3e-4, 3e-5, 3e-3),
            origin="Houlsby et al. 2019, section 3.2",
        ),
        Method(
            "llama_adapter",
            "LLaMA-Adapter",
            has_prompts=True,
            freezes=True,
            keys=("prompt_lengths", "prompt_depth"),
            rates=(9e-3, 3e-3, 1e-3),
            origin="Zhang et al. 2023: 9e-3, which their code scales to 1e-3 for a batch of 32; 3e-3 is ours",
        ),
        Method("prefix_plus", "Prefix-Tuning+", freezes=True, rates=(3e-3, 1e-3, 1e-2)),
        Method("none", "Prompting without tuning", trains=False, freezes=True, rates=(0.0,), origin="not used"),
    )
}

# Rates of types of PEFT, as `Method.rates` and `Method.origin`. Other types have `OTHER_RATES`.
PEFT_RATES: dict[str, tuple[tuple[float, ...], str]] = {
    **dict.fromkeys(("LORA", "RSLORA", "DORA"), (METHODS["lora"].rates, "as `lora`")),
    "ADALORA": ((1e-3, 5e-4, 1e-4), "5e-4 is from the script of AdaLoRA's authors for MNLI; the others are ours"),
    "IA3": ((3e-3, 1e-3, 1e-2), "3e-3 is from Liu et al. 2022, with Adafactor; the others are ours"),
    "VERA": ((4e-3, 1e-2, 1e-3), "ours; PEFT's example for RoBERTa has 2e-2"),
    "PVERA": ((4e-3, 1e-2, 1e-3), "as `VERA`"),
}

# The keys of `training` that belong to some methods and not to all.
METHOD_KEYS = {key for method in METHODS.values() for key in method.keys}

"""Tuned parameters as an adapter folder of PEFT."""

import copy
import logging
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.publishing.stock import StockModel
from workflow_scripts.tuning.acceleration.lean import without_compiler
from workflow_scripts.tuning.model import TunedModel

with without_compiler():
    from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

logger = logging.getLogger(__name__)

TASK_TYPES = {
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
    "AutoModelForQuestionAnswering": "QUESTION_ANS",
    "AutoModel": "FEATURE_EXTRACTION",
}


def with_adapters(stock: StockModel, tuned: TunedModel, seed: int, typed: bool, merging: bool = False) -> Any:
    """Return PEFT's model of a stock one with the adapters that a method has inserted in our encoder.

    None if PEFT would adapt other modules of the stock model, or if tensors are left over.

    Args:
        stock: the library's model.
        tuned: the run's.
        seed: of the run; some types of PEFT draw frozen tensors.
        typed: whether to name the type of task. PEFT's model for question answering, including that of LoRA, drops the
            token types; its model without a type of task does not.
        merging: whether the adapters are to be merged: the head is then left to the stock model.
    """
    configuration = copy.deepcopy(tuned.encoder.peft_config["default"])
    # For a type of task, PEFT also wraps the head, which some types of adapters then try to merge.
    configuration.task_type = TASK_TYPES[stock.auto] if typed and not merging else None
    configuration.modules_to_save = None if merging else list(stock.head) or None
    adapted = {
        stock.named(name) for name, module in tuned.encoder.named_modules() if isinstance(module, BaseTunerLayer)
    }
    short = configuration.target_modules
    # By their full names if the short ones would also adapt a part of the head, or miss the encoder's prefix.
    targets = short if isinstance(short, set) and _targeted(stock.model, short) == adapted else adapted
    configuration.target_modules = targets
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_peft_model(stock.model, configuration).eval()
    prefix = f"base_model.model.{stock.path}." if stock.path else "base_model.model."
    state = {prefix + name: tensor for name, tensor in tuned.encoder.state_dict().items()}
    theirs = {name for name in model.state_dict() if name.startswith(prefix)}
    pooler = f"{prefix}pooler."  # `stock_model` has placed one that counts
    left = {name for name in state.keys() - theirs if not name.startswith(pooler) or "base_layer" in name}
    absent = {name for name in theirs - state.keys() if not name.startswith(pooler)}
    if left or absent:
        return None
    model.load_state_dict(state, strict=False)
    return model


def _targeted(model: Any, names: set[str]) -> set[str]:
    """The modules that PEFT would adapt by the last parts of their names."""
    return {name for name, _ in model.named_modules() if any(name == one or name.endswith(f".{one}") for one in names)}


def with_prefix(stock: StockModel, tuned: TunedModel) -> Any:
    """Return PEFT's prefix tuning of a stock model with the prompts of our layers; None if the shapes differ."""
    vectors = tuned.prompts.vectors  # (layers, 2, key heads, length, head size)
    if len(vectors) != stock.model.config.num_hidden_layers:
        return None
    stored = vectors.permute(3, 0, 1, 2, 4).reshape(vectors.shape[3], -1)
    return _with_embedding(PrefixTuningConfig, stock, stored)


def with_input_prompts(stock: StockModel, tuned: TunedModel) -> Any:
    """Return PEFT's prompt tuning of a stock model with our prompts at the input; None if the shapes differ."""
    return _with_embedding(PromptTuningConfig, stock, tuned.prompts.vectors)


def _with_embedding(kind: Any, stock: StockModel, stored: torch.Tensor) -> Any:
    """PEFT's model whose prompts are the rows of one embedding."""
    configuration = kind(
        task_type=TASK_TYPES[stock.auto], num_virtual_tokens=len(stored), modules_to_save=list(stock.head)
    )
    try:
        model = get_peft_model(stock.model, configuration).eval()
    except (ValueError, TypeError, AttributeError, KeyError) as error:  # PEFT's checks differ by architecture
        logger.info("PEFT has no prompts for this architecture: %s", error)
        return None
    embedding = model.prompt_encoder["default"].embedding
    if embedding.weight.shape != stored.shape:
        return None
    with torch.no_grad():
        embedding.weight.copy_(stored)
    return model


def save(model: Any, folder: Path, base: dict[str, Any] | None) -> None:
    """Write adapter_config.json and adapter_model.safetensors.

    base: the `repository` and `commit` of the encoder in the Hugging Face Hub; None if it is beside the adapter.
    """
    configuration = model.peft_config["default"]
    configuration.base_model_name_or_path = base["repository"] if base else "base"
    configuration.revision = base["commit"] if base else None
    if configuration.modules_to_save is not None:
        configuration.modules_to_save = list(dict.fromkeys(configuration.modules_to_save))  # PEFT adds its own
    # By default PEFT asks the Hub for the base's configuration, to see whether its embeddings were changed.
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's own, of placeholders


def merge(model: Any) -> bool:
    """Merge the adapters into the matrices of the library's model, in place; return whether the type of PEFT can."""
    try:
        model.merge_and_unload()
    except (AttributeError, NotImplementedError, ValueError) as error:
        logger.info("PEFT cannot merge: %s", error)
        return False
    return True

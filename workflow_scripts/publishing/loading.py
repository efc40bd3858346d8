"""Loading an exported folder with the user's own libraries."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from workflow_scripts.publishing.stock import silent

Logits = Callable[[dict[str, torch.Tensor]], torch.Tensor]


def usage(facts: dict[str, Any], folder: str) -> str:
    """Return the lines of Python that load an export as `model` and `tokenizer`.

    Args:
        facts: the content of `crossprompt.json`.
        folder: the folder as the reader should name it.
    """
    auto, name = facts["class"], repr(folder)
    tokenizer = f"tokenizer = AutoTokenizer.from_pretrained({name})"
    match facts["loads_with"]:
        case "transformers":
            return "\n".join(
                (
                    f"from transformers import {auto}, AutoTokenizer",
                    f"model = {auto}.from_pretrained({name}).eval()",
                    tokenizer,
                )
            )
        case "peft":
            base = repr(f"{folder}/base") if facts["base"] is None else repr(facts["base"]["repository"])
            options = dict(facts["base_options"])
            if facts["base"]:
                options = {"revision": facts["base"]["commit"], **options}
            given = "".join(f", {key}={value!r}" for key, value in options.items())
            return "\n".join(
                (
                    "from peft import PeftModel",
                    f"from transformers import {auto}, AutoTokenizer",
                    f"base = {auto}.from_pretrained({base}{given})",
                    f"model = PeftModel.from_pretrained(base, {name}).eval()",
                    tokenizer,
                )
            )
        case _:
            return "\n".join(("import runpy", f'model, tokenizer = runpy.run_path({f"{folder}/load.py"!r})["load"]()'))


def load(folder: Path, facts: dict[str, Any], base: Path | None = None) -> Any:
    """Load an export's model as `usage` does.

    base: the folder of the encoder, instead of the Hub's copy; None for the one in the export.
    """
    import transformers

    with silent():
        match facts["loads_with"]:
            case "transformers":
                return getattr(transformers, facts["class"]).from_pretrained(folder).eval()
            case "peft":
                from peft import PeftModel

                auto = getattr(transformers, facts["class"])
                pretrained = auto.from_pretrained(base or folder / "base", **facts["base_options"])
                return PeftModel.from_pretrained(pretrained, folder).eval()
            case _:
                model, _ = runpy.run_path(str(folder / "load.py"))["load"](*([base] if base else []))
                return model


def logits_of(model: Any, facts: dict[str, Any]) -> Logits:
    """Return what maps a tokenizer's batch to logits: (batch, outputs), or (batch, tokens, outputs) for each token."""

    def logits(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        output = model(**batch)
        if torch.is_tensor(output):
            return output
        if "start_logits" in output:
            values = torch.stack((output.start_logits, output.end_logits), dim=-1)
        else:
            values = output.logits
        return values[:, facts.get("prompt_positions", 0) :]

    return logits

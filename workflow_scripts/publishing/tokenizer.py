"""The tokenizer of an export: from it, the library's Auto class makes the tokens that the model was tuned on."""

from pathlib import Path
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.kinds.tokenizer import load_tokenizer
from workflow_scripts.publishing.equality import TEXTS
from workflow_scripts.tuning.backbone.layers import takes
from workflow_scripts.tuning.finished import FinishedRun


def save_tokenizer(run: FinishedRun, encoder: Any, folder: Path) -> Any:
    """Write the tokenizer of a run as this project sets it up; return it as `AutoTokenizer` loads it.

    encoder: the run's, which says which inputs it takes.

    It pads on the right, and `truncation=True` cuts to the run's `max_length`. Raises UserError if the library makes
    other tokens.
    """
    from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

    ours = load_tokenizer(run.encoder)
    special = {name: token for name, token in ours.special_tokens_map.items() if isinstance(token, str)}
    if "pad_token" not in special:
        padding = AutoConfig.from_pretrained(run.encoder).pad_token_id
        special["pad_token"] = ours.convert_ids_to_tokens(max(0, padding or 0))
    # The general class, which takes everything from tokenizer.json: other classes build parts of it again.
    general = PreTrainedTokenizerFast(
        tokenizer_object=ours.backend_tokenizer,
        model_max_length=run.settings.max_length,
        model_input_names=[name for name in ours.model_input_names if name == "input_ids" or takes(encoder, name)],
        padding_side="right",
        truncation_side="right",
        split_special_tokens=True,
        **special,
    )
    general.save_pretrained(folder)
    loaded = AutoTokenizer.from_pretrained(folder)
    loaded.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    for text in (*TEXTS, " ".join(special.values())):
        for pair in (None, TEXTS[0]):
            made, expected = loaded(text, pair), ours(text, pair)
            if any(made[name] != expected[name] for name in made):
                raise UserError(f"{run.encoder}: the library loads another tokenizer from what it saves of this one")
    return loaded

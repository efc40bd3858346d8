"""How texts become tokens for the model that reads them."""

from collections.abc import Mapping
from typing import Any

from workflow_scripts.core.errors import UserError
from workflow_scripts.kinds.settings import TokeniseSettings


def for_reader(settings: TokeniseSettings, encoder: Mapping[str, Any]) -> TokeniseSettings:
    """The settings with each `auto` replaced by what suits the model with this record (`encoder.json`).

    Raises UserError for answers in words if the checkpoint has no output layer.
    """
    if settings.labelled_subword == "auto":
        # A decoder has read the whole of a word only at its last subword.
        settings = settings.changed(labelled_subword="last" if encoder["kind"] == "decoder" else "first")
    if settings.words:
        if not encoder["output_layer"]:
            raise UserError(
                f"encoder {encoder['name']}: answers: words needs the pretrained output layer, which its checkpoint"
                " does not have: use a checkpoint of the whole language model, or set answers to head"
            )
        settings = settings.changed(reads=encoder["kind"])
    return settings

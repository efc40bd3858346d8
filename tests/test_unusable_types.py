"""Architectures that cannot work here are refused by name, before any weight is read."""

import shutil

import pytest
from tiny import SIZES
from transformers import CONFIG_MAPPING

from workflow_scripts.core.errors import UserError
from workflow_scripts.encoders.architecture import UNUSABLE
from workflow_scripts.encoders.checks import check_checkpoint
from workflow_scripts.tuning.backbone.loading import without_weights


@pytest.mark.parametrize("model_type", UNUSABLE)
def test_an_architecture_that_cannot_work_is_refused_by_name_without_its_weights(tiny_encoder, tmp_path, model_type):
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder, folder)
    CONFIG_MAPPING[model_type]().save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.write_bytes(b"not read")
    with pytest.raises(UserError, match=rf"^mine: models of the type '{model_type}' .*: choose another encoder$"):
        check_checkpoint(folder, "mine")


def test_the_key_dropout_replaces_probabilities_and_no_flags():
    config = CONFIG_MAPPING["bert"](**SIZES, token_dropout=True)  # as ESM has it
    without_weights(config, "sdpa", dropout=0.25, bidirectional=False, with_pooler=False)
    assert config.token_dropout is True
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.25

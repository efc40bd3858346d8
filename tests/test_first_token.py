"""If a text's vector is its first token's, the end of the last layer is computed for that token only."""

import pytest
import torch
from test_prompts import assert_close, batch_of, inputs_of
from test_tuning import built as built_on
from tiny import CONFIGURATIONS, random_tokens
from tiny import settings as tiny_settings

from workflow_scripts.kinds import part
from workflow_scripts.tuning.acceleration import accelerate as accelerate_module
from workflow_scripts.tuning.backbone import attention as attention_module

# Their layers have another structure; all tokens are computed.
WHOLE = ("modernbert", "distilbert", "albert", "mpnet")


def built(folder, settings):
    return built_on(folder, settings, random_tokens(settings.kind, 4))


def states(model, batch):
    return model.encoder(**inputs_of(batch)).last_hidden_state


@pytest.mark.parametrize("vector", ["first_token", "pooler"])
@pytest.mark.parametrize("method", ["fine_tuning", "prompt_tuning"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_logits_and_gradients_are_those_of_all_tokens(encoders, monkeypatch, name, method, vector):
    if method == "prompt_tuning" and name in ("albert", "mpnet"):
        pytest.skip("takes no prompts")
    settings = tiny_settings(kind="classification", method=method, sentence_vector=vector, dropout=0.0)
    batch, kind = batch_of("classification", name), part("classification", "model")
    alone = built(encoders[name], settings)
    monkeypatch.setattr(accelerate_module, "compute_first_token_only", lambda encoder: None)
    whole = built(encoders[name], settings)
    tokens = batch["input_ids"].shape[1]
    assert states(whole, batch).shape[1] == tokens > 1
    assert states(alone, batch).shape[1] == (tokens if name in WHOLE else 1)

    ours, expected = alone(batch), whole(batch)
    assert_close(ours, expected)
    for logits in (ours, expected):
        kind.loss(logits, batch).backward()
    for (path, here), there in zip(alone.tuned_parameters().items(), whole.tuned_parameters().values(), strict=True):
        if there.grad is not None and there.grad.any():
            assert here.grad is not None, path
            assert_close(here.grad, there.grad)


@pytest.mark.parametrize("name", ["bert", "xlm-roberta", "deberta-v2"])
def test_in_the_last_layer_only_the_first_token_has_a_query(encoders, monkeypatch, name):
    attended, plain = [], attention_module.PlainAttention

    class Attention(plain):
        @staticmethod
        def forward(ctx, query, *others):
            attended.append(query.shape[2])
            return plain.forward(ctx, query, *others)

    monkeypatch.setattr(attention_module, "PlainAttention", Attention)
    settings = tiny_settings(kind="classification", method="prompt_tuning")
    batch = batch_of("classification", name)
    model = built(encoders[name], settings)
    model(batch)
    layers, tokens = model.encoder.config.num_hidden_layers, batch["input_ids"].shape[1]
    assert attended == [tokens] * (layers - 1) + [1]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "tagging"},
        {"kind": "question_answering"},
        {"sentence_vector": "mean"},
        {"method": "input_prompt_tuning"},
    ],
    ids=["tagging", "answers", "mean", "prompts as words"],
)
def test_all_tokens_are_computed_where_others_are_read(encoders, changes):
    settings = tiny_settings(**{"kind": "classification", "method": "linear_probe", **changes})
    model = built(encoders["xlm-roberta"], settings)
    batch = batch_of(settings.kind, "xlm-roberta")
    assert states(model, batch).shape[1] == batch["input_ids"].shape[1]


def test_a_text_of_one_token_among_longer_ones_keeps_its_vector(encoders):
    """The last layer's attention still sees all tokens of the text, and no padding."""
    model = built(
        encoders["xlm-roberta"], tiny_settings(kind="classification", method="linear_probe", dropout=0.0)
    ).eval()
    batch = batch_of("classification", "xlm-roberta")
    batch["attention_mask"][0, 1:] = 0
    single = {name: values[:1, :1] for name, values in inputs_of(batch).items()}
    with torch.inference_mode():
        assert_close(states(model, batch)[:1, 0], model.encoder(**single).last_hidden_state[:, 0])

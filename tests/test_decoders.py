"""Decoders and encoder-decoders, tiny and random: states, prompts and readout against transformers and PEFT."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PrefixTuningConfig, get_peft_model
from test_prompts import LENGTH, as_peft_stores, assert_close, batch_of, inputs_of, prompted
from tiny import PADDING, SIZES, SPECIAL
from tiny import settings as tiny_settings
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MBartConfig,
    MistralConfig,
    MT5Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    T5GemmaConfig,
    XGLMConfig,
)

from workflow_scripts.core.errors import UserError
from workflow_scripts.encoders.architecture import kind_of
from workflow_scripts.kinds import part
from workflow_scripts.tuning.backbone.loading import load_encoder
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.model import TunedModel, build

GROUPED = SIZES | SPECIAL | {"num_key_value_heads": 2, "head_dim": 8}  # two heads share a key head
WINDOW = 6  # tokens; the texts of `batch_of` have up to 20
SHAPE = {key: SIZES[key] for key in ("vocab_size", "pad_token_id")} | SPECIAL
DECODERS: dict[str, PreTrainedConfig] = {
    "Llama": LlamaConfig(**GROUPED),
    "Qwen 2": Qwen2Config(**GROUPED, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1),
    "Qwen 3": Qwen3Config(**GROUPED),
    "Gemma 2": Gemma2Config(**GROUPED, sliding_window=WINDOW, attn_logit_softcapping=2.0, query_pre_attn_scalar=8),
    "Gemma 3": Gemma3TextConfig(**GROUPED, sliding_window=WINDOW, sliding_window_pattern=2, query_pre_attn_scalar=8),
    "Mistral": MistralConfig(**GROUPED, sliding_window=WINDOW),
    "GPT-2": GPT2Config(**SHAPE, n_embd=32, n_layer=3, n_head=4, n_positions=60, initializer_range=0.2),
    "XGLM": XGLMConfig(**SHAPE, d_model=32, num_layers=3, attention_heads=4, ffn_dim=48, max_position_embeddings=60),
    "BLOOM": BloomConfig(**SHAPE, hidden_size=32, n_layer=3, n_head=4, initializer_range=0.2),
}
ENCODER_DECODERS: dict[str, PreTrainedConfig] = {
    "mT5": MT5Config(
        **SHAPE,
        decoder_start_token_id=0,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=3,
        num_heads=4,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=12,
    ),
    "mBART": MBartConfig(
        **SHAPE,
        d_model=32,
        encoder_layers=3,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=60,
        init_std=0.2,
    ),
    "T5Gemma": T5GemmaConfig(
        encoder={**GROUPED, "sliding_window": WINDOW, "query_pre_attn_scalar": 8},
        decoder={**GROUPED, "sliding_window": WINDOW, "query_pre_attn_scalar": 8, "cross_attention_hidden_size": 32},
        vocab_size=SIZES["vocab_size"],
        pad_token_id=PADDING,
    ),
}
FAMILIES = DECODERS | ENCODER_DECODERS
OWN_ATTENTION = ["XGLM", "BLOOM"]  # do not use the attention interface
WITH_PROMPTS = [name for name in FAMILIES if name not in OWN_ATTENTION]
# PEFT passes prefixes as a cache, which slides out of a window, and an encoder has no cache.
LIKE_PEFT = ["Llama", "Qwen 3", "GPT-2"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of each family with its output layer, as on the Hub."""
    return {name: saved(name, tmp_path_factory.mktemp("model")) for name in FAMILIES}


def saved(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    model = (AutoModelForCausalLM if name in DECODERS else AutoModelForSeq2SeqLM).from_config(FAMILIES[name])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


def plain_states(folder: Path, inputs: dict[str, Any]) -> torch.Tensor:
    """The last hidden states as transformers computes them; of an encoder-decoder, the encoder's."""
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    return (model.get_encoder() if model.config.is_encoder_decoder else model)(**inputs).last_hidden_state


@pytest.mark.parametrize("name", FAMILIES)
def test_states_are_those_of_the_library(folders, name):
    """With padding and without: without padding the library leaves causal masking to the attention function."""
    batch = inputs_of(batch_of("tagging", name))
    whole = {column: values[batch["attention_mask"].all(1)] for column, values in batch.items()}
    model = load_encoder(folders[name], "crossprompt").eval()
    assert (kind_of(model) == "decoder") == (name in DECODERS)
    for inputs in (batch, whole):
        shown = inputs["attention_mask"].bool()
        assert_close(model(**inputs).last_hidden_state[shown], plain_states(folders[name], inputs)[shown], 3e-5)


def left_padded(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The batch with the padding of each text before it."""
    lengths = batch["attention_mask"].sum(1).tolist()
    return {
        name: torch.stack([row.roll(len(row) - length) for row, length in zip(values, lengths, strict=True)])
        for name, values in inputs_of(batch).items()
    }


@pytest.mark.parametrize("kind", ["classification", "tagging"])
@pytest.mark.parametrize("name", WITH_PROMPTS)
def test_a_text_gives_the_same_on_its_own_and_under_any_padding(folders, name, kind):
    model = prompted(folders[name], kind)
    batch = inputs_of(batch_of(kind, name))
    together = model(batch)
    # A bidirectional encoder represents a text by its first token, and mBART counts positions from there.
    either_side = name in DECODERS or (kind == "tagging" and name != "mBART")
    before = model(left_padded(batch)) if either_side else together
    for number, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        alone = model({column: values[number : number + 1, :length] for column, values in batch.items()})[0]
        of_text = slice(None) if kind == "classification" else slice(length)
        assert_close(together[number][of_text], alone, 3e-5)
        if either_side:
            assert_close(before[number] if kind == "classification" else before[number][-length:], alone, 3e-5)


@pytest.mark.parametrize("name", DECODERS)
def test_no_token_reads_a_later_one_unless_attention_is_bidirectional(folders, name):
    batch = inputs_of(batch_of("tagging", name))
    changed = batch | {"input_ids": batch["input_ids"].clone()}
    changed["input_ids"][:, 4] = 9
    for bidirectional in (False,) if name in OWN_ATTENTION else (False, True):
        model = load_encoder(folders[name], "crossprompt", bidirectional=bidirectional).eval()
        assert kind_of(model) == ("encoder" if bidirectional else "decoder")
        difference = (model(**batch).last_hidden_state - model(**changed).last_hidden_state)[:, :4].abs().max()
        assert (difference > 1e-3) == bidirectional


@pytest.mark.parametrize("name", DECODERS)
def test_a_text_is_read_off_its_last_token(folders, name):
    seed_everything(1)
    settings = tiny_settings(kind="classification", method="linear_probe", sentence_vector="pooler")
    model = build(folders[name], settings, touched=None).eval()
    batch = inputs_of(batch_of("classification", name))
    states = plain_states(folders[name], batch)
    last = torch.stack([row[length - 1] for row, length in zip(states, batch["attention_mask"].sum(1), strict=True)])
    assert_close(model(batch), model.head(last), 3e-5)


def peft_states(model: TunedModel, folder: Path, inputs: dict[str, Any]) -> torch.Tensor:
    """The states under PEFT's prefix tuning with our prompts."""
    base = AutoModel.from_pretrained(folder, attn_implementation="eager")
    configuration = PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=LENGTH)
    oracle = get_peft_model(base, configuration).eval()
    weight = oracle.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        weight.copy_(as_peft_stores(model.prompts.vectors))
    oracle.weight = weight
    return oracle


@pytest.mark.parametrize("name", LIKE_PEFT)
def test_prompts_give_the_states_and_gradients_of_pefts_prefix_tuning(folders, name):
    model = prompted(folders[name], "tagging")
    model.head = torch.nn.Identity()
    batch = inputs_of(batch_of("tagging", name))
    shown = batch["attention_mask"].bool()
    oracle = peft_states(model, folders[name], batch)
    ours, theirs = model(batch), oracle(**batch).last_hidden_state
    assert_close(ours[shown], theirs[shown])
    target = torch.randn_like(ours[shown])
    (ours[shown] * target).mean().backward()
    (theirs[shown] * target).mean().backward()
    expected = oracle.weight.grad
    assert expected.abs().max() > 1e-5
    assert_close(as_peft_stores(model.prompts.vectors.grad), expected)


@pytest.mark.parametrize("name", OWN_ATTENTION)
def test_prompts_are_refused_where_the_layers_would_not_read_them(folders, name):
    with pytest.raises(UserError, match="cannot take prompts"):
        build(folders[name], tiny_settings(), touched=None)
    with pytest.raises(UserError, match=r"training\.attention: .*cannot be lifted"):
        build(folders[name], tiny_settings(method="lora", attention="bidirectional"), touched=None)


# Gradient checkpointing

CHECKPOINTED = ["Llama", "Gemma 3", "GPT-2", "mT5"]


def gradients_of(folder: Path, batch: dict[str, torch.Tensor], **changes: Any) -> dict[str, torch.Tensor]:
    """The gradients of one training step with dropout, by parameter."""
    seed_everything(5)
    model = build(folder, tiny_settings(kind="tagging", dropout=0.1, prompt_std=0.5, **changes), touched=None).train()
    part("tagging", "model").loss(model(batch), batch).backward()
    model.remove_prompts()
    return {name: parameter.grad for name, parameter in model.tuned_parameters().items() if parameter.grad is not None}


@pytest.mark.parametrize("method", ["prompt_tuning", "fine_tuning", "lora", "input_prompt_tuning"])
@pytest.mark.parametrize("name", CHECKPOINTED)
def test_gradient_checkpointing_changes_no_gradient(folders, name, method):
    """Neither through lost prompts nor through different dropout masks."""
    batch = batch_of("tagging", name)
    plain = gradients_of(folders[name], batch, method=method)
    again = gradients_of(folders[name], batch, method=method, gradient_checkpointing=True)
    assert plain.keys() == again.keys() and len(plain) > 1
    for path, gradient in plain.items():
        assert_close(again[path], gradient)


@pytest.mark.parametrize("method", ["prompt_tuning", "fine_tuning"])
def test_gradient_checkpointing_keeps_the_activations_of_no_layer(folders, method):
    def saved_bytes(checkpointing: bool) -> int:
        model = build(
            folders["Llama"],
            tiny_settings(kind="tagging", method=method, gradient_checkpointing=checkpointing),
            touched=None,
        ).train()
        weights = {parameter.data_ptr() for parameter in model.parameters()}
        sizes: list[int] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.data_ptr() not in weights:
                sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(batch_of("tagging"))
        return sum(sizes)

    assert saved_bytes(True) < 0.3 * saved_bytes(False)


# Checkpoints in bfloat16, as most decoders are published


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["prompt_tuning", "input_prompt_tuning", "fine_tuning", "bitfit"])
def test_a_checkpoint_in_bfloat16_gives_what_it_gives_in_float32(folders, tmp_path, method, precision):
    AutoModelForCausalLM.from_pretrained(folders["GPT-2"], dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "half", dtype=torch.float32)
    model.save_pretrained(tmp_path / "whole")
    batch = batch_of("tagging", "GPT-2")
    logits = []
    for folder in ("half", "whole"):
        seed_everything(2)
        made = tiny_settings(kind="tagging", method=method, precision=precision)
        built = build(tmp_path / folder, made, touched=batch["input_ids"].unique(), ids=batch["input_ids"].unique())
        assert {parameter.dtype for parameter in built.tuned_parameters().values()} == {torch.float32}
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits.append(built.eval()(batch))
    assert torch.equal(*logits)

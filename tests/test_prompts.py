"""Prompts in the attention interface implement the paper's method, and without prompts nothing changes.

The oracle is PEFT's prefix tuning, which puts the prompts into the encoder's cache of past keys and values. It shares
no code with ours.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PrefixTuningConfig, get_peft_model
from scipy.stats import kstest
from tiny import CONFIGURATIONS, LABELS, PADDING, VOCABULARY, level_of, of_type, outputs_of, random_tokens, settings
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.models.modernbert import modeling_modernbert

from benchmarks.estimate import XLM_R_LARGE, published_shape
from workflow_scripts.core.errors import UserError
from workflow_scripts.encoders.positions import AFTER_PADDING, starts_after_padding
from workflow_scripts.kinds import part
from workflow_scripts.tuning.acceleration.dropout import dropout_state, mark_dropped, restore_dropout
from workflow_scripts.tuning.acceleration.plain_attention import PlainAttention
from workflow_scripts.tuning.backbone.attention import MASKED, NAME, attend
from workflow_scripts.tuning.backbone.loading import load_encoder
from workflow_scripts.tuning.backbone.positions import first_position, position_ids
from workflow_scripts.tuning.batches import collate
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.heads import DenseHead
from workflow_scripts.tuning.model import TunedModel, build
from workflow_scripts.tuning.predict import logits
from workflow_scripts.tuning.prompts import Prompts

LENGTH = 5
KINDS = tuple(LABELS)
WITH_CACHE = ("bert", "roberta", "xlm-roberta", "camembert")
TAKING_PROMPTS = (*WITH_CACHE, "electra", "modernbert", "xlm-roberta-xl", "distilbert", "deberta-v2")
REFUSED = ("albert", "mpnet")
# Types of the library beyond those of `tiny`; the modules of the refused ones have BERT's names and indices.
ALSO_TAKING_PROMPTS = ("bert-generation", "data2vec-text", "ernie", "eurobert", "roberta-prelayernorm")
ALSO_REFUSED = ("rembert", "roformer", "megatron-bert")
PEFT_TASKS = {
    "classification": ("SEQ_CLS", AutoModelForSequenceClassification),
    "tagging": ("TOKEN_CLS", AutoModelForTokenClassification),
    "question_answering": ("QUESTION_ANS", AutoModelForQuestionAnswering),
    "entities": ("TOKEN_CLS", AutoModelForTokenClassification),
    "multiple_choice": ("SEQ_CLS", AutoModelForSequenceClassification),  # one number for each choice
    "regression": ("SEQ_CLS", AutoModelForSequenceClassification),
}
CPU = torch.device("cpu")

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # PEFT asks for it


def batch_of(kind: str, name: str = "bert") -> dict[str, torch.Tensor]:
    """Four texts of different lengths, so that three of them are padded, with the targets of the kind."""
    tokens = random_tokens(kind, 4)
    batch = collate(tokens, torch.arange(4).numpy(), PADDING, part(kind, "model").TARGETS, CPU)
    assert not batch["attention_mask"].all()
    if name in ("bert", "electra"):
        half = torch.arange(batch["input_ids"].shape[1]) >= 3
        batch["token_type_ids"] = half.expand_as(batch["input_ids"]).long()
    return batch


def inputs_of(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}


def prompted(folder: Path, kind: str, with_dense_head: bool = False) -> TunedModel:
    """Our model with prompts and a head large enough to matter: at their initial 0.02 all gradients are near 0."""
    seed_everything(3)
    model = build(folder, settings(kind=kind, prompt_length=LENGTH), touched=None).eval()
    if with_dense_head:
        model.head, model.sentence_vector = DenseHead(32, outputs_of(kind), dropout=0.0).eval(), "first_token"
    with torch.no_grad():
        for parameter in model.tuned_parameters().values():
            parameter.copy_(torch.randn_like(parameter))
    return model


def head_parameters(model: TunedModel) -> dict[str, torch.nn.Parameter]:
    return {name: value for name, value in model.tuned_parameters().items() if name.startswith("head.")}


def trained_in(oracle: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The parameters of PEFT's head, in the order of the head's layers."""
    return [
        parameter
        for name, parameter in oracle.named_parameters()
        if parameter.requires_grad and "prompt_encoder" not in name
    ]


def as_peft_stores(vectors: torch.Tensor) -> torch.Tensor:
    """(layers, 2, heads, length, head size) -> (length, layers x 2 x heads x head size)."""
    return vectors.permute(3, 0, 1, 2, 4).reshape(vectors.shape[3], -1)


def peft_of(model: TunedModel, folder: Path, kind: str, attention: str) -> torch.nn.Module:
    """PEFT's prefix tuning of the same encoder, with our prompts and our head in it."""
    task, architecture = PEFT_TASKS[kind]
    base = architecture.from_pretrained(
        folder, num_labels=outputs_of(kind), attn_implementation=attention, classifier_dropout=0.0
    )
    oracle = get_peft_model(base, PrefixTuningConfig(task_type=task, num_virtual_tokens=LENGTH)).eval()
    with torch.no_grad():
        oracle.prompt_encoder["default"].embedding.weight.copy_(as_peft_stores(model.prompts.vectors))
        for theirs, ours in zip(trained_in(oracle), head_parameters(model).values(), strict=True):
            theirs.copy_(ours)
    return oracle


def peft_logits(oracle: torch.nn.Module, batch: dict[str, torch.Tensor], kind: str) -> torch.Tensor:
    output = oracle(**inputs_of(batch))
    if kind == "question_answering":
        return torch.stack((output.start_logits, output.end_logits), dim=-1)
    return output.logits


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def real(logits: torch.Tensor, batch: dict[str, torch.Tensor], kind: str) -> torch.Tensor:
    """Logits without those of padding, which are not used."""
    return logits if level_of(kind) == "sequence" else logits[batch["attention_mask"].bool()]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WITH_CACHE)
def test_logits_and_gradients_equal_those_of_peft(encoders, name, kind, attention):
    # PEFT gives RoBERTa's family its own classification head, which is ours of fine-tuning.
    model = prompted(encoders[name], kind, with_dense_head=level_of(kind) == "sequence" and name != "bert")
    oracle = peft_of(model, encoders[name], kind, attention)
    batch = batch_of(kind, name)
    if kind == "question_answering":
        batch.pop("token_type_ids", None)  # PEFT loses them there
    loss = part(kind, "model").loss

    with torch.inference_mode():
        predicted = model(batch)
    ours, theirs = model(batch), peft_logits(oracle, batch, kind)
    assert_close(real(ours, batch, kind), real(theirs, batch, kind))
    assert_close(real(predicted, batch, kind), real(theirs, batch, kind))

    loss(ours, batch).backward()
    loss(theirs, batch).backward()
    expected = oracle.prompt_encoder["default"].embedding.weight.grad
    assert expected.abs().max() > 1e-3
    assert_close(as_peft_stores(model.prompts.vectors.grad), expected)
    for here, there in zip(head_parameters(model).values(), trained_in(oracle), strict=True):
        assert_close(here.grad, there.grad)


@pytest.mark.parametrize("name", WITH_CACHE)
def test_the_prompts_of_every_layer_matter(encoders, name):
    """Otherwise the equality above could hold although the prompts have no effect."""
    model = prompted(encoders[name], "tagging")
    model(batch_of("tagging", name)).square().mean().backward()
    assert (model.prompts.vectors.grad.abs().amax((2, 3, 4)) > 1e-6).all()


def test_no_prompts_are_left_in_the_layers_after_a_forward_pass(encoders):
    model, batch = prompted(encoders["bert"], "tagging"), batch_of("tagging", "bert")
    with torch.no_grad():
        plain = model.encoder(**inputs_of(batch)).last_hidden_state
        model(batch)
        assert_close(model.encoder(**inputs_of(batch)).last_hidden_state, plain)


@pytest.mark.parametrize("name", [*TAKING_PROMPTS, *ALSO_TAKING_PROMPTS])
def test_an_architecture_that_is_accepted_reads_the_prompts_of_every_layer(name):
    encoder = of_type(name)
    prompts = Prompts(encoder, LENGTH, std=0.5, dropout=0.0)
    batch = batch_of("tagging", name)
    states = encoder(**Prompts.insert([prompts], inputs_of(batch), encoder)).last_hidden_state
    (states[batch["attention_mask"].bool()][:, 0]).sum().backward()  # normalised states have a sum that is fixed
    assert prompts.vectors.grad is not None and (prompts.vectors.grad.abs().amax((2, 3, 4)) > 1e-4).all()


@pytest.mark.parametrize("name", ALSO_REFUSED)
def test_an_architecture_whose_layers_would_not_read_prompts_is_refused_by_name(name):
    with pytest.raises(UserError, match=f"{name}.*cannot take prompts.*leave prompt_tuning out"):
        Prompts(of_type(name), LENGTH, std=0.5, dropout=0.0)


def modernbert_with_prompts(
    folder: Path, batch: dict[str, torch.Tensor], vectors: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> torch.Tensor:
    """ModernBERT's last hidden state with its own eager attention, given longer keys and values.

    It has no cache, so PEFT does not support it. In a local layer every token attends to the prompts, as to a cache.
    """
    eager = modeling_modernbert.eager_attention_forward

    def attend(module, query, key, value, attention_mask, **options):
        prompt_key, prompt_value = (part.expand(len(key), *part.shape) for part in vectors[module.layer_idx])
        hidden_nowhere = torch.zeros(*attention_mask.shape[:3], LENGTH)
        return eager(
            module,
            query,
            torch.cat((prompt_key, key), dim=2),
            torch.cat((prompt_value, value), dim=2),
            torch.cat((hidden_nowhere, attention_mask), dim=3),
            **options,
        )

    plain = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    monkeypatch.setattr(modeling_modernbert, "eager_attention_forward", attend)
    positions = torch.arange(batch["input_ids"].shape[1])[None] + LENGTH
    return plain(**inputs_of(batch), position_ids=positions).last_hidden_state


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_without_a_cache_takes_prompts_as_its_own_attention_would(encoders, kind, monkeypatch):
    model = prompted(encoders["modernbert"], kind)
    batch = batch_of(kind, "modernbert")
    loss = part(kind, "model").loss
    vectors = model.prompts.vectors.detach().clone().requires_grad_()
    states = modernbert_with_prompts(encoders["modernbert"], batch, vectors, monkeypatch)
    theirs = model.head(states if model.level == "token" else states[:, 0])

    with torch.inference_mode():
        predicted = model(batch)
    ours = model(batch)
    assert_close(real(ours, batch, kind), real(theirs, batch, kind))
    assert_close(real(predicted, batch, kind), real(theirs, batch, kind))

    (expected,) = torch.autograd.grad(loss(theirs, batch), vectors)
    (found,) = torch.autograd.grad(loss(ours, batch), model.prompts.vectors)
    assert expected.abs().max() > 1e-3
    assert_close(found, expected)


@pytest.mark.parametrize("name", TAKING_PROMPTS)
def test_padding_changes_nothing(encoders, name):
    model = prompted(encoders[name], "tagging")
    batch = batch_of("tagging", name)
    padded = model(batch)
    for number, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        alone = {column: values[number : number + 1, :length] for column, values in batch.items()}
        assert_close(padded[number : number + 1, :length], model(alone))


@pytest.mark.parametrize("name", [*TAKING_PROMPTS, *ALSO_TAKING_PROMPTS])
def test_after_no_prompt_positions_are_those_of_the_library(name):
    encoder, batch = of_type(name), batch_of("tagging", name)
    shown = batch["attention_mask"].bool()
    inputs = inputs_of(batch)
    ours = encoder(**inputs, position_ids=position_ids(encoder, inputs["attention_mask"], after=0)).last_hidden_state
    assert_close(ours[shown], encoder(**inputs).last_hidden_state[shown])


# Funnel's type has two models, with no positions that are looked up in either.
@pytest.mark.parametrize("name", sorted({*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *AFTER_PADDING} - {"funnel"}))
def test_the_types_that_count_positions_from_the_padding_are_those_of_the_library(name):
    """The manifest is written from the configuration alone; the model's own position table must agree."""
    config = CONFIG_MAPPING[name](vocab_size=VOCABULARY, pad_token_id=PADDING)
    with torch.device("meta"):
        encoder = AutoModel.from_config(config)
    assert first_position(encoder) == (PADDING + 1 if starts_after_padding(name) else 0)


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        (name, attention)
        for name in CONFIGURATIONS
        for attention in (["eager"] if name == "deberta-v2" else ["eager", "sdpa"])  # the library has no other there
        if name not in REFUSED
    ],
)
def test_without_prompts_the_encoder_gives_what_the_library_gives(encoders, name, attention):
    assert_equal_to_library(encoders[name], name, attention)


@pytest.mark.parametrize("name", REFUSED)
def test_encoders_that_cannot_take_prompts_can_be_fine_tuned_all_the_same(encoders, name):
    assert_equal_to_library(encoders[name], name, "eager")


def assert_equal_to_library(folder: Path, name: str, attention: str) -> None:
    """All vectors of all texts, to a millionth of the largest number."""
    batch = batch_of("tagging", name)
    shown = batch["attention_mask"].bool()
    plain = AutoModel.from_pretrained(folder, attn_implementation=attention).eval()
    encoder = build(folder, settings(kind="tagging", method="fine_tuning"), touched=None).eval().encoder
    expected = plain(**inputs_of(batch)).last_hidden_state[shown]
    tolerance = 1e-6 * expected.abs().max().item()
    torch.testing.assert_close(encoder(**inputs_of(batch)).last_hidden_state[shown], expected, rtol=0, atol=tolerance)
    with torch.inference_mode():
        predicted = encoder(**inputs_of(batch)).last_hidden_state[shown]
    torch.testing.assert_close(predicted, expected, rtol=0, atol=tolerance)


def test_the_bundled_encoder_gives_what_the_library_gives(bundled_encoder):
    plain = AutoModel.from_pretrained(bundled_encoder, attn_implementation="sdpa").eval()
    model = build(bundled_encoder, settings(kind="tagging", method="fine_tuning"), touched=torch.arange(100)).eval()
    ids = torch.tensor([[0, 47958, 38260, 5, 2, 2, 6, 22888, 2], [0, 83, 6957, 2, 1, 1, 1, 1, 1]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 1).long()}
    with torch.inference_mode():
        ours, theirs = model.encoder(**inputs).last_hidden_state, plain(**inputs).last_hidden_state
    assert_close(ours[ids != 1], theirs[ids != 1])


@pytest.mark.parametrize("name", REFUSED)
def test_an_architecture_that_cannot_take_prompts_is_refused_by_name(encoders, name):
    with pytest.raises(UserError, match=f"{name}.*cannot take prompts.*leave prompt_tuning out") as refusal:
        build(encoders[name], settings(), touched=None)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", TAKING_PROMPTS)
def test_prompts_and_head_are_all_that_is_tuned(encoders, name):
    model = build(encoders[name], settings(kind="tagging", prompt_length=LENGTH), touched=None)
    tuned = {name: parameter.numel() for name, parameter in model.tuned_parameters().items()}
    head = (32 + 1) * len(LABELS["tagging"])
    assert sum(tuned.values()) == 3 * 2 * LENGTH * 32 + head
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())


def test_prompts_begin_normally_distributed(encoders):
    seed_everything(0)
    encoder = build(encoders["bert"], settings(), touched=None).encoder
    vectors = Prompts(encoder, length=64, std=0.02, dropout=0.1).vectors.detach()
    assert vectors.numel() == 3 * 2 * 64 * 32
    assert kstest(vectors.flatten().numpy() / 0.02, "norm").pvalue > 0.01
    for layer in vectors:
        for keys_or_values in layer:
            assert keys_or_values.std().item() == pytest.approx(0.02, rel=0.06)  # four standard errors


def test_prompts_of_two_seeds_differ_and_of_one_seed_are_equal(encoders):
    def vectors(seed: int) -> torch.Tensor:
        seed_everything(seed)
        return build(encoders["bert"], settings(seed=seed), touched=None).prompts.vectors.detach()

    assert torch.equal(vectors(1), vectors(1))
    assert not torch.isclose(vectors(1), vectors(2)).any()


@pytest.mark.parametrize("length", [16, 32])
def test_of_xlm_r_large_the_prompts_are_a_tenth_to_three_tenths_of_a_percent(length):
    """The share of tuned parameters that the paper reports (0.1 % to 0.3 %); on the meta device nothing is computed."""
    with torch.device("meta"):
        encoder = AutoModel.from_config(published_shape(XLM_R_LARGE)())
        tuned = Prompts(encoder, length, std=0.02, dropout=0.1).vectors.numel()
    everything = sum(parameter.numel() for parameter in encoder.parameters())
    assert everything == pytest.approx(560e6, rel=0.002)
    assert tuned == 24 * 2 * length * 1024
    assert 0.1 <= 100 * tuned / everything <= 0.3


def test_ids_of_the_whole_vocabulary_are_allowed(encoders):
    """The texts of `tiny` do not use the last fifth of the vocabulary; a test language would."""
    model = prompted(encoders["xlm-roberta"], "classification")
    ids = torch.arange(VOCABULARY - 20, VOCABULARY)[None]
    assert model({"input_ids": ids, "attention_mask": torch.ones_like(ids)}).isfinite().all()


@pytest.mark.parametrize("method", ["fine_tuning", "prompt_tuning"])
@pytest.mark.parametrize("name", TAKING_PROMPTS)
def test_bfloat16_stays_near_float32(encoders, name, method):
    tokens = random_tokens("tagging", 40)

    def values(precision: str) -> torch.Tensor:
        seed_everything(3)
        made = settings(kind="tagging", method=method, precision=precision)
        model = build(encoders[name], made, touched=None)
        return torch.cat([torch.from_numpy(feature) for feature in logits(model, tokens, made.precision, CPU)])

    exact, rough = values("float32"), values("bfloat16")
    assert not torch.equal(exact, rough)
    assert ((rough - exact).std() / exact.std()).item() < 0.03


# The attention function


def heads_of(tensors: int, heads: int = 4, tokens: int = 7, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    seed_everything(1)
    return [torch.randn(3, heads, tokens, 8, dtype=dtype).requires_grad_() for _ in range(tensors)]


def hide_some(rows: int) -> torch.Tensor:
    """(texts, 1, rows, keys): masks the last keys of each text, and others in each row; never the first key."""
    first_hidden = 4 + torch.arange(3)[:, None] - torch.arange(rows) % 3
    return (torch.arange(7) >= first_hidden[..., None])[:, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rows", [None, 1, 7], ids=["no_mask", "one_row", "a_row_for_each_query"])
@pytest.mark.parametrize("queries", [7, 1], ids=["all_tokens", "first_token"])
@pytest.mark.parametrize("scaling", [1, 0.35])
def test_the_saved_attention_weights_give_the_gradients_of_plain_products(dtype, rows, queries, scaling):
    """With dropout: the masks are drawn again from the same state, and multiplied in by autograd."""
    query, key, value = heads_of(3, dtype=dtype)
    query = query[:, :, :queries].detach().requires_grad_()
    hidden = None
    if rows is not None:
        hidden = torch.zeros(3, 1, rows, 7, dtype=dtype).masked_fill_(hide_some(rows), MASKED)[:, :, :queries]
    state = dropout_state()
    ours = PlainAttention.apply(query, key, value, hidden, scaling, 0.3)
    restore_dropout(state)
    marks = torch.ones(3, 4, queries, 7, dtype=dtype)
    mark_dropped(marks, 0.3)
    kept = (marks > 0).to(dtype) / 0.7
    products = query @ key.transpose(2, 3) * scaling
    theirs = ((products if hidden is None else products + hidden).softmax(-1) * kept) @ value
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-5
    assert 0 < (marks < 0).float().mean() < 1
    assert_close(ours, theirs, tolerance)
    slope = torch.randn_like(ours)
    for found, expected in zip(
        torch.autograd.grad(ours, (query, key, value), slope),
        torch.autograd.grad(theirs, (query, key, value), slope),
        strict=True,
    ):
        assert_close(found, expected, tolerance)


@pytest.mark.parametrize("shape", [(1, 4, 7, 7), (3, 4, 7, 7), (3, 1, 1, 7)])
def test_a_bias_on_the_scores_gets_the_gradient_of_plain_products(shape):
    """T5's is the same for all texts, DeBERTa's differs between them."""
    query, key, value = heads_of(3)
    bias = torch.randn(shape).requires_grad_()
    ours = PlainAttention.apply(query, key, value, bias, 0.35, 0.0)
    theirs = (query @ key.transpose(2, 3) * 0.35 + bias).softmax(-1) @ value
    assert_close(ours, theirs)
    slope = torch.randn_like(ours)
    inputs = (query, key, value, bias)
    expected = torch.autograd.grad(theirs, inputs, slope)
    for found, one in zip(torch.autograd.grad(ours, inputs, slope), expected, strict=True):
        assert_close(found, one)
    frozen = PlainAttention.apply(query.detach(), key.detach(), value.detach(), bias, 0.35, 0.0)
    assert_close(torch.autograd.grad(frozen, bias, slope)[0], expected[3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_those_of_the_softmax_for_rows_of_any_length(dtype):
    """With the identity as value, the output is the weights."""
    seed_everything(1)
    for keys in (3, 12, 31, 32, 36, 45, 12):
        query, key = (torch.randn(2, 3, tokens, keys, dtype=dtype) for tokens in (5, keys))
        value = torch.eye(keys, dtype=dtype).expand(2, 3, -1, -1)
        found = PlainAttention.apply(query, key, value, None, 0.3, 0.0)
        exact = (0.3 * query.double() @ key.double().transpose(2, 3)).softmax(-1)
        assert_close(found.double(), exact, 0.03 if dtype == torch.bfloat16 else 1e-5)


def test_a_weight_is_dropped_with_the_probability_and_the_mean_is_kept():
    marks = torch.ones(400_000)
    mark_dropped(marks, 0.1)
    assert (marks < 0).float().mean().item() == pytest.approx(0.1, abs=0.002)  # four standard errors
    query, key = (torch.zeros(1, 1, 200_000 // 100, 8), torch.zeros(1, 1, 100, 8))
    value = torch.ones(1, 1, 100, 8)
    found = PlainAttention.apply(query, key, value, None, 1, 0.1)
    assert found.mean().item() == pytest.approx(1, abs=0.003)
    assert found.std() > 0.01


def test_a_key_head_may_serve_several_heads():
    """Grouped queries: the same as with each key head repeated."""
    (query,) = heads_of(1)
    key, value = heads_of(2, heads=2)
    module = torch.nn.Module()
    module.prompt = tuple(torch.randn(1, 2, LENGTH, 8) for _ in range(2))
    few, _ = attend(module, query, key, value, None)
    module.prompt = tuple(part.repeat_interleave(2, 1) for part in module.prompt)
    many, _ = attend(module, query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), None)
    assert_close(few, many)


def test_an_option_that_would_change_the_result_is_refused_by_name():
    query, key, value = heads_of(3)
    attend(torch.nn.Module(), query, key, value, None, sliding_window=4, is_causal=False)
    with pytest.raises(UserError, match="pass the option s_aux to their attention"):
        attend(torch.nn.Module(), query, key, value, None, s_aux=torch.zeros(4))


def without_numbers(folder: Path) -> Path:
    """An encoder's folder whose weights keep their names and shapes, but have no readable numbers."""
    weights = folder / "model.safetensors"
    header = int.from_bytes(weights.read_bytes()[:8], "little")
    data = bytearray(weights.read_bytes())
    data[8 + header :] = b"\xff" * (len(data) - 8 - header)
    weights.write_bytes(bytes(data))
    return folder


def test_an_architecture_is_refused_before_its_weights_are_read(encoders, tmp_path):
    folder = without_numbers(shutil.copytree(encoders["albert"], tmp_path / "refused"))
    with pytest.raises(UserError, match="cannot take prompts"):
        build(folder, settings(), touched=None)


def test_a_prediction_imports_nothing_that_it_does_not_need(encoders):
    """These imports would take half of its time; see tuning/acceleration/lean.py."""
    code = (
        "import sys, torch; from pathlib import Path; from workflow_scripts.tuning.model import build\n"
        "from workflow_scripts.tuning.settings import TrainingSettings\n"
        "model = build(Path(sys.argv[1]), TrainingSettings.parsed(sys.argv[2]), touched=None).eval()\n"
        "ids = torch.tensor([[0, 5, 6, 2]])\n"
        "with torch.inference_mode(): model({'input_ids': ids, 'attention_mask': torch.ones_like(ids)})\n"
        "unneeded = {'torch._dynamo', 'torch.distributed.tensor', 'sympy', 'scipy'}\n"
        "assert not unneeded & set(sys.modules), unneeded & set(sys.modules)\n"
        "import torch._dynamo, torch.distributed.tensor, scipy; assert torch._dynamo.__file__\n"
        "assert torch.distributed.is_available()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    words = [sys.executable, "-c", code, str(encoders["bert"]), settings().as_text()]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_where_torchvision_is_installed_it_gets_the_compiler_that_it_needs(tmp_path):
    """Transformers imports torchvision if it is installed."""
    (tmp_path / "torchvision.py").write_text("from torch._dynamo.utils import is_compile_supported\n")
    code = "from workflow_scripts.tuning.acceleration.lean import without_compiler\n"
    code += "with without_compiler(): import torchvision\n"
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parent.parent}{os.pathsep}{tmp_path}"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


# Encoders made of decoder layers

ALIKE = {"head_dim": 8, "num_key_value_heads": 4}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("eurobert", {}),
        ("gemma3_text", ALIKE | {"use_bidirectional_attention": True, "sliding_window": 8}),
        ("qwen3", ALIKE | {"is_causal": False}),
    ],
)
def test_an_encoder_made_of_a_decoders_layers_gives_what_the_library_gives(tmp_path, name, changes):
    """With padding and without: without padding the library leaves the masking to its attention function."""
    of_type(name, **changes).save_pretrained(tmp_path)
    batch = inputs_of(batch_of("tagging", name))
    whole = {column: values[batch["attention_mask"].all(1)] for column, values in batch.items()}
    plain = AutoModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    encoder = load_encoder(tmp_path, NAME).eval()
    for inputs in (batch, whole):
        shown = inputs["attention_mask"].bool()
        ours, theirs = encoder(**inputs).last_hidden_state, plain(**inputs).last_hidden_state
        assert_close(ours[shown], theirs[shown], 2e-5)

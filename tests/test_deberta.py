"""DeBERTa's disentangled attention, ours against transformers' without prompts and against the formula with them.

`formula_states` is He et al. (2021), equation 4, query by query: no batch, no padding, and no code of ours. Prompts are
more keys and values, whose scores have the content term only.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from test_prompts import LENGTH, assert_close, batch_of, inputs_of, prompted, real
from tiny import SIZES, settings
from transformers import AutoModel, DebertaV2Config
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from workflow_scripts.kinds import part
from workflow_scripts.tuning.backbone import deberta
from workflow_scripts.tuning.backbone.attention import NAME
from workflow_scripts.tuning.backbone.deberta import buckets_of
from workflow_scripts.tuning.backbone.loading import load_encoder
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.model import build

BOTH = {"relative_attention": True, "pos_att_type": "p2c|c2p"}
# The texts have up to 20 tokens, so that distances exceed the 4 that have a bucket of their own.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "v3": BOTH
    | {
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "v2 with convolution": BOTH
    | {
        "position_buckets": 8,
        "max_relative_positions": 30,
        "share_att_key": True,
        "conv_kernel_size": 3,
        "conv_act": "gelu",
        "position_biased_input": False,
    },
    "own projections": BOTH | {"position_biased_input": False},
    "distances beyond the largest": BOTH | {"max_relative_positions": 6},
    "content to position": {"relative_attention": True, "pos_att_type": ["c2p"], "position_buckets": 8},
    "position to content": {"relative_attention": True, "pos_att_type": ["p2c"], "position_buckets": 8},
    "no terms of positions": {"relative_attention": True},
    "absolute positions": {"pos_att_type": ["c2p"], "embedding_size": 24},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A random encoder of each configuration."""
    return {name: saved(tmp_path_factory.mktemp("deberta"), changes) for name, changes in CONFIGURATIONS.items()}


def saved(folder: Path, changes: dict[str, Any]) -> Path:
    torch.manual_seed(0)
    model = AutoModel.from_config(DebertaV2Config(**SIZES | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


def bucket(distance: int, config: DebertaV2Config) -> int:
    """The row of the table of positions for a distance: each near distance has its own, far ones share them."""
    most = config.max_relative_positions
    most = config.max_position_embeddings if most < 1 else most
    own, rows = getattr(config, "position_buckets", -1) // 2, most
    if own > 0:
        rows = config.position_buckets
        if abs(distance) > own:
            share = math.log(abs(distance) / own) / math.log((most - 1) / own)
            distance = int(math.copysign(own + math.ceil(share * (own - 1)), distance))
    return min(max(distance + rows, 0), 2 * rows - 1)


def formula_layer(
    layer: Any, states: torch.Tensor, table: torch.Tensor | None, config: DebertaV2Config, prompt: torch.Tensor
) -> torch.Tensor:
    """The attention of one layer for one text: (tokens, width) -> (tokens, width).

    prompt: (2, heads, length, head size).
    """
    heads, tokens = config.num_attention_heads, len(states)
    size = config.hidden_size // heads
    kinds = config.pos_att_type or []
    share = getattr(config, "share_att_key", False)
    query, key, value = layer.query_proj(states), layer.key_proj(states), layer.value_proj(states)
    if table is not None and "c2p" in kinds:
        position_key = (layer.key_proj if share else layer.pos_key_proj)(table)
    if table is not None and "p2c" in kinds:
        position_query = (layer.query_proj if share else layer.pos_query_proj)(table)
    outputs = []
    for i in range(tokens):
        row = torch.tensor([bucket(i - j, config) for j in range(tokens)]) if table is not None else None
        of_heads = []
        for head in range(heads):
            one = slice(head * size, (head + 1) * size)
            scores = key[:, one] @ query[i, one]
            if row is not None and "c2p" in kinds:
                scores = scores + position_key[row][:, one] @ query[i, one]
            if row is not None and "p2c" in kinds:
                scores = scores + (position_query[row][:, one] * key[:, one]).sum(1)
            scores = torch.cat((prompt[0, head] @ query[i, one], scores)) / math.sqrt(size * (1 + len(kinds)))
            of_heads.append(scores.softmax(0) @ torch.cat((prompt[1, head], value[:, one])))
        outputs.append(torch.cat(of_heads))
    return torch.stack(outputs)


def formula_states(plain: Any, ids: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
    """The last states of one text, (tokens, width), with transformers' modules for all but the attention.

    ids: (tokens,). prompts: (layers, 2, heads, length, head size).
    """
    positions = prompts.shape[3] + torch.arange(len(ids))[None]
    first = states = plain.embeddings(ids[None], position_ids=positions)[0]
    table = plain.encoder.get_rel_embedding()
    for number, (layer, prompt) in enumerate(zip(plain.encoder.layer, prompts, strict=True)):
        attended = formula_layer(layer.attention.self, states, table, plain.config, prompt)
        attended = layer.attention.output(attended, states)
        states = layer.output(layer.intermediate(attended), attended)
        if number == 0 and plain.encoder.conv is not None:
            shown = torch.ones(1, len(ids), dtype=torch.long)
            states = plain.encoder.conv(first[None], states[None], shown)[0]
    return states


def formula_logits(plain: Any, batch: dict[str, torch.Tensor], head: Any, level: str, prompts: Any) -> torch.Tensor:
    """Logits as our model gives them, one text after the other; of padding zeros."""
    texts = [
        formula_states(plain, ids[shown.bool()], prompts)
        for ids, shown in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    if level == "sequence":
        return head(torch.stack([states[0] for states in texts]))
    return torch.nn.utils.rnn.pad_sequence([head(states) for states in texts], batch_first=True)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_without_prompts_states_and_gradients_are_those_of_the_library(folders, name):
    batch = batch_of("tagging")
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    shown = batch["attention_mask"].bool()
    plain = AutoModel.from_pretrained(folders[name]).eval()
    encoder = load_encoder(folders[name], NAME).eval()
    ours, theirs = (model(**inputs).last_hidden_state[shown] for model in (encoder, plain))
    assert_close(ours, theirs)
    with torch.inference_mode():
        assert_close(encoder(**inputs).last_hidden_state[shown], theirs)
    slope = torch.randn_like(ours)
    for states in (ours, theirs):
        states.backward(slope)
    expected = {key: parameter.grad for key, parameter in plain.named_parameters()}
    for key, parameter in encoder.named_parameters():
        assert (parameter.grad is None) == (expected[key] is None), key
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, expected[key], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_formula_without_prompts_is_the_librarys(folders, name):
    """Otherwise the tests below would compare with a different model."""
    batch = batch_of("tagging")
    plain = AutoModel.from_pretrained(folders[name]).eval()
    none = torch.zeros(3, 2, 4, 0, 8)
    with torch.no_grad():
        theirs = plain(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        for states, ids, shown in zip(theirs, batch["input_ids"], batch["attention_mask"].bool(), strict=True):
            assert_close(formula_states(plain, ids[shown], none), states[shown])


@pytest.mark.parametrize("kind", ["tagging", "classification"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_with_prompts_logits_and_gradients_are_those_of_the_formula(folders, name, kind):
    """In classification, the last layer is computed for the first token only."""
    model = prompted(folders[name], kind)
    batch, loss = batch_of(kind), part(kind, "model").loss
    plain = AutoModel.from_pretrained(folders[name]).eval()
    vectors = model.prompts.vectors.detach().clone().requires_grad_()
    theirs = formula_logits(plain, batch, model.head, model.level, vectors)
    with torch.inference_mode():
        predicted = model(batch)
    ours = model(batch)
    assert_close(real(ours, batch, kind), real(theirs, batch, kind))
    assert_close(real(predicted, batch, kind), real(theirs, batch, kind))
    (expected,) = torch.autograd.grad(loss(theirs, batch), vectors)
    (found,) = torch.autograd.grad(loss(ours, batch), model.prompts.vectors)
    assert expected.abs().max() > 1e-3
    assert_close(found, expected)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_padding_on_either_side_changes_nothing(folders, name):
    model = prompted(folders[name], "tagging")
    batch = inputs_of(batch_of("tagging"))
    batch.pop("token_type_ids", None)
    padded = model(batch)
    left = {key: values.flip(1) for key, values in batch.items()}
    for number, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        alone = {key: values[number : number + 1, :length] for key, values in batch.items()}
        assert_close(padded[number : number + 1, :length], model(alone))
        backwards = {key: values.flip(1) for key, values in alone.items()}
        assert_close(model(left)[number : number + 1, -length:], model(backwards))


@pytest.mark.parametrize("block", [1, 4, 6, 7])
@pytest.mark.parametrize("rows", [1, 3, 7])
def test_each_row_is_multiplied_with_the_vectors_of_its_distances(monkeypatch, rows, block):
    """Long texts are computed in blocks of rows, whose last may be shorter."""
    monkeypatch.setattr(deberta, "BLOCK", block)
    seed_everything(0)
    content, positions = torch.randn(2, 4, rows, 8), torch.randn(4, 14, 8)
    found = deberta.by_distance(content, positions)
    assert found.shape == (2, 4, rows, 7)
    for i in range(rows):
        for j in range(7):
            assert_close(found[:, :, i, j], (content[:, :, i] * positions[:, j - i + 6]).sum(-1))


@pytest.mark.parametrize("tokens", [1, 2, 7, 60])
@pytest.mark.parametrize(("buckets", "most"), [(-1, 60), (8, 60), (8, 9), (3, 5), (256, 512)])
def test_a_bucket_is_the_librarys_in_both_directions(tokens, buckets, most):
    """Position-to-content terms read the buckets with the opposite sign."""
    found = buckets_of(tokens, buckets, most, torch.device("cpu"))
    for distance, one in zip(range(tokens - 1, -tokens - 1, -1), found.tolist(), strict=True):
        for sign in (1, -1):
            exact = torch.tensor([sign * distance])
            if buckets > 0:
                exact = make_log_bucket_position(exact, buckets, most).long()
            assert sign * one == exact.item()


def test_a_text_of_one_token_is_encoded(folders):
    model = prompted(folders["v3"], "tagging")
    inputs = {"input_ids": torch.tensor([[7]]), "attention_mask": torch.ones(1, 1, dtype=torch.long)}
    plain = AutoModel.from_pretrained(folders["v3"]).eval()
    with torch.no_grad():
        expected = formula_states(plain, inputs["input_ids"][0], model.prompts.vectors)
        assert_close(model(inputs)[0], model.head(expected))


def test_dropout_of_every_kind_is_drawn_from_the_projects_masks(folders, monkeypatch):
    """PyTorch's generator then draws nothing, and training resumes from the position in the sequence of masks."""
    model = build(folders["v3"], settings(kind="tagging", dropout=0.3, prompt_length=LENGTH), touched=None).train()
    batch = batch_of("tagging")
    outcomes = []
    for torch_seed, seed in ((1, 5), (2, 5), (2, 6)):
        seed_everything(seed)
        torch.manual_seed(torch_seed)
        outcomes.append(model(batch))
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.isclose(outcomes[0], outcomes[2]).all()
    attention = model.encoder.encoder.layer[0].attention.self
    seed_everything(5)
    attention.pos_dropout.p = 0.0
    without_positions = model(batch)
    seed_everything(5)
    attention.pos_dropout.p, attention.dropout.p = 0.3, 0.0
    assert not torch.isclose(outcomes[0], without_positions).all()
    assert not torch.isclose(outcomes[0], model(batch)).all()


def test_gradient_checkpointing_changes_no_gradient(folders):
    """The backward pass repeats each layer with its prompts and with the same dropout masks."""
    batch, gradients = batch_of("tagging"), []
    for recomputes in (False, True):
        seed_everything(5)
        made = settings(kind="tagging", dropout=0.1, prompt_length=LENGTH, gradient_checkpointing=recomputes)
        model = build(folders["v3"], made, touched=None).train()
        part("tagging", "model").loss(model(batch), batch).backward()
        gradients.append(model.prompts.vectors.grad)
    assert gradients[0].abs().max() > 1e-5
    assert torch.equal(*gradients)

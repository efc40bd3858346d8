"""Training: what stays frozen, what changes and by which rule, and that equal runs give equal results."""

import contextlib
import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from safetensors.torch import load_file, save_file
from scipy.stats import chisquare
from tiny import (
    CONFIGURATIONS,
    LABELS,
    PADDING,
    VOCABULARY,
    in_memory,
    level_of,
    outputs_of,
    random_columns,
    random_tokens,
)
from tiny import settings as tiny_settings
from transformers import AutoConfig, AutoModel

from workflow_scripts.core.errors import Interrupted, UserError
from workflow_scripts.kinds import part
from workflow_scripts.kinds.tagging import model as tagging
from workflow_scripts.kinds.tokens import Tokens
from workflow_scripts.tuning import device, gradients
from workflow_scripts.tuning.acceleration.dropout import (
    ZEROS,
    Dropout,
    drop,
    dropout_state,
    mark_dropped,
    random_words,
    restore_dropout,
    seed_dropout,
)
from workflow_scripts.tuning.acceleration.embedding import ids_in
from workflow_scripts.tuning.batches import Samples, prediction_batches, training_batches
from workflow_scripts.tuning.checkpoint import Checkpoint
from workflow_scripts.tuning.device import find_precision, seed_everything
from workflow_scripts.tuning.loop import (
    Evaluation,
    Outcome,
    Schedule,
    TrainingResult,
    Validated,
    kept_evaluations,
    learning_rate_factor,
    train,
)
from workflow_scripts.tuning.model import TunedModel, build, build_together, restore
from workflow_scripts.tuning.predict import evaluate, logits, predict
from workflow_scripts.tuning.prompts import Prompts
from workflow_scripts.tuning.settings import TrainingSettings

CPU = torch.device("cpu")
KINDS = tuple(LABELS)
METHODS = ("fine_tuning", "prompt_tuning")


def built(folder: Path, settings: TrainingSettings, tokens: Tokens) -> TunedModel:
    """The initial model of the step `train`."""
    seed_everything(settings.seed)
    return build(folder, settings, ids_in(tokens))


def nothing_to_validate(model: TunedModel) -> Validated:
    return Validated({"accuracy": 50.0}, 1.0)


def train_together(models, tokens, settings, learning_rates, validate=nothing_to_validate) -> TrainingResult:
    with tempfile.TemporaryDirectory() as folder:  # a new folder, so that no training resumes from another's checkpoint
        checkpoint = Checkpoint(Path(folder), "key", every=60)
        return train(models, tokens, settings, learning_rates, validate, checkpoint, CPU)


def tune(model, tokens, settings, learning_rate=1e-2, validate=nothing_to_validate) -> Outcome:
    return train_together([model], tokens, settings, [learning_rate], validate).outcomes[0]


def tuned(folder: Path, settings: TrainingSettings, tokens: Tokens, **options: Any) -> Outcome:
    return tune(built(folder, settings, tokens), tokens, settings, **options)


def equal(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


# What stays frozen, and what changes


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["bert", "xlm-roberta", "modernbert"])
def test_a_frozen_encoder_is_unchanged_bit_for_bit(encoders, name, precision):
    settings = tiny_settings(kind="tagging", dropout=0.1, precision=precision)
    tokens = random_tokens("tagging", 60)
    file = encoders[name] / "model.safetensors"
    stored = hashlib.sha256(file.read_bytes()).digest()
    model = built(encoders[name], settings, tokens)
    encoder = {name: tensor.clone() for name, tensor in model.encoder.state_dict().items()}
    before = {name: tensor.clone() for name, tensor in model.tuned_tensors().items()}
    tune(model, tokens, settings, learning_rate=0.1)
    assert equal(model.encoder.state_dict(), encoder)
    assert hashlib.sha256(file.read_bytes()).digest() == stored
    for name, tensor in model.tuned_tensors().items():
        assert not torch.isclose(tensor, before[name]).all(), name


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_fine_tuning_changes_every_tensor_that_it_unfreezes(encoders, name, precision):
    """A tensor without a gradient would be counted as tuned and stored although it has not changed."""
    settings = tiny_settings(kind="classification", method="fine_tuning", precision=precision, epochs=1)
    tokens = random_tokens("classification", 40)
    model = built(encoders[name], settings, tokens)
    before = {name: tensor.clone() for name, tensor in model.tuned_tensors().items()}
    outcome = tune(model, tokens, settings, learning_rate=1e-2)
    assert not outcome.problem
    still = [name for name, tensor in outcome.weights().items() if torch.equal(tensor, before[name])]
    assert [name for name in still if not name.endswith(".touched")] == []


def word_vectors(model: TunedModel) -> torch.Tensor:
    """(vocabulary, width), as a prediction sees them."""
    return model.encoder.eval().get_input_embeddings()(torch.arange(VOCABULARY)).detach()


@pytest.mark.parametrize("padding_in_texts", [False, True])
@pytest.mark.parametrize("name", ["bert", "xlm-roberta", "modernbert"])
def test_training_the_touched_rows_only_gives_the_weights_of_the_whole_table(encoders, name, padding_in_texts):
    """Five steps in float32. The padding row is never trained, even if its id occurs in a text."""
    columns = random_columns("tagging", 40)
    if padding_in_texts:
        for ids in columns["input_ids"][::3]:
            ids[2] = PADDING
    tokens = in_memory(columns)
    settings = tiny_settings(kind="tagging", method="fine_tuning", epochs=1)
    table = word_vectors(built(encoders[name], settings, tokens)).clone()

    def after_training(touched: torch.Tensor | None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        seed_everything(settings.seed)
        model = build(encoders[name], settings, touched)
        assert train_together([model], tokens, settings, [1e-3]).state.step == 5
        words = {id(parameter) for parameter in model.encoder.get_input_embeddings().parameters()}
        rest = {key: value for key, value in model.tuned_parameters().items() if id(value) not in words}
        return word_vectors(model), rest

    few, few_rest = after_training(ids_in(tokens))
    all_, all_rest = after_training(None)
    torch.testing.assert_close(few, all_, rtol=0, atol=1e-6)
    assert few_rest.keys() == all_rest.keys()
    for key, tensor in few_rest.items():
        torch.testing.assert_close(tensor, all_rest[key], rtol=0, atol=1e-6)
    moved = (few != table).any(1)
    assert not moved[PADDING]
    expected = torch.zeros(VOCABULARY, dtype=torch.bool)
    expected[ids_in(tokens)] = True
    expected[PADDING] = False
    assert torch.equal(moved, expected)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("method", ["fine_tuning", "prompt_tuning", "input_prompt_tuning"])
def test_a_job_that_keeps_the_rows_of_its_texts_trains_to_the_same_bits(encoders, method, weight_decay):
    settings = tiny_settings(method=method, epochs=1, weight_decay=weight_decay, prompt_length=4)
    tokens = random_tokens("classification", 20)
    found = []
    for ids in (None, ids_in(tokens)):
        (model,) = build_together(encoders["xlm-roberta"], settings, ids_in(tokens), 1, ids)
        found.append(tune(model, tokens, settings).weights())
    assert equal(*found)


def test_with_weight_decay_the_whole_table_is_trained(encoders):
    """Rows without a gradient shrink then, so skipping them would not be exact."""
    settings = tiny_settings(method="fine_tuning", weight_decay=0.1, epochs=1)
    tokens = random_tokens("classification", 20)
    model = built(encoders["bert"], settings, tokens)
    before = word_vectors(model).clone()
    tune(model, tokens, settings)
    after = word_vectors(model)
    untouched = sorted(set(range(VOCABULARY)) - set(ids_in(tokens).tolist()) - {PADDING})
    assert (after[untouched].abs() < before[untouched].abs()).all()


@pytest.mark.parametrize("method", ["fine_tuning", "prompt_tuning"])
def test_a_model_can_be_moved_to_another_device_as_a_whole(encoders, method):
    """`to` moves parameters and buffers; a tensor that is a plain attribute would stay on the CPU."""
    model = built(encoders["bert"], tiny_settings(method=method), random_tokens("classification", 8))
    plain = [name for module in model.modules() for name, value in vars(module).items() if torch.is_tensor(value)]
    assert plain == []


# Dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.1, 0.2, 0.5, 0.9])
def test_dropout_keeps_its_share_and_scales_the_rest(probability, dtype):
    seed_dropout(1)
    dropped = drop(torch.ones(100_001, dtype=dtype), probability)
    kept = dropped != 0
    error = math.sqrt(probability * (1 - probability) / len(kept))
    assert kept.float().mean().item() == pytest.approx(1 - probability, abs=4 * error)
    assert dropped.dtype == dtype
    assert (dropped[kept] == torch.tensor(1 / (1 - probability), dtype=dtype)).all()


def test_dropout_with_probability_0_changes_nothing():
    values = torch.randn(1000)
    assert torch.equal(drop(values, 0.0), values)
    layer = Dropout(0.5)
    assert not torch.equal(layer.train()(values), values)
    assert torch.equal(layer.eval()(values), values)


def test_the_gradient_of_dropout_is_its_mask():
    seed_dropout(2)
    values = torch.randn(64, 33, requires_grad=True)
    dropped = drop(values, 0.3)
    weights = torch.randn(64, 33)
    (dropped * weights).sum().backward()
    expected = torch.where(dropped == 0, 0.0, weights / (1 - 0.3))
    torch.testing.assert_close(values.grad, expected)


def test_the_same_seed_gives_the_same_masks_and_another_seed_others():
    def masks(seed: int) -> torch.Tensor:
        seed_dropout(seed)
        return torch.stack([drop(torch.ones(1001), 0.5) for _ in range(3)])

    assert torch.equal(masks(4), masks(4))
    assert not torch.equal(masks(4), masks(5))
    assert not torch.equal(masks(4)[0], masks(4)[1])


def test_the_sequence_of_masks_continues_from_where_it_was_saved():
    seed_dropout(6)
    drop(torch.ones(17), 0.5)
    state = dropout_state()
    expected = [drop(torch.ones(501), 0.5) for _ in range(3)]
    seed_dropout(7)
    for _ in range(2):  # a state can be restored more than once
        restore_dropout(state)
        assert all(torch.equal(drop(torch.ones(501), 0.5), mask) for mask in expected)


def test_random_numbers_are_the_key_stream_of_the_counter_mode():
    """NIST SP 800-38D: the nonce, then a four-byte counter that begins at 2; over more than one block of ZEROS."""
    seed_dropout(3)
    drop(torch.ones(5), 0.5)
    count = len(ZEROS) + 3
    key = np.random.SeedSequence(3).generate_state(4).tobytes()
    first = (1).to_bytes(12, "little") + (2).to_bytes(4, "big")
    stream = Cipher(AES(key), CTR(first)).encryptor().update(bytes(2 * count))
    assert torch.equal(random_words(count), torch.from_numpy(np.frombuffer(stream, np.int16).copy()))


@pytest.mark.parametrize("ours", [True, False])
def test_masks_are_distributed_as_independent_draws(ours):
    """All 256 patterns of eight neighbours, in 400,000 draws; PyTorch's masks pass the same test."""
    seed_everything(8)
    probability, values = 0.3, torch.ones(400_000, 8)
    dropped = drop(values, probability) if ours else torch.nn.functional.dropout(values, probability)
    kept = (dropped != 0).numpy()
    patterns = np.bincount(kept @ (1 << np.arange(8)), minlength=256)
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    expected = np.where(bits, 1 - probability, probability).prod(1) * len(kept)
    assert chisquare(patterns, expected * patterns.sum() / expected.sum()).pvalue > 0.001


@pytest.mark.parametrize("name", ["bert", "xlm-roberta", "modernbert"])
def test_dropout_acts_where_the_librarys_does(encoders, name):
    """3,000 copies of a text with independent masks: each number's mean and deviation agree with the library's."""
    batch = {"input_ids": torch.tensor([[0, 11, 23, 42, 17, 2]]).repeat(3000, 1)}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    config = AutoConfig.from_pretrained(encoders[name])
    for key in [key for key in vars(config) if key.endswith(("dropout", "dropout_prob"))]:
        setattr(config, key, 0.1)
    theirs = AutoModel.from_pretrained(encoders[name], config=config, attn_implementation="eager").train()
    seed_everything(9)
    settings = tiny_settings(kind="tagging", method="fine_tuning", dropout=0.1)
    ours = build(encoders[name], settings, touched=None).encoder.train()
    one, other = (encoder(**batch).last_hidden_state.detach() for encoder in (ours, theirs))
    error = ((one.var(0) + other.var(0)) / len(one)).sqrt()
    assert ((one.mean(0) - other.mean(0)).abs() / error).max() < 5
    assert one.std(0).min() > 0.01
    torch.testing.assert_close(one.std(0), other.std(0), rtol=0.15, atol=0.01)


def test_prompts_have_dropout_in_training_only(encoders):
    model = built(encoders["bert"], tiny_settings(), random_tokens("classification", 4))
    model.prompts = Prompts(model.encoder, length=4, std=1.0, dropout=0.5)
    batch = {"input_ids": torch.tensor([[0, 11, 23, 2]]), "attention_mask": torch.ones(1, 4, dtype=torch.int64)}
    model.train()
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))


# The learning rate and the kept epoch


def factors(steps: int, an_epoch: int, **changes: Any) -> list[float]:
    made = tiny_settings(**changes)
    return [learning_rate_factor(made, step, steps, an_epoch) for step in range(steps)]


def test_the_linear_schedule_would_reach_0_after_the_last_step():
    assert factors(4, 2, schedule="linear") == [1, 0.75, 0.5, 0.25]


def test_the_exponential_schedule_falls_once_an_epoch():
    assert factors(6, 2, schedule="exponential", decay=0.5) == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_the_constant_schedule_is_constant():
    assert factors(3, 1, schedule="constant") == [1, 1, 1]


def test_the_learning_rate_warms_up_to_its_highest():
    assert factors(6, 6, schedule="linear", warmup=1 / 3) == [0.5, 1, 1, 0.75, 0.5, 0.25]
    assert factors(4, 4, schedule="constant", warmup=0.5) == [0.5, 1, 1, 1]
    assert factors(10, 10, schedule="linear", warmup=0.99)[-1] == 1


@pytest.mark.parametrize("schedule", ["linear", "exponential"])
def test_training_follows_the_schedule(encoders, schedule):
    settings = tiny_settings(schedule=schedule, epochs=3, batch_size=4)
    lines = tuned(encoders["bert"], settings, random_tokens("classification", 40), learning_rate=0.02).lines
    assert [line["step"] for line in lines] == [10, 20, 30]
    expected = factors(30, 10, schedule=schedule)
    assert [line["learning_rate"] for line in lines] == [
        pytest.approx(0.02 * expected[step - 1]) for step in (10, 20, 30)
    ]


def evaluation(step: int, metric: float, loss: float = 1.0) -> Evaluation:
    metrics = {"f1": metric, "accuracy": 100.0 - metric}
    return Evaluation(step, step / 10, metrics, loss, training_loss=0.0, gradient_norm=1.0)


def kept_steps(evaluations: list[Evaluation], keep: str, averaged: int = 2) -> list[int]:
    return [one.step for one in kept_evaluations(evaluations, keep, averaged)]


def test_the_evaluations_with_the_best_main_metric_the_lowest_loss_or_the_last_are_kept():
    evaluations = [evaluation(1, 50, 0.4), evaluation(2, 70, 0.6), evaluation(3, 40, 0.5), evaluation(4, 60, 0.5)]
    assert kept_steps(evaluations, "best_metric") == [2]
    assert kept_steps(evaluations, "best_loss") == [1]
    assert kept_steps(evaluations, "last") == [4]
    assert kept_steps(evaluations, "average") == [3, 4]
    assert kept_steps(evaluations, "average_best") == [2, 4]
    assert kept_steps(evaluations, "average", averaged=9) == [1, 2, 3, 4]


def test_of_equal_evaluations_the_earlier_is_kept():
    evaluations = [evaluation(1, 50, 0.6), evaluation(2, 70, 0.4), evaluation(3, 70, 0.4)]
    assert kept_steps(evaluations, "best_metric") == kept_steps(evaluations, "best_loss") == [2]


@pytest.mark.parametrize(("keep", "kept"), [("best_metric", 2), ("best_loss", 1), ("last", 3)])
@pytest.mark.parametrize("method", METHODS)
def test_the_kept_weights_are_those_of_the_kept_epoch(encoders, method, keep, kept):
    settings = tiny_settings(method=method, keep=keep, epochs=3)
    tokens = random_tokens("classification", 16)
    model = built(encoders["bert"], settings, tokens)
    seen: list[dict[str, torch.Tensor]] = []

    def validate(model: TunedModel) -> Validated:
        seen.append({name: tensor.clone() for name, tensor in model.tuned_tensors().items()})
        return Validated({"accuracy": (10.0, 30.0, 20.0)[len(seen) - 1]}, (0.1, 0.3, 0.2)[len(seen) - 1])

    outcome = tune(model, tokens, settings, validate=validate)
    assert [one.epoch for one in outcome.kept] == [kept]
    assert [equal(outcome.weights(), tensors) for tensors in seen] == [number == kept for number in (1, 2, 3)]


def validated_as(*metrics: float):
    """A validation with these metrics, one after the other."""
    left = list(metrics)
    return lambda model: Validated({"accuracy": left.pop(0)}, 1.0)


def test_a_training_is_evaluated_after_so_many_steps_and_at_its_end(encoders):
    settings = tiny_settings(batch_size=4, epochs=2, max_steps=7, evaluate_every=3)
    outcome = tuned(encoders["bert"], settings, random_tokens("classification", 18))  # 5 steps an epoch
    assert [(one.step, one.epoch) for one in outcome.evaluations] == [(3, 0.6), (6, 1.2), (7, 1.4)]


def test_the_number_of_steps_ends_the_schedule_too():
    settings = tiny_settings(batch_size=4, epochs=2, max_steps=7, warmup=0.0)
    schedule = Schedule(settings, samples=18)
    assert (schedule.steps_an_epoch, schedule.steps) == (5, 7)
    assert [schedule.learning_rate_factor(step) for step in (0, 6)] == [1.0, pytest.approx(1 / 7)]
    assert Schedule(settings.changed(max_steps=70), samples=18).steps == 10


@pytest.mark.parametrize(("share", "step"), [(0.01, 2), (0.2, 2), (0.23, 4), (0.5, 6), (0.9, 9), (1.0, 9)])
def test_a_share_of_the_steps_ends_at_the_next_evaluation(share, step):
    settings = tiny_settings(batch_size=4, epochs=3, evaluate_every=2)
    assert Schedule(settings, samples=12).evaluation_at(share) == step  # 9 steps


@pytest.mark.parametrize(
    ("metrics", "taken"),
    [((50, 60, 60, 55), 4), ((50, 50, 50), 3), ((10, 20, 30, 40, 50, 60), 6), ((60, 50, 70, 70, 69), 5)],
)
def test_a_training_stops_after_so_many_evaluations_without_a_gain(encoders, metrics, taken):
    settings = tiny_settings(epochs=6, patience=2)
    outcome = tuned(encoders["bert"], settings, random_tokens("classification", 8), validate=validated_as(*metrics))
    assert len(outcome.evaluations) == taken
    assert (outcome.stopped == "no gain in 2 evaluations") == (taken < 6)


def test_a_model_that_stops_early_leaves_the_others_as_they_are(encoders):
    settings = tiny_settings(epochs=4, patience=1, evaluate_every=None)
    tokens = random_tokens("classification", 12)
    values = {0: iter((50, 40)), 1: iter((10, 20, 30, 40))}
    models = build_together(encoders["bert"], settings, None, 2)

    def validate(model: TunedModel) -> Validated:
        return Validated({"accuracy": next(values[models.index(model)])}, 1.0)

    first, second = train_together(models, tokens, settings, [1e-2, 1e-3], validate).outcomes
    assert (len(first.evaluations), len(second.evaluations)) == (2, 4)
    alone = tune(
        build_together(encoders["bert"], settings, None, 1)[0], tokens, settings, 1e-3, validated_as(1, 2, 3, 4)
    )
    for name, tensor in second.weights().items():
        torch.testing.assert_close(tensor, alone.weights()[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("keep", "kept"), [("average", (3, 4)), ("average_best", (1, 3))])
@pytest.mark.parametrize("method", METHODS)
def test_averaged_weights_are_the_mean_of_those_of_the_kept_evaluations(encoders, method, keep, kept):
    settings = tiny_settings(method=method, keep=keep, averaged=2, epochs=4)
    tokens = random_tokens("classification", 16)
    seen: list[dict[str, torch.Tensor]] = []
    values = iter((40, 10, 30, 20))

    def validate(model: TunedModel) -> Validated:
        seen.append({name: tensor.clone() for name, tensor in model.tuned_tensors().items()})
        return Validated({"accuracy": next(values)}, 1.0)

    outcome = tuned(encoders["bert"], settings, tokens, validate=validate)
    assert tuple(one.step // 2 for one in outcome.kept) == kept
    for name, tensor in outcome.weights().items():
        expected = torch.stack([seen[number - 1][name].double() for number in kept]).mean(0)
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-7)


# Batches

LENGTHS = np.random.default_rng(0).integers(5, 129, 3001)


def test_every_feature_comes_once_an_epoch():
    batches = training_batches(LENGTHS, 32, seed=1, epoch=1)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(LENGTHS)))
    sizes = sorted(map(len, batches))
    assert sizes[0] == len(LENGTHS) % 32
    assert set(sizes[1:]) == {32}


@pytest.mark.parametrize(("features", "size"), [(1, 8), (8, 8), (9, 8), (400, 8), (401, 8), (5, 1)])
def test_there_are_as_many_batches_as_the_schedule_counts(features, size):
    batches = training_batches(LENGTHS[:features], size, seed=1, epoch=1)
    assert len(batches) == math.ceil(features / size)
    assert sorted(np.concatenate(batches).tolist()) == list(range(features))


def test_batches_depend_on_seed_and_epoch_alone():
    def batches(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in training_batches(LENGTHS, 32, seed, epoch)]

    assert batches(1, 1) == batches(1, 1)
    assert batches(1, 1) != batches(1, 2)
    assert batches(1, 1) != batches(2, 1)
    # Also which features meet in one batch changes, not only the order of the batches.
    assert len({frozenset(batch) for batch in batches(1, 1)} & {frozenset(batch) for batch in batches(1, 2)}) == 0


def padded(parts: list[np.ndarray]) -> int:
    """Tokens of the parts, padding included."""
    return sum(len(part) * int(LENGTHS[part].max()) for part in parts)


def test_a_batch_holds_all_lengths_and_splits_into_parts_of_similar_length():
    batches = training_batches(LENGTHS, 32, seed=1, epoch=1)
    parts = [part for batch in batches for part in np.array_split(batch, 4)]
    assert padded(parts) < 1.05 * LENGTHS.sum() < 0.7 * padded(batches)
    # The mean length varies no more than that of 32 features drawn independently.
    means = np.array([LENGTHS[batch].mean() for batch in batches if len(batch) == 32])
    assert means.std() < LENGTHS.std() / np.sqrt(32)
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3, "the length drifts in an epoch"


@pytest.mark.parametrize("size", [1, 2, 3, 6, 10, 11])
def test_batches_of_any_size_have_little_padding_in_their_parts(size):
    batches = training_batches(LENGTHS, size, seed=1, epoch=1)
    assert [len(batch) for batch in batches].count(size) >= len(LENGTHS) // size
    assert (
        padded([part for batch in batches for part in np.array_split(batch, min(4, len(batch)))]) < 1.15 * LENGTHS.sum()
    )


def test_prediction_begins_with_the_longest_texts():
    batches = list(prediction_batches(LENGTHS, 64))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(LENGTHS)))
    assert LENGTHS[np.concatenate(batches)].tolist() == sorted(LENGTHS.tolist(), reverse=True)


# Prediction


def rows_for(kind: str, columns) -> list[dict[str, Any]]:
    """Rows as long as the random features, under ids that are not in their order."""
    rows = []
    for number in range(columns["row"][-1] + 1):
        ids = columns["input_ids"][columns["row"].index(number)]
        row: dict[str, Any] = {"id": f"row-{(number * 7) % 100}-{number}"}
        if kind == "multiple_choice":
            row["choices"] = ["choice"] * columns["row"].count(number)
        elif kind in ("tagging", "entities"):
            row["tokens"] = ["word"] * (len(ids) - 2)
        else:
            row["context"] = "".join(chr(97 + token % 26) for token in ids[1:-1])
        rows.append(row)
    return rows


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_predictions_do_not_depend_on_the_batches(encoders, monkeypatch, kind, method):
    columns = random_columns(kind, 90)
    rows = rows_for(kind, columns)
    settings = tiny_settings(kind=kind, method=method)
    model = built(encoders["xlm-roberta"], settings, in_memory(columns))
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))  # so that not all texts get the same label
    order = np.random.default_rng(1).permutation(90)
    permuted = {name: [values[index] for index in order] for name, values in columns.items()}

    expected = predict(model, in_memory(columns), rows, settings, CPU)
    values = logits(model, in_memory(columns), settings.precision, CPU)
    assert list(expected) == [row["id"] for row in rows]
    assert len(set(map(str, expected.values()))) > 1
    for size in (1, 7, 64, 1000):
        monkeypatch.setattr("workflow_scripts.tuning.predict.BATCH_SIZE", size)
        found = predict(model, in_memory(permuted), rows, settings, CPU)
        assert list(found) == list(expected)
        assert found == (pytest.approx(expected, rel=1e-4) if kind == "regression" else expected)
        again = logits(model, in_memory(permuted), settings.precision, CPU)
        for index, feature in zip(order, again, strict=True):
            np.testing.assert_allclose(feature, values[index], rtol=1e-5, atol=1e-5)


def test_an_automatic_precision_is_the_one_whose_products_are_faster(monkeypatch):
    assert find_precision("auto", CPU) in ("bfloat16", "float32")
    for faster, slower in (("bfloat16", "float32"), ("float32", "bfloat16")):
        monkeypatch.setattr(device, "product_seconds", lambda found={faster: 0.001, slower: 0.002}: found)
        assert find_precision("auto", CPU) == faster
        assert find_precision(slower, CPU) == slower


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_float32_and_end_where_the_feature_ends(encoders, kind):
    tokens = random_tokens(kind, 20)
    settings = tiny_settings(kind=kind, precision="bfloat16")
    outputs = outputs_of(kind)
    values = logits(built(encoders["bert"], settings, tokens), tokens, settings.precision, CPU)
    lengths = tokens.ragged("input_ids").lengths()
    shapes = [(outputs,)] * 20 if level_of(kind) == "sequence" else [(length, outputs) for length in lengths]
    assert [feature.shape for feature in values] == shapes
    assert {feature.dtype for feature in values} == {np.dtype("float32")}


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_predicts_the_same_with_a_loss_that_does_not_depend_on_the_batches(encoders, monkeypatch, kind):
    columns = random_columns(kind, 30)
    rows, settings, tokens = rows_for(kind, columns), tiny_settings(kind=kind), in_memory(columns)
    model = built(encoders["bert"], settings, tokens)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.copy_(torch.randn_like(parameter))
    predictions, loss = evaluate(model, tokens, rows, settings, CPU)
    assert predictions == predict(model, tokens, rows, settings, CPU)
    for size in (1, 7):
        monkeypatch.setattr("workflow_scripts.tuning.predict.BATCH_SIZE", size)
        assert evaluate(model, tokens, rows, settings, CPU)[1] == pytest.approx(loss, abs=1e-5)


# Runs


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_run_gives_identical_logits_when_restored(encoders, tmp_path, kind, method, precision):
    settings = tiny_settings(kind=kind, method=method, precision=precision, dropout=0.1)
    tokens, others = random_tokens(kind, 40), random_tokens(kind, 30, seed=5)
    model = built(encoders["xlm-roberta"], settings, tokens)
    outcome = tune(model, tokens, settings)
    save_file(outcome.weights(), tmp_path / "weights.safetensors")
    seed_everything(99)  # initial values must not matter
    again = restore(encoders["xlm-roberta"], settings, load_file(tmp_path / "weights.safetensors"))
    for one, other in zip(
        logits(model, others, settings.precision, CPU), logits(again, others, settings.precision, CPU), strict=True
    ):
        assert np.array_equal(one, other)


def test_weights_of_prompt_tuning_are_prompts_and_head_alone(encoders):
    outcome = tuned(encoders["bert"], tiny_settings(), random_tokens("classification", 16))
    assert sum(tensor.numel() for tensor in outcome.weights().values()) == 3 * 2 * 4 * 32 + (32 + 1) * 3


@pytest.mark.parametrize("method", METHODS)
def test_weights_that_are_not_of_the_run_are_refused(encoders, method):
    settings = tiny_settings(method=method)
    tensors = tuned(encoders["bert"], settings, random_tokens("classification", 16)).weights()
    names = [name for name in tensors if not name.endswith(".touched")]
    other = "prompt_tuning" if method == "fine_tuning" else "fine_tuning"
    cases = {
        "one is missing": ({name: tensor for name, tensor in tensors.items() if name != names[-1]}, {}),
        "one is too many": (tensors | {"another": torch.zeros(3)}, {}),
        "another shape": (tensors | {names[-1]: torch.zeros(7, 7)}, {}),
        "another method": (tensors, {"method": other, "prompt_length": 4 if other == "prompt_tuning" else 0}),
        "another kind": (tensors, {"kind": "tagging", "labels": LABELS["tagging"]}),
        "nothing": ({}, {}),
    }
    for case, (found, changes) in cases.items():
        with pytest.raises(UserError, match="do not fit") as refusal:
            restore(encoders["bert"], settings.changed(**changes), found)
        assert "\n" not in str(refusal.value), case


def test_weights_of_an_encoder_with_a_larger_vocabulary_are_refused(encoders):
    settings = tiny_settings(method="fine_tuning")
    tensors = tuned(encoders["bert"], settings, random_tokens("classification", 16)).weights()
    (name,) = [name for name in tensors if name.endswith(".touched")]
    foreign = tensors | {name: tensors[name] + VOCABULARY}
    with pytest.raises(UserError):
        restore(encoders["bert"], settings, foreign)


def test_texts_and_prompts_need_positions(encoders):
    tokens = random_tokens("classification", 4)
    built(encoders["bert"], tiny_settings(max_length=56), tokens)
    with pytest.raises(UserError, match=r"tasks\.xnli\.max_length 57 and prompt length 4 need 61 positions.* has 60"):
        built(encoders["bert"], tiny_settings(max_length=57), tokens)


@pytest.mark.parametrize("name", list(CONFIGURATIONS))
def test_the_longest_text_that_is_allowed_can_be_encoded(encoders, name):
    """RoBERTa's family does not use the positions up to the padding id."""
    available = json.loads((encoders[name] / "encoder.json").read_text())["positions"]
    method = "fine_tuning" if name in ("albert", "mpnet") else "prompt_tuning"
    length = available if method == "fine_tuning" else available - 4
    settings = tiny_settings(method=method, max_length=length)
    ids = torch.full((1, length), 7)
    model = build(encoders[name], settings, touched=None).eval()
    assert model({"input_ids": ids, "attention_mask": torch.ones_like(ids)}).isfinite().all()
    with pytest.raises(UserError, match="positions"):
        build(encoders[name], settings.changed(max_length=length + 1), touched=None)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_two_trainings_with_the_same_settings_give_the_same_bits(encoders, kind, method):
    settings = tiny_settings(kind=kind, method=method, dropout=0.1, precision="bfloat16")
    tokens = random_tokens(kind, 50)

    first, second, third = (tuned(encoders["bert"], settings.changed(seed=seed), tokens) for seed in (7, 7, 8))
    assert equal(first.weights(), second.weights())
    assert first.lines == second.lines
    assert first.evaluations == second.evaluations
    for name, tensor in third.weights().items():
        assert name.endswith(".touched") or not torch.equal(tensor, first.weights()[name])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_training_learns_what_can_be_learnt(encoders, kind, method):
    settings = tiny_settings(kind=kind, method=method, epochs=8, prompt_length=8)
    columns = random_columns(kind, 120, longest=6)
    tokens, rows = in_memory(columns), rows_for(kind, columns)
    model = built(encoders["bert"], settings, tokens)
    _, before = evaluate(model, tokens, rows, settings, CPU)
    trained = train_together([model], tokens, settings, [3e-3 if method == "fine_tuning" else 3e-2])
    (outcome,) = trained.outcomes
    _, after = evaluate(model, tokens, rows, settings, CPU)
    assert after < 0.9 * before
    assert trained.state.examples == 8 * len(rows)
    assert not outcome.problem
    assert [found.training_loss for found in outcome.evaluations][-1] < outcome.evaluations[0].training_loss


# Training that diverges


@pytest.mark.parametrize("keep", ["best_metric", "best_loss", "last"])
@pytest.mark.parametrize("method", METHODS)
def test_a_nan_loss_is_a_problem_and_its_weights_are_not_kept(encoders, method, keep):
    settings = tiny_settings(kind="tagging", method=method, keep=keep, epochs=3, schedule="constant")
    outcome = tuned(encoders["bert"], settings, random_tokens("tagging", 40), learning_rate=1e30)
    assert "nan" in outcome.problem
    assert outcome.weights() == {}


@pytest.mark.parametrize("keep", ["best_metric", "best_loss", "last"])
def test_an_epoch_that_ends_in_nan_is_not_kept(encoders, keep):
    """A step's loss is computed before its update: the last update of an epoch shows only in the validation."""
    settings = tiny_settings(kind="tagging", keep=keep, epochs=1, batch_size=40)
    columns = random_columns("tagging", 40)
    tokens = in_memory(columns)

    def validate(model: TunedModel) -> Validated:
        _, loss = evaluate(model, tokens, rows_for("tagging", columns), settings, CPU)
        return Validated({"f1": 50.0}, loss)

    outcome = tuned(encoders["bert"], settings, tokens, learning_rate=1e38, validate=validate)
    assert outcome.problem
    assert all(tensor.isfinite().all() for tensor in outcome.weights().values())


def test_weights_from_before_the_loss_became_nan_are_kept_with_the_problem(encoders, monkeypatch):
    settings = tiny_settings(kind="tagging", epochs=3, keep="best_metric")
    tokens = random_tokens("tagging", 24)
    good = tuned(encoders["bert"], settings.changed(epochs=1, schedule="constant"), tokens)
    losses = [1.0] * 4 + [math.nan] * 5  # the loss becomes NaN in the second step of the second epoch
    loss = tagging.loss
    monkeypatch.setattr(tagging, "loss", lambda *arguments: loss(*arguments) * losses.pop(0))
    outcome = tuned(encoders["bert"], settings.changed(schedule="constant"), tokens)
    assert "nan in epoch 2" in outcome.problem
    assert len(outcome.kept) == len(outcome.evaluations) == 1
    assert equal(outcome.weights(), good.weights())
    assert len(losses) == 3  # no third epoch


def test_a_gradient_that_explodes_is_a_problem_and_training_continues(encoders, monkeypatch):
    settings = tiny_settings(kind="tagging", epochs=2, batch_size=2, schedule="constant")
    tokens = random_tokens("tagging", 24)
    factors = [1.0] * 17 + [1e5] + [1.0] * 6  # the sixth step of the second epoch
    loss = tagging.loss
    monkeypatch.setattr(tagging, "loss", lambda *arguments: loss(*arguments) * factors.pop(0))
    outcome = tuned(encoders["bert"], settings, tokens, learning_rate=1e-6)
    assert "exploded in epoch 2" in outcome.problem
    assert len(outcome.evaluations) == 2 and not outcome.diverged
    assert outcome.evaluations[1].gradient_norm > 1000 * outcome.evaluations[0].gradient_norm


def test_a_gradient_that_is_not_finite_ends_the_training(encoders, monkeypatch):
    """In the last step of the epoch, before any loss can show it."""
    settings = tiny_settings(kind="tagging", epochs=2)
    loss, calls = tagging.loss, []

    def with_an_endless_slope(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The same number; the root's slope at 0 is infinite."""
        calls.append(1)
        return (
            loss(logits, batch) + (logits - logits.detach()).abs().sum().sqrt()
            if len(calls) == 3
            else loss(logits, batch)
        )

    monkeypatch.setattr(tagging, "loss", with_an_endless_slope)
    outcome = tuned(encoders["bert"], settings, random_tokens("tagging", 24))
    assert outcome.diverged
    assert "gradient's norm became" in outcome.problem


# Several models on one frozen encoder

RATES = [1e-2, 3e-3, 1e-4]


def assert_same_weights(some: Outcome, others: Outcome, kind: str) -> None:
    """Within 1e-4. The last bias of a head is skipped where the loss compares its outputs: a constant on every token or
    choice changes no loss, so that its gradient consists of rounding errors, which Adam scales up like any other.
    """
    compared = kind in ("question_answering", "multiple_choice")
    assert some.weights().keys() == others.weights().keys()
    for name in some.weights():
        if not (compared and name in ("head.1.bias", "head.4.bias")):
            torch.testing.assert_close(some.weights()[name], others.weights()[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["bert", "xlm-roberta", "modernbert"])
def test_candidates_trained_together_equal_each_trained_alone(encoders, name, kind):
    settings = tiny_settings(kind=kind, epochs=2)
    columns = random_columns(kind, 40)
    tokens, rows = in_memory(columns), rows_for(kind, columns)

    def validate(model: TunedModel) -> Validated:
        return Validated({"score": 50.0}, evaluate(model, tokens, rows, settings, CPU)[1])

    models = build_together(encoders[name], settings, None, len(RATES))
    together = train_together(models, tokens, settings, RATES, validate)
    for rate, found in zip(RATES, together.outcomes, strict=True):
        (model,) = build_together(encoders[name], settings, None, 1)
        alone = tune(model, tokens, settings, rate, validate)
        assert_same_weights(found, alone, kind)
        for here, there in zip(found.evaluations, alone.evaluations, strict=True):
            assert here.validation_loss == pytest.approx(there.validation_loss, abs=1e-4)
            assert here.gradient_norm == pytest.approx(there.gradient_norm, rel=1e-3)
        assert [line["learning_rate"] for line in found.lines] == [line["learning_rate"] for line in alone.lines]
    first, *others = (outcome.weights()["prompts.vectors"] for outcome in together.outcomes)
    assert not any(torch.allclose(first, other, atol=1e-3) for other in others)


def test_candidates_share_one_encoder(encoders):
    first, second = build_together(encoders["bert"], tiny_settings(), None, 2)
    assert first.encoder is second.encoder
    assert first.prompts.vectors is not second.prompts.vectors
    assert torch.equal(first.prompts.vectors, second.prompts.vectors)  # of one seed


def test_a_candidate_that_diverges_does_not_change_the_others(encoders):
    settings = tiny_settings(kind="tagging", epochs=2, schedule="constant")
    tokens = random_tokens("tagging", 40)
    models = build_together(encoders["bert"], settings, None, 2)
    lost, found = train_together(models, tokens, settings, [1e30, 1e-2]).outcomes
    assert lost.diverged and not found.diverged
    (model,) = build_together(encoders["bert"], settings, None, 1)
    alone = tune(model, tokens, settings, 1e-2)
    for tensor in alone.weights():
        torch.testing.assert_close(found.weights()[tensor], alone.weights()[tensor], rtol=1e-4, atol=1e-4)


def test_each_text_has_its_own_dropout_of_the_prompts(encoders):
    """As in the paper's code, where the prompts are repeated for each text before dropout."""
    seed_everything(0)
    (model,) = build_together(encoders["bert"], tiny_settings(dropout=0.5), None, 1)
    with torch.no_grad():
        model.prompts.vectors.fill_(1.0)
    vectors = model.train().prompts.expanded(texts=6)
    assert vectors.shape == (3, 2, 6, 4, 4, 8)
    assert set(vectors.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(vectors[:, :, 0], vectors[:, :, 1])
    assert torch.equal(model.eval().prompts.expanded(texts=6), torch.ones(3, 2, 6, 4, 4, 8))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_batches_in_parts_give_the_weights_of_whole_batches(encoders, kind, count):
    """Even if the parts have different numbers of targets, and the last one has fewer texts."""
    tokens = random_tokens(kind, 40)

    def after(micro_batch_size: int | None) -> list[Outcome]:
        settings = tiny_settings(kind=kind, micro_batch_size=micro_batch_size)
        models = build_together(encoders["bert"], settings, None, count)
        return train_together(models, tokens, settings, [1e-2, 1e-3][:count]).outcomes

    for whole, parts in zip(after(None), after(3), strict=True):
        assert_same_weights(parts, whole, kind)
        for here, there in zip(whole.evaluations, parts.evaluations, strict=True):
            assert here.training_loss == pytest.approx(there.training_loss, abs=1e-5)
            assert here.gradient_norm == pytest.approx(there.gradient_norm, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["prompt_tuning", "fine_tuning"])
def test_a_frozen_encoder_gets_a_batch_in_parts_of_a_limited_number_of_tokens(encoders, monkeypatch, method, kind):
    """The weights are those of whole batches. For a tuned encoder each part would cost summing its gradients."""
    tokens = random_tokens(kind, 40)
    samples = Samples(tokens, part(kind, "model").TOGETHER)
    count = 2 if method == "prompt_tuning" else 1
    sizes: list[tuple[int, int]] = []
    forward = gradients.forward_together

    def watched(models, batch):
        sizes.append(tuple(batch["input_ids"].shape))
        return forward(models, batch)

    def after(limit: int, **changes: Any) -> list[Outcome]:
        sizes.clear()
        monkeypatch.setitem(gradients.FROZEN_TOKENS, "float32", limit)
        settings = tiny_settings(kind=kind, method=method, epochs=1, **changes)
        models = build_together(encoders["bert"], settings, None, count)
        return train_together(models, tokens, settings, [1e-2, 1e-3][:count]).outcomes

    monkeypatch.setattr(gradients, "forward_together", watched)
    whole, batches = after(10**6), len(sizes)
    parts = after(100)
    assert sum(rows for rows, _ in sizes) == len(tokens)
    assert all(length % gradients.FINEST_STEP == 0 for _, length in sizes)
    if method == "fine_tuning":
        assert len(sizes) == batches
    else:
        assert len(sizes) > batches
        filled = gradients.FINEST_STEP - 1  # tokens, at most
        inseparable = int(samples.sizes.max())
        assert all(rows <= inseparable or count * rows * (length - filled) <= 100 for rows, length in sizes)
    for one, other in zip(whole, parts, strict=True):
        assert_same_weights(other, one, kind)
    if method == "prompt_tuning":
        after(100, micro_batch_size=1000)
        assert len(sizes) == math.ceil(len(samples) / 8)  # a setting says how many


@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("method", ["prompt_tuning", "fine_tuning"])
def test_features_without_a_label_do_not_spoil_the_loss(encoders, method, batch_size):
    """Such as a sentence whose words have no tokens: its mean loss is over nothing."""
    columns = random_columns("tagging", 16)
    columns["labels"] = [[-100] * len(ids) if number % 4 == 0 else ids for number, ids in enumerate(columns["labels"])]
    settings = tiny_settings(kind="tagging", method=method, batch_size=batch_size, epochs=1)
    models = build_together(encoders["bert"], settings, None, 1)
    (outcome,) = train_together(models, in_memory(columns), settings, [1e-3]).outcomes
    assert not outcome.diverged and math.isfinite(outcome.evaluations[0].training_loss)


def test_a_batch_is_processed_in_parts_by_length_where_that_saves_time(encoders, monkeypatch):
    """Texts of 8 and of 48 tokens: two parts have no padding, one part has 42 %."""
    columns = random_columns("classification", 8)
    columns["input_ids"] = [[0, *[7] * (length - 2), 2] for length in (8, 8, 8, 8, 48, 48, 48, 48)]
    settings = tiny_settings(kind="classification", method="fine_tuning", max_length=48)
    models = build_together(encoders["bert"], settings, None, 1)
    computed = gradients.Gradients(in_memory(columns), settings, CPU, frozen=False)
    monkeypatch.setattr(computed, "least_tokens", 16)
    sizes = [(len(part), computed._longest(part)) for part in computed._split(np.arange(8), len(models))]
    assert sizes == [(4, 8), (4, 48)]
    monkeypatch.setattr(computed, "least_tokens", 1000)
    assert len(computed._split(np.arange(8), len(models))) == 1, "many short passes take longer than padding"


def test_batches_on_a_cpu_have_few_lengths_and_little_padding():
    lengths = range(1, 513)
    ends = [-(-length // step) * step for length in lengths for step in [gradients.step_on_cpu(length)]]
    assert all(0 <= end - length < max(2, length / 16) for length, end in zip(lengths, ends, strict=True))
    assert len(set(ends)) == 32 + 16 + 16 + 16  # to 64, 128, 256 and 512
    assert ends == sorted(ends)


# Interruption; tests/test_interruption.py kills whole processes


@pytest.mark.parametrize("rates", [[1e-2], [1e-2, 1e-3]], ids=["one model", "two together"])
@pytest.mark.parametrize("moment", ["between two steps", "during validation"])
@pytest.mark.parametrize("changes", [{}, {"evaluate_every": 2, "keep": "average", "averaged": 3}], ids=["", "average"])
def test_a_stopped_training_resumes_to_the_same_result(encoders, tmp_path, monkeypatch, rates, moment, changes):
    settings = tiny_settings(kind="tagging", epochs=3, dropout=0.1, precision="bfloat16", **changes)
    tokens = random_tokens("tagging", 40)
    loss, calls = tagging.loss, {"loss": 0, "validate": 0}
    asked = {"between two steps": ("loss", 8), "during validation": ("validate", 2 * len(rates))}[moment]

    def count(name: str) -> None:
        calls[name] += 1
        if (name, calls[name]) == asked:
            os.kill(os.getpid(), signal.SIGTERM)

    def counted_loss(*arguments):
        count("loss")
        return loss(*arguments)

    def validate(model: TunedModel) -> Validated:
        count("validate")
        return Validated({"accuracy": 50.0}, model.head[1].weight.detach().square().sum().item())

    def trained() -> TrainingResult:
        models = build_together(encoders["bert"], settings, None, len(rates))
        return train(models, tokens, settings, rates, validate, Checkpoint(tmp_path, "key", every=60), CPU)

    monkeypatch.setattr(tagging, "loss", counted_loss)
    with pytest.raises(Interrupted, match=r"saved after step \d+ of 15"):
        trained()
    assert (tmp_path / ".checkpoint-key.safetensors").exists()
    found = trained()
    (tmp_path / ".checkpoint-key.safetensors").unlink()
    expected = trained()
    assert found.state.step == expected.state.step == 15
    for here, there in zip(found.outcomes, expected.outcomes, strict=True):
        assert equal(here.weights(), there.weights())
        assert (here.lines, here.evaluations) == (there.lines, there.evaluations)


def stopped_and_resumed(
    encoder: Path, settings: TrainingSettings, place: Path, monkeypatch, tried: list[int]
) -> TrainingResult:
    """A training that gets SIGTERM at its third batch and resumes; `tried` receives the sizes of its micro-batches."""
    tokens, loss = random_tokens("tagging", 40), tagging.loss

    def watched_loss(logits, batch):
        tried.append(len(logits))
        if len(logits) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if len(tried) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(logits, batch)

    monkeypatch.setattr(tagging, "loss", watched_loss)
    for _ in range(2):
        models = build_together(encoder, settings, None, 1)
        checkpoint = Checkpoint(place, "key", every=60)
        with contextlib.suppress(Interrupted):
            trained = train(models, tokens, settings, [1e-2], nothing_to_validate, checkpoint, CPU)
    return trained


def test_a_resumed_training_keeps_the_micro_batch_size_that_fitted_into_memory(encoders, tmp_path, monkeypatch):
    tried: list[int] = []
    settings = tiny_settings(kind="tagging", epochs=2, batch_size=16)
    assert stopped_and_resumed(encoders["bert"], settings, tmp_path, monkeypatch, tried).state.step == 6
    assert tried == [16, *[8] * 10]


def test_a_parameter_that_never_has_a_gradient_does_not_prevent_resuming(encoders, tmp_path, monkeypatch):
    """For example an adapter of the pooler, which tagging does not use."""
    settings = tiny_settings(kind="tagging", method="lora", lora_targets=["query", "dense"], epochs=2, batch_size=8)
    trained = stopped_and_resumed(encoders["bert"], settings, tmp_path, monkeypatch, tried=[])
    assert trained.state.step == 10
    assert any("pooler" in name for name in trained.outcomes[0].weights())


# The compiler


def test_without_a_cpp_compiler_the_key_compile_is_refused_in_one_line(encoders, tmp_path):
    """In a process of its own, with its own cache: the compiler caches what it has found."""
    code = (
        "import sys; from pathlib import Path; from workflow_scripts.tuning.model import build;"
        "from tiny import settings; from workflow_scripts.core.errors import UserError\n"
        "try: build(Path(sys.argv[1]), settings(kind='tagging', compile=True), None)\n"
        "except UserError as error: print(error)"
    )
    here = Path(__file__).parent
    variables = {"CXX": "no-such-compiler", "CUDA_VISIBLE_DEVICES": "", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    outcome = subprocess.run(
        [sys.executable, "-c", code, encoders["bert"]],
        env=os.environ | variables | {"PYTHONPATH": f"{here.parent}:{here}"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    (line,) = outcome.stdout.splitlines()
    assert line.startswith("training.compile: PyTorch's compiler needs a C++ compiler and failed (InvalidCxx")
    assert line.endswith("or set compile: false")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_encoder_gives_the_same_logits(encoders):
    tokens = random_tokens("tagging", 12)
    values = []
    for compiled in (False, True):
        (model,) = build_together(encoders["bert"], tiny_settings(kind="tagging", compile=compiled), None, 1)
        values.append(logits(model, tokens, tiny_settings(kind="tagging").precision, CPU))
    for plain, fast in zip(*values, strict=True):
        np.testing.assert_allclose(plain, fast, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_encoder_is_trained_with_other_masks_in_every_step(encoders):
    tokens, settings = random_tokens("tagging", 8), tiny_settings(kind="tagging", dropout=0.1, compile=True)
    models = build_together(encoders["bert"], settings, None, 1)
    models[0].train()
    optimizer = torch.optim.SGD(models[0].tuned_parameters().values(), lr=0.0)
    computed = gradients.Gradients(tokens, settings, CPU, frozen=True)
    losses = [computed.compute(models, [optimizer], [np.arange(8)]).item() for _ in range(4)]
    assert len(set(losses)) == 4
    assert all(parameter.grad is not None for parameter in models[0].tuned_parameters().values())


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_compiled_draw_drops_the_same_share(dtype):
    def draw(values: torch.Tensor) -> torch.Tensor:
        marked = values.clone()
        mark_dropped(marked, 0.1)
        return torch.stack([drop(values, 0.1), 1 + marked])

    dropped = torch.compile(draw)(torch.ones(200_000, dtype=dtype)) == 0
    error = math.sqrt(0.1 * 0.9 / dropped.shape[1])
    np.testing.assert_allclose(dropped.float().mean(1), 0.1, atol=4 * error)


@pytest.mark.parametrize("name", ["..checkpoint-key.safetensors.4711", ".tmpA1b2C3"], ids=["ours", "of safetensors"])
def test_a_partial_checkpoint_of_a_killed_process_is_deleted(tmp_path, name):
    half = tmp_path / name
    half.write_bytes(b"half of 7 GB")
    assert Checkpoint(tmp_path, "key", every=60).load() is None
    assert not half.exists()


def test_checkpoints_can_be_read_by_whom_other_files_can(tmp_path):
    """safetensors makes files that only their owner can read."""
    checkpoint = Checkpoint(tmp_path, "key", every=60)
    checkpoint.save({"x": torch.ones(1)}, {})
    (tmp_path / "other").touch()
    assert checkpoint.path.stat().st_mode == (tmp_path / "other").stat().st_mode
